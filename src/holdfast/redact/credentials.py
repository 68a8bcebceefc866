"""Credentials that only their surroundings tell: `key=value`, flags, headers, URLs, random text by a secret word."""

import re
from collections.abc import Iterator

from holdfast.redact.randomness import classes, entropy, is_basic, looks_random, mixed
from holdfast.redact.spans import RANKS, Span

_PASSWORD, _SECRET = RANKS["PASSWORD"], RANKS["SECRET"]

# A text without one of these words (in lower case) holds no credential that this module could tell.
WORDS = (
    "pass", "pwd", "pw", "secret", "token", "key", "credential", "auth", "bearer", "cookie", "sess", "signature",
    "login", "kennwort", "contrase", "haslo", "hasło", "senha", "wachtwoord", "lösenord", "parola", "parool",
    "salasana", "heslo", "pin", "mysql", "curl", "otp", "2fa", "cvv", "cvc", "psk", "salt", "ldap", "パスワード",
    "creds", "redis-cli", "identified", "mariadb", "logged in", "mot de",
)  # fmt: skip
_SIGNS = (":", "=", "->", " is ", " was ", " to ", " ist ", " lautet ", " est ", "',", '",')
_STRONG = re.compile(
    r"pass(?:word|wd|phrase|code|wort|wrd)?|pwd|pw|kennwort|contrase[ñn]a|mot de passe|has[lł]o|senha"
    r"|wachtwoord|lösenord"
    r"|parola|parool|salasana|heslo|パスワード"
)
_NAMED = re.compile(
    rf"(?P<strong>{_STRONG.pattern})"
    r"|(?P<pin>(?<![a-z])(?:pin|otp|2fa|cvv2?|cvc2?|totp)(?![a-z])(?:[ _-](?:code|number))?)"
    r"|(?P<key>key)"
    r"|secret|token|credentials?|auth|cookie|sess(?:ion)?(?:[_ -]?id)|phpsessid|jsessionid|connect\.sid"
    r"|signature|psk|salt"
)
# What may stand between the word and its value: the rest of a longer name, quotes, the sign, quotes.
_ASSIGNED = re.compile(
    r"""(?P<tail>[\w-]{0,30})["'`*)\]]{0,3}[ \t]{0,3}
    (?P<sign>:=|=>|->|===?|[:=]|\b(?:is|was|to|ist|lautet|est)\b:?|(?<=["']),)[ \t]{0,3}\n?[ \t]{0,8}
    (?P<open>["'`]?)(?P<value>(?:(?<=")[^"\n]{1,400}(?=")|(?<=')[^'\n]{1,400}(?=')|(?<=`)[^`\n]{1,400}(?=`)|[^\s"'`,;<>(){}\[\]|]{1,400}))""",
    re.VERBOSE,
)
_NOT_A_SECRET_NAME = re.compile(
    r"(?:name|names|ref|file|path|dir|type|version|policy|url|uri|endpoint|count|length|len|size|limit|usage"
    r"|field|column|"
    r"index|expir\w*|ttl|age|lifetime|rotation|manager|store|vault|group|arn|hint|prompt|reset|min|max"
    r"|budget|ring|space|"
    r"frame|board|word_?s|izer|ized|ization|ed|ing|s)$"
)
_QUALIFIED_KEY = re.compile(
    r"(?:api|access|secret|private|auth|account|encryption|encrypt|signing|sign|master|license|licence"
    r"|shared|app|client|"
    r"service|storage|subscription|deploy|ssh|hmac|admin|ingest|write|read|recovery|session|datadog|(?<![a-z])dd|functions?|"
    r"security|consumer|integration|instrumentation|bot|webhook|stripe|openai|(?<![a-z])x)[ _.-]?$"
)
_SPECIAL_TOKEN = re.compile(
    r"(?:^|[\W_])(?:pad|eos|bos|unk|sep|cls|mask|special|stop|max|min|num|new|next|page|start|end)[ _.-]?$"
)
_STOP = re.compile(
    r"a|above|accepted|active|admin_password|all|always|an|any|authentication|authorization|auto|bad|"
    r"basic|bearer|below|blank|bool|broken|bytes|change|changed|client|correct|default|defaults|denied|"
    r"disabled|empty|enabled|encrypted|endpoint|env|error|expired|exposed|failed|failure|false|field|file|"
    r"given|good|hashed|here|hidden|inactive|incorrect|int|invalid|issued|key|leaked|login|login,|manager|"
    r"manual|masked|missing|my|n/a|na|needed|never|new|nil|no|none|not|null|off|ok|okay|old|on|only|"
    r"optional|our|passwd|password|plain|plaintext|policy|private|protected|public|ready|redacted|"
    r"refreshed|rejected|removed|request|requests|required|required\.|reset|response|revoked|rotated|"
    r"rotating|same|secret|secretsmanager|see|sent|server|service|set|ssm|status|stdin|stolen|store|stored|str|"
    r"string|strong|tbd|text|that|the|their|this|todo|token|true|undefined|unknown|unset|used|user|"
    r"username|valid|value|values|vault|via|weak|wrong|yes|your"
)
_REFERENCE = re.compile(
    r"\$|\{\{|%\(|%[A-Za-z_]+%|<|\*{2,}$|[xX•·.#_-]{2,}$|(?:os\.)?(?:environ|getenv)|process\.env|env\."
    r"|secrets\.|var\.|vault:|!(?:vault|secret|env|ref|sub|include)|/run/|/etc/|"
    r"/var/|/opt/|/home/|~/|\./|file:|arn:|https?://|kms:|ssm:|env:|fd:\d|self\.|settings\.|config\.|data\.|input\.|@"
)
_RANDOM = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/=_-]{20,}(?![\w+/=-])")
_HASH_CONTEXT = re.compile(
    r"sha-?\d|md5|digest|checksum|commit|hash|image|blob|revision|etag|fingerprint|trace|span|layer|uuid|build"
)
_SECRET_NEAR = re.compile(r"secret|token|passw|api.?key|access.?key|credential|auth|private|bearer|\bkey\b|\bpat\b")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])")

