"""Keyed digests of what was masked: a later stage can tell whether an answer says it, and nobody can guess it back.

The file holds no value, no type and no placeholder, only HMAC-SHA-256 digests (16 bytes each, sorted) under the key of
the pseudonyms, which lives outside of the run. Layout: MAGIC, 8 bytes that name the key, the digests.
"""

import hmac
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from holdfast.core.errors import IntegrityError, KeyFileError
from holdfast.redact.placeholders import default_key_file, read_key
from holdfast.redact.shadow import make_shadow

DIGESTS_FILE = "redacted.bin"
MAGIC = b"holdfast masked1"
NAME_BYTES, DIGEST_BYTES = 8, 16
SHORTEST = 5  # letters and digits; shorter values stand in many texts by chance
LONG_WORD = 16  # from which a word of a longer value gives it away by itself, as the lines of a private key do
FEWEST_DIGITS = 6  # from which a number is compared without its spaces and dashes


class Masked(NamedTuple):
    """What was masked in a run: the digests, and the function that makes the digest of a form."""

    known: Collection[bytes]
    digest: Callable[[str], bytes]

    def holds(self, text: str) -> bool:
        """Was this text masked, in this or another way of writing it?"""
        return any(self.digest(form) in self.known for form in forms(text))


class Memory:
    """Collects the digests while rows are masked."""

    def __init__(self, key_file: Path | None) -> None:
        self.key_file = key_file or default_key_file()
        self._key: bytes | None = None
        self._digests: set[bytes] = set()

    def note(self, value: str) -> None:
        """Keep the digests of one value. Raises KeyFileError when the key cannot be used."""
        if self._key is None:
            self._key = read_key(self.key_file)
        for form in (*forms(value), *_long_words(value)):
            self._digests.add(digest_with(self._key, form))

    def encode(self) -> bytes:
        """The content of DIGESTS_FILE; without digests when nothing was masked."""
        name = bytes(NAME_BYTES) if self._key is None else _name_of(self._key)
        return MAGIC + name + b"".join(sorted(self._digests))


def forms(value: str) -> Iterator[str]:
    """What is compared: the text without disguise, case and outer spaces; a number as its digits alone."""
    plain = " ".join(make_shadow(value).text.casefold().split())
    if sum(character.isalnum() for character in plain) < SHORTEST:
        return
    yield plain
    digits = "".join(character for character in plain if character.isdigit())
    if len(digits) >= FEWEST_DIGITS and not any(character.isalpha() for character in plain) and digits != plain:
        yield digits


def _long_words(value: str) -> Iterator[str]:
    words = value.split()
    for word in words if len(words) > 1 else ():
        if len(word) >= LONG_WORD:
            yield from forms(word)


def digest_with(key: bytes, form: str) -> bytes:
    """The digest of one form."""
    return hmac.digest(key, b"masked\0" + form.encode("utf-8", "surrogatepass"), "sha256")[:DIGEST_BYTES]


def _name_of(key: bytes) -> bytes:
    return hmac.digest(key, b"name of this key", "sha256")[:NAME_BYTES]


def read_masked(path: Path, key_file: Path | None) -> Masked | None:
    """What `collect` masked; None when it masked nothing.

    Raises IntegrityError when the file is damaged, KeyFileError when the key is not the one it was made with.
    """
    data = path.read_bytes()
    begin = len(MAGIC) + NAME_BYTES
    if not data.startswith(MAGIC) or len(data) < begin or (len(data) - begin) % DIGEST_BYTES:
        raise IntegrityError(f"{path} is damaged", hint="holdfast check RUN; holdfast run -c FILE --from collect")
    if len(data) == begin:
        return None
    place = key_file or default_key_file()
    key = read_key(place) if place.exists() else b""
    if _name_of(key) != data[len(MAGIC) : begin]:
        what = "is not the one" if key else "is gone: it is the one"
        raise KeyFileError(
            f"the key {place} {what} that the masked values of this run were noted with, so it cannot be "
            "checked whether answers say them",
            hint="put the key of the machine that collected there, or name it in redact.pseudonym_key_file",
        )
    known = frozenset(data[at : at + DIGEST_BYTES] for at in range(begin, len(data), DIGEST_BYTES))
    return Masked(known, lambda form: digest_with(key, form))
