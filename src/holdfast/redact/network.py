"""E-mail addresses, IP and MAC addresses, host names by rule."""

import re
import socket
from collections.abc import Iterator

from holdfast.redact.spans import RANKS, Span

_LOCAL = re.compile(r"[\w.+%'!~&*-]*[\w+~-]\Z|\"[^\"\n]{1,40}\"\Z")
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+(?P<top>[^\W\d_][\w-]{0,22}[^\W_])(?![\w-])|\[?(?:\d{1,3}\.){3}\d{1,3}\]?",
    re.ASCII,
)
_IDN = re.compile(r"(?:[^\W_][\w-]{0,62}\.)+(?P<top>[^\W\d_]{2,24})")
# What stands behind an @ in unit names, file names and package names, never behind that of an address.
_NO_TOP = re.compile(
    r"automount|conf|css|device|gif|gz|html|jpeg|jpg|js|json|log|md|mount|path|png|py|scope|service|sh|"
    r"slice|socket|svg|swap|target|tgz|timer|ts|txt|webp|yaml|yml|zip"
)
# Patterns begin with a character and then look behind it: a search for a character is much faster.
_IPV4 = re.compile(r"\d(?<![\d.]\d)\d{0,2}(?:\.\d{1,3}){3}(?!\d|\.\d)")
_KEPT_IPV4 = frozenset(("127.0.0.1", "0.0.0.0", "255.255.255.255"))  # noqa: S104 (compared, not bound)
_VERSION_WORD = re.compile(
    r"(?:version|release|firmware|build|upgraded?(?: to| from)?|package|\bver|\bv|\br|\brel|-)[ :=/]{0,3}$"
    r"|[a-z]-$|==$|>=$|~=$"
)
_VERSION_TAIL = re.compile(r"[-~+](?:\d|[a-z])|(?:a|b|rc|p|dev|post|beta|alpha|el|ubuntu|deb)\d|_[a-z]")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})(?![\w:]|\.\d)")
_MAC = re.compile(
    r"(?<![0-9A-Fa-f:.-])(?:[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}"
    r"|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4})"
    r"(?![0-9A-Fa-f]|[:-][0-9A-Fa-f]{2}(?![0-9A-Fa-f]))"
)
_MAC_PART = re.compile(r"-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-|\.[0-9A-Fa-f]{4}\.")
_PRIVATE_TOP = (
    r"internal|intern|local|localdomain|lan|corp|intra|intranet|private|home|arpa|cluster|svc|onion|test|example"
    r"|invalid|consul|prod|stage|staging|ad|dmz|mgmt"
)
_GENERIC_TOP = (
    r"com|net|org|edu|gov|mil|biz|int|cloud|online|site|tech|xyz|shop|store|network|systems|hosting|solutions"
    r"|digital|email|aero|museum|jobs|mobi|tel|travel"
)
_TWO_LETTER = (
    r"a[cdefgilmoqrtuwxz]|b[abdefghijmnorstvwyz]|c[acdfghiklmnoruvwxyz]|d[ejkmoz]|e[cegrstu]|f[ijkmor]"
    r"|g[abdefghilmnpqrstuwy]|"
    r"h[kmnrtu]|i[delmnoqrst]|j[emop]|k[eghimnprwyz]|l[abcikrstuvy]|m[acdeghklmnopqrstuvwxyz]"
    r"|n[acefgilopruz]|om|p[aefghklmnrstwy]|"
    r"qa|r[eosuw]|s[abcdegiklmnorstvxyz]|t[cdfghjklmnortvwz]|u[agksyz]|v[aceginu]|w[fs]|y[et]|z[amw]"
)
_HOST_TOP = re.compile(rf"\.(?:{_PRIVATE_TOP}|{_GENERIC_TOP}|dev|app|info|name|pro|{_TWO_LETTER})(?![a-z0-9_])")
_HOST = re.compile(
    r"(?<![\w.@/\\-])(?:[A-Za-z0-9_](?:[\w-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{1,22}(?![\w-]|\.\w|\()"
)
_URL_HOST = re.compile(
    r"(?<![a-z0-9])(?:[a-z][a-z0-9+.-]{1,20}:)?//(?:[^\s/@<>\"']{0,200}@)?(?P<v>[\w-]+(?:\.[\w-]+)*\.[a-z][\w-]{1,22})(?![\w-]|\.\w)",
    re.IGNORECASE,
)
_PRIVATE = re.compile(rf"(?:{_PRIVATE_TOP})\Z", re.IGNORECASE)
_GENERIC = re.compile(rf"(?:{_GENERIC_TOP})\Z", re.IGNORECASE)
_SERVICE_TOP = re.compile(rf"(?:dev|app|info|name|pro|{_TWO_LETTER})\Z")
_PATH_TOPS = re.compile(
    r"ai|am|app|as|at|be|cc|cs|dev|do|go|gz|hs|id|in|info|io|is|md|me|mk|ml|mm|my|name|nc|no|pl|pm|pro|ps|"
    r"py|rs|sh|so|st|tf|to|ts"
)
_SSH_HOST = re.compile(r"(?<=@)(?P<v>[\w-]+(?:\.[\w-]+)+)(?=:)")