_URL = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,30}://(?P<user>[^\s/:@'\"<>?#]{0,100}):(?P<v>[^\s'\"<>]{1,200})@(?=[\w\[<.-])"
)
_VARIABLE = re.compile(r"\$|\{|<|%\(|\*+$")
_URL_USER = re.compile(r"https?://(?P<v>[A-Za-z0-9_\-.~%]{20,200})(?::x-oauth-basic)?@(?=[\w\[<])")
_HEADER = re.compile(
    r"""(?:authorization|proxy-authorization|x-[\w-]*(?:token|key|secret|auth)[\w-]*|api-key|private-token|job-token|set-cookie|cookie)
    ["']?\s{0,3}[:=]\s{0,3}["']?(?:(?:bearer|basic|token|digest|negotiate|apikey|api-key|bot|splunk|ssws|aws4-hmac-sha256|key)\s{1,3})?
    (?P<v>[^\s"'<>,;]{6,})""",
    re.VERBOSE,
)
_COOKIES = re.compile(r"""(?:set-cookie|cookie)["']?\s{0,3}[:=]\s{0,3}["']?(?P<v>[^\n"'<>]{6,})""")
_BEARER = re.compile(r"(?<![a-z])bearer\s{1,3}[\"'`]?(?P<v>[\w.~+/=-]{8,})")
_BASIC = re.compile(r"(?<![a-z])basic\s{1,3}(?P<v>[A-Za-z0-9+/]{10,}={0,2})(?![\w])")
_FLAG = re.compile(
    r"""(?<![\w-])--?(?:[a-z]+-)*(?:password|passwd|passphrase|pass|pwd|token|secret|api-?key|auth-?token|access-?key|secret-?key|
    access-?token|client-?secret|credentials?|requirepass|masterauth|bearer)(?:=|\s{1,3})(?P<q>["']?)
    (?P<v>(?:(?<=")[^"\n]+|(?<=')[^'\n]+|[^\s"'<>|&;]{3,}))""",
    re.VERBOSE,
)
_IDENTIFIED = re.compile(r"identified\s+(?:with\s+\w+\s+)?by\s+[\"'](?P<v>[^\"'\n<>]{3,})")
_LOGIN = re.compile(
    r"(?:credentials?|login|creds|logged in)\W{1,4}(?:(?:is|are|was|with|as"
    r"|using)\W{1,3})?[\w.@-]{2,40}\s?[:/]\s?(?P<v>(?=[^\s\"'<>,;]*\d)[^\s\"'<>,;/]{5,})"
)
_NEXT_PARAMETER = re.compile(r"&(?=[\w.-]+=)")
_TRAILING = ".,;:!?)]}\"'`*"


