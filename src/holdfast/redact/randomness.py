"""Does a piece of text look generated rather than written?"""

import base64
import binascii
import math
import re
from collections import Counter

_WORDY = re.compile(r"[A-Za-z]{0,20}(?:[-_/][A-Za-z]{0,20})*\d{0,4}(?:[-_/][A-Za-z]{1,20}|[-_]\d{1,4})*")


def looks_random(value: str) -> bool:
    """Enough digits, letters and entropy for a generated secret; words joined by dashes and paths are not."""
    if _WORDY.fullmatch(value) or value.count("/") > 2 and entropy(value) < 4.2:
        return False
    digits = sum(character.isdigit() for character in value)
    if digits == len(value) or not any(character.isalpha() for character in value):
        return False
    return entropy(value) >= 3.0 and (digits >= 2 or classes(value) == 3 or entropy(value) >= 4.2)


def entropy(value: str) -> float:
    """Shannon entropy, in bits a character."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def classes(value: str) -> int:
    """How many of small letters, capitals and digits there are."""
    return sum((any(c.islower() for c in value), any(c.isupper() for c in value), any(c.isdigit() for c in value)))


def mixed(value: str) -> bool:
    """A letter and something that prose does not have inside a word: a digit, or a sign other than - and '."""
    if not any(character.isalpha() for character in value):
        return sum(character.isdigit() for character in value) > 3 and not value.isdigit()
    return any(character.isdigit() or character in "!@#$%^&*+=?~_|\\" for character in value)


def is_basic(value: str) -> bool:
    """Base64 of `user:password`?"""
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False
