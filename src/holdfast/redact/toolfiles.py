"""Secrets that only the file of a tool gives away: .netrc, Kubernetes Secrets, Terraform state, Ansible vaults, crypt
hashes, router configurations, connection strings, XML, keys and JWTs that a line break or Base64 hides.

Forms are those that the tools document: crypt(5), netrc(5), RFC 7468 and 7515 (whose signatures have fixed lengths).
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.redact.credentials import is_placeholder
from holdfast.redact.randomness import mixed
from holdfast.redact.spans import RANKS, Span

_WORD = r"[\w.:-]{0,60}(?:(?P<strong>password|passwd|pwd|passphrase)|secret|token|api[_-]?key)"
_BREAK = r"[ \t]{0,8}\r?\n[ \t>]{0,8}"


class Form(NamedTuple):
    """`anchor`, in lower case, stands in every match. The group `v` is the value; with a group `strong`, values of
    names without that group must be mixed."""

    type: str
    anchor: str
    pattern: re.Pattern[str]


def _form(kind: str, anchor: str, pattern: str) -> Form:
    return Form(kind, anchor, re.compile(pattern, re.IGNORECASE))


FORMS = (
    _form("SECRET", "$ansible_vault;",
          r"\$ANSIBLE_VAULT;[\d.]+;AES\d*(?:;[\w.-]+)?(?P<v>(?:\s{1,40}[0-9a-f]{2,80}(?!\S))+)"),
    _form("PASSWORD", "password",
          r"(?:machine\s{1,9}\S{1,200}|\bdefault)\s{1,9}login\s{1,9}\S{1,100}\s{1,9}password\s{1,9}("
          r"?P<v>\S{1,200})"),
    _form("SECRET", "$",
          r"(?<![\w$])(?P<v>\$(?:[15679]|2[abxy]|8|y|gy|7|apr1|argon2(?:id|i|d))\$[\w./=,$+]{20,400})"),
    _form("SECRET", "eyjhdxrocyi", r"(?<![A-Za-z0-9+/])(?P<v>eyJhdXRocyI[A-Za-z0-9+/]{20,}={0,2})"),
    _form("PASSWORD", "</", rf"<{_WORD}>\s{{0,9}}(?P<v>[^<>\s]{{3,200}})\s{{0,9}}</"),
    _form("PASSWORD", "value",
          rf"""(?:name|key)["']?\s{{0,3}}[:=]\s{{0,3}}["']?{_WORD}["']?,?\s{{1,20}}["']?value["']?\s{{0"""
          rf""",3}}[:=]\s{{0,3}}["']?(?P<v>[^\s"'<>,}}]{{3,200}})"""""),
    _form("PASSWORD", '"value"',
          rf"""["']{_WORD}["']\s{{0,3}}[:=]\s{{0,3}}\{{\s{{0,20}}["']value["']\s{{0,3}}:\s{{0,3}}["'](?"""
          rf"""P<v>[^"'\n]{{3,200}})["']"""""),
    _form("SECRET", '"sensitive"',
          r'"value"\s{0,3}:\s{0,3}"(?P<v>[^"\n]{3,400})"[^{}]{0,120}?"sensitive"\s{0,3}:\s{0,3}true'),
    _form("SECRET", '"sensitive"',
          r'"sensitive"\s{0,3}:\s{0,3}true[^{}]{0,120}?"value"\s{0,3}:\s{0,3}"(?P<v>[^"\n]{3,400})"'),
    _form("PASSWORD", "random_password",
          r'"random_password"[^\0]{0,900}?"result"\s{0,3}:\s{0,3}"(?P<v>[^"\n]{3,200})"'),
    _form("PASSWORD", "variable",
          rf"""variable\s{{1,4}}["']{_WORD}["']\s{{0,4}}\{{[^{{}}]{{0,300}}?"""
          rf"""default\s{{0,9}}=\s{{0,4}}["'](?P<v>[^"'\n]{{3,200}})["']"""),
    _form("PASSWORD", "jdbc:oracle", r"jdbc:oracle:\w{2,5}:[^/\s:@]{1,60}/(?P<v>[^\s@\"']{3,100})@"),
    _form("PASSWORD", "@", r"(?<![\w/])[\w.-]{1,60}:(?P<v>[^\s:@/\"'`]{3,100})@(?:tcp|unix)\("),
    _form("PASSWORD", " 7 ", r"(?:password|secret|key)\s7\s(?P<v>(?=[A-F]{0,9}\d)[0-9A-F]{8,80})(?!\w)"),
    _form("PASSWORD", "snmp-server community", r"snmp-server community (?P<v>\S{3,60})"),
    _form("PASSWORD", ":543",
          r"(?<![^\s'\"])[^\s:]{1,200}:543\d:[^\s:]{1,60}:[^\s:]{1,60}:(?P<v>[^\s:'\"]{4,100})(?=['"
          r"\"]?(?:\s|\Z))"),
    _form("PASSWORD", "chpasswd",
          r"echo\s{1,3}[\"']?[\w.-]{1,40}:(?P<v>[^\s\"'|]{3,100})[\"']?\s{0,3}\|\s{0,3}(?:sudo\s)?ch"
          r"passwd"),
    _form("SECRET", "token", r"token\S{0,3}\s{1,3}[\"']?(?P<v>[a-z0-9]{6}\.(?=[a-z]{0,15}\d)[a-z0-9]{16})(?![\w.-])"),
    _form("API_KEY", "swmtkn-1-", r"(?P<v>SWMTKN-1-[0-9a-z]{40,60}-[0-9a-z]{20,40})"),
    _form("API_KEY", "nral", r"(?<!\w)(?P<v>(?:[a-z]{2}\d\dxx)?[0-9a-f]{26,40}(?:F{4})?NRAL)(?!\w)"),
    _form("API_KEY", "hc-ping.com/", r"hc-ping\.com/(?P<v>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"),
    _form("API_KEY", "/integrations/v1/", r"/integrations/v1/\w{3,40}/(?P<v>[A-Za-z0-9]{20,})"),
    _form("API_KEY", "/webhooks/", r"/api/v\d{1,2}/webhooks/\d{15,}/(?P<v>[\w-]{30,})"),
    _form("MAC", "mac",
          r"(?<!\w)mac(?:[ _-]?addr(?:ess)?)?[\"']?\s{0,2}[:=]?\s{0,2}[\"']?(?P<v>(?=[a-f]{0,11}\d|"
          r"\d{0,11}[a-f])[0-9a-f]{12})(?!\w)"),
)  # fmt: skip