def find_credentials(text: str, lower: str, has_runs: bool) -> Iterator[Span]:
    """Passwords, secrets and headers in context. `lower` is `text` in lower case, of the same length.

    has_runs: is there any long run of characters that a random secret could be?
    """
    if "://" in lower and "@" in lower:
        yield from _in_urls(text)
    for word in WORDS:
        if word in lower:
            break
    else:
        return
    yield from _assigned(text, lower)
    yield from _in_headers(text, lower)
    yield from _in_commands(text, lower)
    if has_runs:
        yield from _random_near_secret(text, lower)


def _in_commands(text: str, lower: str) -> Iterator[Span]:
    if " -" in lower or lower.startswith("-"):
        yield from _groups(_FLAG, text, lower, "PASSWORD")
    if "identified" in lower:
        yield from _groups(_IDENTIFIED, text, lower, "PASSWORD")
    if "cred" in lower or "login" in lower or "logged in" in lower:
        yield from _groups(_LOGIN, text, lower, "PASSWORD")


def _in_headers(text: str, lower: str) -> Iterator[Span]:
    if "auth" in lower or "key" in lower or "token" in lower or "cookie" in lower:
        yield from _groups(_HEADER, text, lower, "SECRET")
    if "cookie" in lower:
        yield from _groups(_COOKIES, text, lower, "SECRET")
    if "bearer" in lower:
        for span in _groups(_BEARER, text, lower, "SECRET"):
            if mixed(text[span.start : span.end]) or span.end - span.start > 19:
                yield span
    if "basic" in lower:
        yield from (s for s in _groups(_BASIC, text, lower, "SECRET") if is_basic(text[s.start : s.end]))


def _in_urls(text: str) -> Iterator[Span]:
    for match in _URL.finditer(text):
        start, end = match.span("v")
        host = text.find("/", start, end)
        if host >= 0 and "@" in text[start:host]:  # the greedy match ran into an `@` of the path
            end = text.rindex("@", start, host)
        if not _VARIABLE.match(text, start, end):
            yield Span(start, end, "PASSWORD", _PASSWORD)
    for match in _URL_USER.finditer(text):
        yield Span(*match.span("v"), "SECRET", _SECRET)


def _groups(pattern: re.Pattern[str], text: str, lower: str, kind: str) -> Iterator[Span]:
    for match in pattern.finditer(lower):
        start, end = match.span("v")
        value = without_trailing(text, start, end)
        if len(value) > 2 and not _is_reference(value) and not _STOP.fullmatch(value.lower()):
            yield Span(start, start + len(value), kind, RANKS[kind])


def without_trailing(text: str, start: int, end: int) -> str:
    """The value at start:end without the punctuation behind it, which is part of it only within quotes."""
    quoted = text[max(0, start - 1) : start] in ('"', "'") and text[end : end + 1] == text[start - 1]
    return text[start:end] if quoted else text[start:end].rstrip(_TRAILING)


