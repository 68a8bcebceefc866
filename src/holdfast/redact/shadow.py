"""A normalised copy of a text for matching, with a map back: what is found in the copy is cut out of the original.

Undone in the copy: full-width and styled characters, foreign decimal digits, odd spaces and dashes, invisible
characters, combining marks, percent-encoding (also doubled), HTML entities, backslash escapes, `[at]` and `[.]`.
"""

import re
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from html import unescape
from typing import NamedTuple

_SPECIAL = re.compile(
    r"""[^\x00-\x7f]
    | %(?:25)*[0-9A-Fa-f]{2}
    | &(?:\#\d{1,7}|\#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});
    | \\+(?:[nrt"'/]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})
    | \s?[\[({]\s?(?:at|AT|@)\s?[\])}]\s?
    | \s?[\[({]\s?(?:dot|DOT|\.)\s?[\])}]\s?
    """,
    re.VERBOSE,
)
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0")
_ESCAPES = {"n": "\n", "r": "\n", "t": "\t", '"': '"', "'": "'", "/": "/"}
_DISGUISE = re.compile(r"[\[({]\s?(?:at|AT|@|dot|DOT|\.)\s?[\])}]")


class Shadow(NamedTuple):
    """The copy. The other fields describe its replaced pieces in order: place in the copy, place in the original."""

    text: str
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    original: tuple[tuple[int, int], ...] = ()

    def locate(self, start: int, end: int) -> tuple[int, int]:
        """The part of the original that `text[start:end]` (not empty) was made from."""
        if not self.starts:
            return start, end
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, position: int) -> tuple[int, int]:
        index = bisect_right(self.starts, position) - 1
        if index < 0:
            return position, position + 1
        if position < self.ends[index]:
            return self.original[index]
        moved = position - self.ends[index] + self.original[index][1]
        return moved, moved + 1


def make_shadow(text: str) -> Shadow:
    """The copy of `text`; plain text is its own copy."""
    plain = text.isascii() and "%" not in text and "&" not in text and "\\" not in text
    if plain and (not ("[" in text or "(" in text or "{" in text) or not _DISGUISE.search(text)):
        return Shadow(text)
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    original: list[tuple[int, int]] = []
    done = length = 0
    for match in _SPECIAL.finditer(text):
        piece = match.group()
        new = _normalise_character(piece) if len(piece) == 1 else _decode(piece)
        if new is None:
            continue
        start, end = match.span()
        parts += (text[done:start], new)
        length += start - done
        starts.append(length)
        length += len(new)
        ends.append(length)
        original.append((start, end))
        done = end
    parts.append(text[done:])
    return Shadow("".join(parts), tuple(starts), tuple(ends), tuple(original))


@lru_cache(maxsize=20_000)
def _normalise_character(character: str) -> str | None:
    """What stands for one non-ASCII character; None when it stays as it is."""
    category = unicodedata.category(character)
    if category in ("Cf", "Mn", "Me") or character in _INVISIBLE:
        return ""
    if category == "Zs" or character in "\u2800\x85":
        return " "
    if category in ("Zl", "Zp"):
        return "\n"
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category == "Pd" or character == "\u2212":
        return "-"
    if character in "。｡․":
        return "."
    if category == "No":  # 10² is no 102
        return None
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain.isascii() and plain != character else None


def _decode(piece: str) -> str | None:
    """What an escape stands for; None when that is no printable ASCII."""
    if piece[0] == "%":
        new = chr(int(piece[-2:], 16))
    elif piece[0] == "&":
        new = unescape(piece)
        if len(new) == 1 and not new.isascii():
            new = _normalise_character(new) or ("" if _normalise_character(new) == "" else new)
    elif piece[0] == "\\":
        kind = piece.lstrip("\\")
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        new = chr(int(kind[1:], 16))
        if not new.isascii():
            new = _normalise_character(new) or ("" if _normalise_character(new) == "" else new)
    else:
        return "@" if "a" in piece.lower() or "@" in piece else "."
    if new == "":
        return ""
    return new if new.isascii() and (new.isprintable() or new in "\t\n\r") else None