def find_emails(text: str) -> Iterator[Span]:
    """Addresses with any top-level domain, `.internal` included, or an IP address in square brackets."""
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1) or (None if text.isascii() else _IDN.match(text, at + 1))
        if domain is not None and not _NO_TOP.fullmatch((domain["top"] or "").lower()):
            local = _LOCAL.search(text, max(0, at - 64), at)
            if local is not None:
                start = local.start()
                while start < at and text[start] in ".'!*&-":
                    start += 1
                name = text[start:at]
                if start < at and not (name == "git" and text[domain.end() : domain.end() + 1] in (":", "/")):
                    yield Span(start, domain.end(), "EMAIL", RANKS["EMAIL"])
        at = text.find("@", at + 1)


def find_addresses(text: str, lower: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses (not loopback, broadcast, netmasks, version numbers) and MAC addresses."""
    rank = RANKS["IP"]
    if text.count(".") > 2:
        for match in _IPV4.finditer(text):
            if _is_ipv4(match.group(), lower, match.start(), match.end()):
                yield Span(match.start(), match.end(), "IP", rank)
    colons = text.count(":")
    if colons > 5 or "::" in text:  # fewer colons are a time, or text
        for match in _IPV6.finditer(text):
            if _is_ipv6(match.group()):
                yield Span(match.start(), match.end(), "IP", rank)
    if colons > 4 or (text.count("-") > 4 or text.count(".") > 1) and _MAC_PART.search(text):
        for match in _MAC.finditer(text):
            plain = re.sub(r"[:.-]", "", match.group()).lower()
            if len(set(plain)) > 1:
                yield Span(match.start(), match.end(), "MAC", RANKS["MAC"])


def _is_ipv4(address: str, lower: str, start: int, end: int) -> bool:
    parts = address.split(".")
    if any(int(part) > 255 or len(part) > 1 and part[0] == "0" for part in parts):
        return False
    if address in _KEPT_IPV4 or address.startswith("255.255."):
        return False
    if _VERSION_WORD.search(lower, max(0, start - 20), start):
        return False
    tail = _VERSION_TAIL.match(lower, end)
    return tail is None or tail.group()[0] == "-" and _IPV4.match(lower, end + 1) is not None


def _is_ipv6(address: str) -> bool:
    if address in ("::", "::1") or not any(character.isdigit() for character in address):
        return False
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return False
    return sum(character != ":" for character in address) > 3 or address.count(":") > 2


def find_hosts(text: str, lower: str) -> Iterator[Span]:
    """Fully qualified names: in URLs, with a private suffix, with a public one unless it looks like a file or code."""
    rank = RANKS["HOST"]
    if "//" in text:
        for match in _URL_HOST.finditer(text):
            yield Span(*match.span("v"), "HOST", rank)
    if "git@" in lower:
        for match in _SSH_HOST.finditer(text):
            yield Span(*match.span("v"), "HOST", rank)
    if not _HOST_TOP.search(lower):
        return
    for match in _HOST.finditer(text):
        name = match.group()
        if is_host(name):
            yield Span(match.start(), match.end(), "HOST", rank)


def is_host(name: str) -> bool:
    """Does a dotted name look like a host rather than a file, a module or a sentence without a space?"""
    labels = name.split(".")
    top = labels[-1]
    if (
        any(label.startswith("_") for label in labels)
        or all(len(label) == 1 for label in labels[:-1])
        and len(labels) > 2
    ):
        return False
    if _PRIVATE.fullmatch(top):
        return (
            len(labels) > 2
            or top.lower() in ("internal", "local", "lan", "corp", "localdomain", "intranet", "onion")
            and name.islower()
        )
    if _GENERIC.fullmatch(top):
        return len(labels) > 2 or top.lower() in ("com", "net", "org", "edu", "gov", "biz") and labels[0][:1].isalnum()
    if not _SERVICE_TOP.fullmatch(top) or "_" in name:
        return False
    if len(labels) == 2:
        return not _PATH_TOPS.fullmatch(top) and name.islower() and len(labels[0]) > 3 and len(top) == 2
    return (
        top not in ("py", "sh", "rs", "md", "so", "gz", "info", "name")
        and name == lowered(name)
        and not labels[0].isdigit()
    )


def lowered(name: str) -> str:
    """`name` in lower case."""
    return name.lower()