# The forms by a piece of text that several of them need: most texts lack most of these.
_SIGNS = {
    "</": "<", '"value"': '"', '"sensitive"': '"', "random_password": '"', "$": "$", "$ansible_vault;": "$",
    "/integrations/v1/": "://", "hc-ping.com/": "://", "/webhooks/": "://", "eyjhdxrocyi": "eyj",
    "chpasswd": "passw", "password": "passw",
}  # fmt: skip
_BY_SIGN = {
    sign: tuple(form for form in FORMS if _SIGNS.get(form.anchor, form.anchor) == sign)
    for sign in dict.fromkeys(_SIGNS.get(form.anchor, form.anchor) for form in FORMS)
}
_ENCODED_PEM = re.compile(
    r"(?<![A-Za-z0-9+/])LS0tLS1CRUdJTi[A-Za-z0-9+/]{10,}(?:\s{1,20}[A-Za-z0-9+/]{40,})*(?:\s{1,20}[A-Za-z0-9+/]{1,76}={1,2}|={0,2})"
)
_PEM_BODY = re.compile(
    r"(?<![A-Za-z0-9+/])MII[A-Za-z0-9+/]{3}IBA[A-Za-z0-9+/]{40,}(?:[\s\"',+>|]{1,24}[A-Za-z0-9+/]{60,76})*"
    r"(?:[\s\"',+>|]{1,24}[A-Za-z0-9+/]{2,76}={1,2}|={0,2})"
)
_BROKEN_JWT = re.compile(
    rf"(?<![A-Za-z0-9])eyJ[\w-]{{6,}}(?:{_BREAK}[\w-]{{2,}})*\.(?:{_BREAK})?eyJ[\w-]{{4,}}(?:{_BREAK}[\w-]{{2,}})*"
    rf"\.(?:{_BREAK})?(?P<signature>[\w-]{{8,}})"
)
_NEXT_LINE = re.compile(rf"{_BREAK}(?P<part>[\w-]+)")
_SIGNATURES = frozenset((43, 64, 86, 128, 171, 176, 342, 512, 683))  # of HS, ES, RS and PS in Base64 without padding
_SECRET_KIND = re.compile(r"^[ \t]*[\"']?kind[\"']?:\s{0,3}[\"']?Secret\b", re.MULTILINE)
_DATA = re.compile(
    r"^(?P<in>[ \t]*)(?:data|stringData):[ \t]*\n(?P<block>(?:(?P=in)[ \t]+\S[^\n]*(?:\n|\Z))+)", re.MULTILINE
)
_PAIR = re.compile(r"^[ \t]+[\"']?[\w./-]+[\"']?:[ \t]+[\"']?(?P<v>[^\s\"'|>][^\n\"']*)", re.MULTILINE)


