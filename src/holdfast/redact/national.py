"""Find national identity, tax, social-insurance and health numbers: by form and check digits, or behind a word."""

import re
from collections.abc import Iterator

from holdfast.redact.national_kinds import KINDS, Kind
from holdfast.redact.spans import RANKS, Span
from holdfast.redact.words import one_of

BY_SHAPE = tuple(kind for kind in KINDS if not kind.words)
BY_WORD = tuple(kind for kind in KINDS if kind.words)
_BY_TOKEN: dict[str, tuple[Kind, ...]] = {}
for _known in BY_SHAPE:
    for _shape in _known.shapes:
        if " " not in _shape:
            _BY_TOKEN[_shape] = (*_BY_TOKEN.get(_shape, ()), _known)
_SPACED = tuple((shape, kind) for kind in BY_SHAPE for shape in kind.shapes if " " in shape)
_ALL_WORDS = {word for kind in BY_WORD for word in kind.words}
_ANY_WORD = one_of(_ALL_WORDS)
# A word may hide behind a shorter one that it begins with: both call the kinds of either.
_BY_WORD = {
    word: tuple(kind for kind in BY_WORD if any(own.startswith(word) for own in kind.words)) for word in _ALL_WORDS
}
# Where a number of KINDS may begin: a letter or digit at a border, with a digit soon after.
_STARTS = re.compile(r"(?<![A-Za-z0-9.])(?<![A-Za-z0-9]-)[A-Za-z0-9](?:(?<=\d)|(?=.{0,12}\d))", re.DOTALL)
REACH = 48  # characters before a number in which a word counts
LONGEST_WORD = max(map(len, _ALL_WORDS))
_GROUPS = re.compile(r"\d(?<![\d.:]\d)[\d .\-/]{4,}")
LETTERED = re.compile(r"(?<![\w-])[A-Za-z]{1,3}[ -]?\d\d[ -]?\d\d[ -]?\d\d")  # AB123456: passports, licences
_OUTLINE = {
    code: "0" if chr(code).isdigit() else "A" if chr(code).isalpha() else " "
    for code in range(128)
    if chr(code) not in ".-/+\n"
}


def outline(text: str) -> str:
    """Digits as 0, letters as A, the signs . - / + as they are, others as spaces; a line feed at the end."""
    return text.translate(_OUTLINE) + "\n"


def find_by_shape(text: str, lower: str, shape: str, parts: list[str]) -> Iterator[Span]:
    """Numbers that their form and check digits tell; `shape` is the outline of the text, `parts` its words."""
    for token in parts:
        if len(token) > 8:
            for piece in (token, *token.split("/")) if "/" in token else (token,):
                for kind in _BY_TOKEN.get(piece.strip(".-/+"), ()):
                    yield from _matches(kind, text, lower)
    if "000-00-0000" in shape:
        yield from _matches(KINDS[0], text, lower)
    if "0 0" in shape or "A 0" in shape or "0 A" in shape:
        for gate, kind in _SPACED:
            if gate in shape:
                yield from _matches(kind, text, lower)


def find_by_word(text: str, lower: str) -> Iterator[Span]:
    """Numbers with a weak checksum or none, behind a word that names them."""
    before: list[str] = []
    done = 0
    for match in _GROUPS.finditer(text):
        start = match.start()
        before += (" ", lower[max(done, start - REACH) : start])
        done = max(0, start - LONGEST_WORD)
    words = set(_ANY_WORD.findall("".join(before)))
    if not words:
        return
    starts = [match.start() for match in _STARTS.finditer(text)]
    for kind in dict.fromkeys(kind for word in words for kind in _BY_WORD[word]):
        end = 0
        for start in starts:
            if start < end:
                continue
            found = kind.pattern.match(text, start)
            if found is not None:
                end = found.end()
                yield from _judge(kind, found, lower)


def _matches(kind: Kind, text: str, lower: str) -> Iterator[Span]:
    for match in kind.pattern.finditer(text):
        yield from _judge(kind, match, lower)


def _judge(kind: Kind, match: re.Match[str], lower: str) -> Iterator[Span]:
    start = match.start()
    if kind.words:
        before = f" {lower[max(0, start - REACH) : start]}"
        if not any(word in before for word in kind.words):
            return
    plain = match.group() if kind.country == "FI" else "".join(c for c in match.group() if c.isalnum())
    if plain.isascii() and kind.check(plain):
        yield Span(start, match.end(), "NATIONAL_ID", RANKS["NATIONAL_ID"])
