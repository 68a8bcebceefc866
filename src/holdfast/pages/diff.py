"""Two answers side by side, word by word: what is only in the given one, and what it lacks."""

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.core.visible import shorten

LIMIT = 1500  # characters of each answer that are compared
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


class Piece(NamedTuple):
    """A run of text. kind: "same", "added" (only in the given answer) or "missing" (only in the expected one)."""

    text: str
    kind: str


def compare_words(expected: str, given: str) -> list[Piece]:
    """How `given` differs from `expected`; joined without the missing pieces it is `given` again (up to LIMIT)."""
    return list(_pieces(_WORDS.findall(shorten(expected, LIMIT)), _WORDS.findall(shorten(given, LIMIT))))


def _pieces(expected: list[str], given: list[str]) -> Iterator[Piece]:
    matcher = difflib.SequenceMatcher(None, expected, given, autojunk=False)
    if matcher.quick_ratio() < 0.3:  # nothing in common: two whole texts are easier to read than shreds
        yield from (Piece("".join(words), kind) for words, kind in ((expected, "missing"), (given, "added")) if words)
        return
    for name, a, b, c, d in matcher.get_opcodes():
        if name == "equal":
            yield Piece("".join(given[c:d]), "same")
            continue
        if b > a:
            yield Piece("".join(expected[a:b]), "missing")
        if d > c:
            yield Piece("".join(given[c:d]), "added")