def find_in_tool_files(text: str, lower: str, has_runs: bool) -> Iterator[Span]:
    """Secrets in the files of tools; `lower` is `text` in lower case. has_runs: does it hold a long random word?"""
    for sign, forms in _BY_SIGN.items():
        if sign in lower:
            for kind, anchor, pattern in forms:
                if anchor in lower:
                    yield from _matches(kind, pattern, text)
    if has_runs:
        yield from _long_words(text, lower)
    if "\n" in text:
        if "eyj" in lower:
            for match in _BROKEN_JWT.finditer(text):
                yield Span(match.start(), _end_of_signature(text, match), "JWT", RANKS["JWT"])
        if "data:" in lower and "secret" in lower and _SECRET_KIND.search(text):
            yield from _kubernetes_values(text)


def _long_words(text: str, lower: str) -> Iterator[Span]:
    """Private keys in Base64 or between quotes."""
    if "ls0tls1crudjti" in lower:
        for match in _ENCODED_PEM.finditer(text):
            if b"PRIVATE KEY" in b64decode(match.group()[: len(match.group()) & ~3][:40]):
                yield Span(*match.span(), "PRIVATE_KEY", RANKS["PRIVATE_KEY"])
    if "mii" in lower:
        for match in _PEM_BODY.finditer(text):
            yield Span(*match.span(), "PRIVATE_KEY", RANKS["PRIVATE_KEY"])


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    for match in pattern.finditer(text):
        start, end = match.span("v")
        value = match["v"].strip()
        start += len(match["v"]) - len(match["v"].lstrip())
        if kind == "PASSWORD" and is_placeholder(value):
            continue
        if "strong" in pattern.groupindex and not match["strong"] and not (len(value) > 5 and mixed(value)):
            continue
        yield Span(start, end, kind, RANKS[kind])


def _end_of_signature(text: str, match: re.Match[str]) -> int:
    """Where the token ends: lines that follow belong to it when the signature then has one of its lengths."""
    size, end = len(match["signature"]), match.end()
    while size not in _SIGNATURES and (line := _NEXT_LINE.match(text, end)):
        size, end = size + len(line["part"]), line.end()
    return end if size in _SIGNATURES else match.end()


def _kubernetes_values(text: str) -> Iterator[Span]:
    """Every value of the data of a Secret, whatever it is called."""
    for block in _DATA.finditer(text):
        for pair in _PAIR.finditer(text, *block.span("block")):
            value = pair["v"].rstrip()
            if not is_placeholder(value):
                yield Span(pair.start("v"), pair.start("v") + len(value), "SECRET", RANKS["SECRET"])