def _assigned(text: str, lower: str) -> Iterator[Span]:
    """`password: x`, `"api_key": "x"`, `TOKEN=x`, `the password is x`."""
    for sign in _SIGNS:
        if sign in lower:
            break
    else:
        return
    for word in _NAMED.finditer(lower):
        match = _ASSIGNED.match(lower, word.end())
        if match is None:
            continue
        start, end = match.span("value")
        quoted = bool(match["open"]) and end < len(text) and lower[end] == match["open"]
        value = text[start:end]
        if not quoted:
            value = _NEXT_PARAMETER.split(value)[0].rstrip(_TRAILING)
        kind = _judge(word, match, lower, value, quoted)
        if kind:
            yield Span(start, start + len(value), kind, RANKS[kind])


def _judge(word: re.Match[str], match: re.Match[str], lower: str, value: str, quoted: bool) -> str | None:
    """PASSWORD, SECRET or None, from the name, the sign and the look of the value."""
    tail, sign = match["tail"].strip("_.-"), match["sign"]
    before = lower[max(0, word.start() - 30) : word.start()]
    if _STOP.fullmatch(value.lower()) or _is_reference(value) or tail and _NOT_A_SECRET_NAME.search(tail):
        return None
    spoken = sign[0].isalpha()
    if word["pin"]:
        return "SECRET" if value.isdigit() and 3 <= len(value) <= 8 else None
    if word["strong"]:
        return "PASSWORD" if _is_password(word, match, before, value, quoted, spoken) else None
    if word["key"] and not _QUALIFIED_KEY.search(before):
        return "SECRET" if len(value) >= 20 and looks_random(value) and not _HASH_CONTEXT.search(before) else None
    if _SPECIAL_TOKEN.search(before) or value.isdigit() or " " in value:
        return None
    if len(value) >= 6 and mixed(value):
        return "SECRET"
    assigned = sign != ":" and not spoken or quoted
    if assigned and len(value) >= 8 and not re.search(r"[()\[\]]", value) or len(value) >= 20 and looks_random(value):
        return "SECRET"
    return None


def _is_password(
    word: re.Match[str], match: re.Match[str], before: str, value: str, quoted: bool, spoken: bool
) -> bool:
    name = word["strong"]
    if name in ("pass", "pw") and (before[-1:].isalpha() or not match["tail"] and not mixed(value)):
        return name == "pass" and match["sign"] == "=" and not before[-1:].isalpha() and len(value) > 3
    if match["sign"] == ",":
        return False
    if spoken:
        return len(value) >= 4 and (mixed(value) or value.isdigit() and len(value) > 3)
    if quoted or match["sign"] != ":":
        return len(value) >= 3
    if value.isalpha() and value.islower():  # `password: wrong when …` is prose, `password: letmein` stands alone
        rest = match.string[match.end() :]
        return len(value) >= 4 and (not rest.strip() or rest[:1] in "\n,;}|" or match.start() == 0)
    return len(value) >= 3


def _random_near_secret(text: str, lower: str) -> Iterator[Span]:
    """Random-looking text shortly after a secret word, or in the form of an AWS secret key."""
    for match in _RANDOM.finditer(text):
        start, end = match.span()
        before = lower[max(0, start - 48) : start]
        if not _SECRET_NEAR.search(before) or _HASH_CONTEXT.search(before[-24:]):
            continue
        if looks_random(match.group()) and not _UUID.fullmatch(match.group()):
            yield Span(start, end, "SECRET", _SECRET)
    if "aws" in lower or "secret" in lower or "akia" in lower:
        for match in _AWS_SECRET.finditer(text):
            value = match.group()
            if classes(value) == 3 and entropy(value) > 4.0:
                yield Span(match.start(), match.end(), "AWS_SECRET", RANKS["AWS_SECRET"])


def _is_reference(value: str) -> bool:
    return _REFERENCE.match(value) is not None and not (
        value[0] in "$!@*#"
        and mixed(value[1:])
        and not (value[1:2] in "{(" or value[1:].isupper())
        and value[1:2].isalnum()
        and any(c.isdigit() for c in value)
    )


def is_placeholder(value: str) -> bool:
    """A variable, a path, a mask or a word such as `none`, no secret."""
    return _STOP.fullmatch(value.lower()) is not None or _is_reference(value)
