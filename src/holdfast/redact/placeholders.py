"""What stands in the place of a value: `<HOST_3>` in order of appearance, `<ACCOUNT_…>` by a keyed digest.

Values are not kept: the numbers are looked up by a digest whose key lives as long as the process.
"""

import hashlib
import hmac
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from holdfast.core.errors import KeyFileError
from holdfast.redact.shadow import make_shadow

PLACEHOLDER = re.compile(r"<([A-Z][A-Z0-9_]{1,30})_(\d{1,9}|[g-p]{16})>")
PSEUDONYMS = frozenset(("ACCOUNT", "IBAN"))
_NUMBERS = frozenset(("ACCOUNT", "CARD", "IBAN", "NATIONAL_ID", "PHONE", "ROUTING", "MAC"))
_SEPARATORS = {code: None for code in range(128) if not chr(code).isalnum()}
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_KEY_BYTES = 32


class Placeholders:
    """Gives out placeholders; the same value of the same type always gets the same one."""

    def __init__(self, key_file: Path | None = None, note: Callable[[str], None] | None = None) -> None:
        """note: called with every new value (and with each account number)."""
        self.key_file = key_file
        self._note = note
        self._key: bytes | None = None
        self._session = os.urandom(_KEY_BYTES)
        self._numbers: dict[bytes, int] = {}
        self._last: Counter[str] = Counter()

    def reserve(self, text: str) -> None:
        """Numbers that stand in a source already are not given out again."""
        for kind, number in PLACEHOLDER.findall(text):
            if number.isdigit():
                self._last[kind] = max(self._last[kind], int(number))

    def make(self, kind: str, value: str) -> str:
        """The placeholder of one value. Raises KeyFileError when the key of the pseudonyms cannot be used."""
        plain = _normalise(kind, value)
        if kind in PSEUDONYMS:
            if self._note is not None:
                self._note(value)
            return f"<{kind}_{self.pseudonym(plain)}>"
        digest = hashlib.blake2b(f"{kind}\0{plain}".encode("utf-8", "surrogatepass"), key=self._session, digest_size=12)
        number = self._numbers.get(digest.digest())
        if number is None:
            if self._note is not None:
                self._note(value)
            self._last[kind] += 1
            number = self._numbers[digest.digest()] = self._last[kind]
        return f"<{kind}_{number}>"

    def pseudonym(self, plain: str) -> str:
        """HMAC-SHA-256 of the value, as 16 letters from g to p: no later pass can take it for a number or a digest."""
        if self._key is None:
            self._key = read_key(self.key_file or default_key_file())
        number = int.from_bytes(hmac.digest(self._key, plain.encode(), "sha256")[:8], "big") % 10**16
        return f"{number:016}".translate(_LETTERS)


def _normalise(kind: str, value: str) -> str:
    plain = make_shadow(value).text
    if kind in _NUMBERS:
        return plain.translate(_SEPARATORS).upper()
    return plain.strip().casefold() if kind in ("EMAIL", "HOST", "IP") else plain


def default_key_file() -> Path:
    """Where the key of the pseudonyms lives when the configuration names no file: in the user's own folder."""
    folder = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "holdfast" / "pseudonym.key"


def read_key(path: Path) -> bytes:
    """The key, made once (32 random bytes as hex, readable by its owner alone).

    Raises KeyFileError when others may read the file, or it is no key.
    """
    if not path.exists():
        _write_key(path)
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except (OSError, ValueError):
        raise KeyFileError(f"{path} is no key: expected 64 hexadecimal digits", _hint(path)) from None
    if mode & 0o077:
        raise KeyFileError(f"{path} may be read by others (mode {mode:o}, limit 600)", f"chmod 600 {path}")
    if len(key) < _KEY_BYTES:
        raise KeyFileError(f"{path} holds {len(key)} bytes, at least {_KEY_BYTES} are needed", _hint(path))
    return key


def _write_key(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(os.urandom(_KEY_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return  # another process was faster
    except OSError as error:
        raise KeyFileError(
            f"{path}: the key of the pseudonyms cannot be written: {error.strerror}", _hint(path)
        ) from None


def _hint(path: Path) -> str:
    return f"name another file in redact.pseudonym_key_file, or remove {path} to have a new key made"
