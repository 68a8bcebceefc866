"""Known words as a feature of the network: spaCy's `lexeme_norm` table maps a known name to its class.

The embedding of NORM then stands for "a known first name" or "a known product" instead of one word, which takes no time
at run time, and names can be added without new training. Coined names in the training text keep the network from
relying on it.
"""

from __future__ import annotations

import re

from fillers import products
from people import Names, Pool, plain

WORD = re.compile(r"[^\W\d_][\w'’.\-]*")
TABLE = "lexeme_norm"


def common_words(texts: tuple[str, ...]) -> set[str]:
    """Words that stand in lower case in ordinary text: as names they are doubtful."""
    return {word for text in texts for word in re.findall(r"\b[a-z]{2,}\b", text)}


def known(source: Pool, names: Names, common: set[str]) -> dict[str, str]:
    """Spelling to class; a class is the letters of the lists that hold the word, and `c` when it is a common word."""
    places = [place for place in source.place if " " not in place] + source.real_place
    lists = {
        "f": source.first, "l": source.last, "g": places, "p": products(), "o": names.parts["real"],
        "t": names.parts["trade"], "x": names.parts["form"],
    }  # fmt: skip
    classes: dict[str, set[str]] = {}
    for letter, entries in lists.items():
        for entry in entries:
            words = WORD.findall(entry)
            if letter == "g" and len(words) > 2:
                continue
            for word in words:
                if len(word) > 1 and (word[0].isupper() or letter == "p"):
                    classes.setdefault(word, set()).add(letter)
    table: dict[str, str] = {}
    for word, letters in classes.items():
        doubtful = word.lower() in common
        norm = "§" + "".join(sorted(letters)) + ("c" if doubtful else "")
        spellings = {word, plain(word)} | (
            set() if doubtful or letters & {"t", "x"} or len(word) < 4 else {word.lower(), word.upper()}
        )
        for spelling in sorted(spellings):
            table.setdefault(spelling, norm)
    return table
