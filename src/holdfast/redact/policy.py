"""What the operator wants kept and what hidden, compiled once from the `redact` section."""

import difflib
import fnmatch
import ipaddress
import re
from collections.abc import Iterable, Iterator

from holdfast.core.errors import ConfigError
from holdfast.core.redact_config import DenyRule, RedactConfig
from holdfast.redact.spans import TYPES, Span

_TERM_RANK = -1


class Policy:
    """Answers two questions about a value: is its type looked for, and is it to be kept?"""

    def __init__(self, config: RedactConfig) -> None:
        """Raises ConfigError for an unknown type and for an expression that is none."""
        known = TYPES | {rule.type for rule in config.deny}
        for name in config.types:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f", did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
                raise ConfigError(f"redact.types: there is no type {name!r}{meant}")
        self.off = frozenset(name for name, wanted in config.types.items() if not wanted)
        self._literals: set[str] = set()
        self._patterns: list[re.Pattern[str]] = []
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in config.keep:
            self._add_kept(entry)
        self._deny = [(rule.type, compile_deny(rule)) for rule in config.deny]
        self._plain = not config.keep and not self.off

    def _add_kept(self, entry: str) -> None:
        if len(entry) > 2 and entry.startswith("/") and entry.endswith("/"):
            self._patterns.append(_compile(entry[1:-1], "redact.keep"))
            return
        try:
            self._networks.append(ipaddress.ip_network(entry, strict=False))
            return
        except ValueError:
            pass
        if "*" in entry or "?" in entry:
            self._patterns.append(re.compile(fnmatch.translate(entry.casefold()), re.IGNORECASE))
        else:
            self._literals.add(entry.casefold())

    def hides(self, kind: str, value: str) -> bool:
        """Is `value`, found as `kind`, to be masked?"""
        if self._plain:
            return True
        if kind in self.off:
            return False
        plain = value.strip().casefold()
        if plain in self._literals or any(pattern.fullmatch(value.strip()) for pattern in self._patterns):
            return False
        return not (kind == "IP" and self._networks and self._in_kept_network(plain))

    def _in_kept_network(self, value: str) -> bool:
        try:
            address = ipaddress.ip_address(value.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def find_denied(self, text: str, lower: str) -> Iterator[Span]:
        """The operator's own words. They outrank everything else."""
        for kind, pattern in self._deny:
            for match in pattern.finditer(text):
                if match.end() > match.start():
                    yield Span(match.start(), match.end(), kind, _TERM_RANK)

    @property
    def denies(self) -> bool:
        """Are there words of the operator's own?"""
        return bool(self._deny)


def compile_deny(rule: DenyRule) -> re.Pattern[str]:
    """One expression for the words and the pattern of a rule; words match whole and in any case."""
    parts: list[str] = [rf"(?<![A-Za-z0-9]){_alternatives(rule.words)}(?![A-Za-z0-9])"] if rule.words else []
    if rule.pattern:
        _compile(rule.pattern, "redact.deny")
        parts.append(f"(?:{rule.pattern})")
    return _compile("|".join(parts), "redact.deny", re.IGNORECASE)


def _alternatives(words: Iterable[str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return "(?:" + "|".join(re.escape(word) for word in longest_first) + ")"


def _compile(pattern: str, key: str, flags: int = 0) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise ConfigError(f"{key}: {pattern!r} is no regular expression: {error}") from None
