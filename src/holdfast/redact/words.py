"""Expressions for lists of words that pass most places of a text with one comparison."""

import re
from collections.abc import Iterable


def one_of(words: Iterable[str]) -> re.Pattern[str]:
    """Any of the words (plain text, lower case), anywhere; of two that begin alike the shorter may be found."""
    by_letter: dict[str, list[str]] = {}
    for word in sorted(set(words)):
        by_letter.setdefault(word[0], []).append(re.escape(word[1:]))
    firsts = "".join(re.escape(letter) for letter in by_letter)
    branches = "|".join(f"{re.escape(letter)}(?:{'|'.join(rest)})" for letter, rest in by_letter.items())
    return re.compile(f"(?=[{firsts}])(?:{branches})")
