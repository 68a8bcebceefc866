"""Keys and tokens that announce themselves by their form: one line for each kind that a provider issues.

Forms are those that the providers document; lengths are lower bounds where a provider has changed them over time.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.redact.spans import RANKS, Span

# Every form below holds a word of this many characters; a text without one is not looked at further.
SHORTEST = 16
# Long words that are no secret: UUIDs, times, digests that say so, words joined by dashes.
HARMLESS = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}[,;.)]?|\d{4}-\d\d-\d\d[T_]\d\d:\d\d(?::\d\d)?[\d.,:+Z]*|sha\d+:[0-9a-f]+[,;.)]?"
    r"|[A-Za-z][a-z]*(?:[-/][a-z]+)*[,;:.)]?|[\d.,/-]+"
)


class Form(NamedTuple):
    """`anchor` is a piece of text that each match holds: it is looked for first, being cheap."""

    type: str
    anchor: str
    pattern: re.Pattern[str]
    group: int | str = 0


def _form(kind: str, anchor: str, pattern: str) -> Form:
    compiled = re.compile(pattern)
    return Form(kind, anchor, compiled, "v" if "v" in compiled.groupindex else 0)


_B = r"(?<![A-Za-z0-9])"
_E = r"(?![A-Za-z0-9])"
_HEX8 = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

FORMS = (
    _form("JWT", "ey", rf"{_B}ey[JI][\w-]{{8,}}\.ey[JI][\w-]{{6,}}(?:\.[\w-]*)?"),
    _form("JWT", "ey", rf"{_B}eyJ[\w-]{{8,}}\.[\w-]*\.[\w-]{{8,}}\.[\w-]{{8,}}\.[\w-]{{8,}}"),
    *(
        _form("AWS_KEY", prefix, prefix + r"[A-Z0-9]{16,}")
        for prefix in ("AKIA", "ASIA", "ABIA", "ACCA", "AGPA", "AIDA", "AROA", "AIPA", "ANPA", "ANVA")
    ),
    _form("AWS_KEY", "A3T", r"A3T[A-Z0-9][A-Z0-9]{16,}"),
    _form("AWS_SECRET", "ABSK", rf"{_B}ABSK[A-Za-z0-9+/]{{100,}}={{0,2}}"),
    _form("AWS_SECRET", "amzn.mws.", rf"amzn\.mws\.{_HEX8}"),
    _form("GOOGLE_KEY", "AIza", r"AIza[\w-]{30,}"),
    _form("GOOGLE_KEY", "GOCSPX-", r"GOCSPX-[\w-]{20,}"),
    _form("GOOGLE_KEY", "ya29.", r"ya29\.[\w-]{20,}"),
    _form("GOOGLE_KEY", "1//0", rf"{_B}1//0[\w-]{{30,}}"),
    _form("GITHUB_TOKEN", "gh", r"gh[pousr]_\w{30,}"),
    _form("GITHUB_TOKEN", "github_pat_", r"github_pat_\w{20,}"),
    _form(
        "GITLAB_TOKEN", "gl",

            r"(?:glpat|gldt|glft|glsoat|glrt|glrtr|glcbt|glptt|glagent|glimt|glffct"
            r"|gloas)-(?:t[0-9a-z]_)?[\w.-]{16,}",
    ),
    _form("GITLAB_TOKEN", "GR1348941", r"GR1348941[\w-]{16,}"),
    _form("SLACK_WEBHOOK", "hooks.slack", r"(?:https?://)?hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[\w/+-]{20,}"),
    _form("SLACK_TOKEN", "xox", r"xox[abceoprs](?:\.xox[bp])?-[0-9A-Za-z-]{8,}"),
    _form("SLACK_TOKEN", "xapp-", r"xapp-\d-[0-9A-Za-z-]{10,}"),
    _form("STRIPE_KEY", "k_", rf"{_B}(?:sk|rk|pk)_(?:live|test|prod)_[0-9A-Za-z]{{10,}}"),
    _form("STRIPE_KEY", "whsec_", r"whsec_[0-9A-Za-z+/=]{20,}"),
    _form("ANTHROPIC_KEY", "sk-ant-", r"sk-ant-[\w-]{20,}"),
    _form("OPENAI_KEY", "sk-", rf"{_B}sk-(?:proj|svcacct|admin|None|or-v1)-[\w-]{{20,}}"),
    _form("OPENAI_KEY", "sk-", rf"{_B}sk-(?=[A-Za-z-]*\d)[A-Za-z0-9][\w-]{{18,}}"),
    _form("OPENAI_KEY", "T3BlbkFJ", r"sk-[\w-]*T3BlbkFJ[\w-]{10,}"),
    _form("AZURE_KEY", "=", r"(?i:AccountKey=)(?P<v>[A-Za-z0-9+/]{40,}={0,2})"),
    _form("AZURE_KEY", "=", r"(?i:SharedAccess(?:Key|Signature)=)(?P<v>[^\s;\"'<>]{20,})"),
    _form("AZURE_KEY", "sig=", r"[?&;]sig=(?P<v>[A-Za-z0-9%+/=_-]{20,})"),
    _form("AZURE_KEY", "Q~", rf"{_B}[\w~.-]{{3}}\dQ~[\w~.-]{{30,}}"),
    _form("AZURE_KEY", "==", rf"{_B}[A-Za-z0-9+/]{{86}}=="),
    _form("AZURE_KEY", "JQQJ", rf"{_B}[A-Za-z0-9]{{52}}JQQJ99[A-Za-z0-9]{{20,30}}"),
    _form("AZURE_KEY", "ACDb", rf"{_B}[A-Za-z0-9+/]{{30,}}ACDb[A-Za-z0-9+/=]{{4,10}}"),
    _form("AZURE_KEY", "+ASt", rf"{_B}[A-Za-z0-9+/]{{30,}}\+ASt[A-Za-z0-9+/=]{{4,10}}"),
    _form("NPM_TOKEN", "npm_", r"npm_[A-Za-z0-9]{30,}"),
    _form("PYPI_TOKEN", "pypi-", r"pypi-[\w-]{40,}"),
    _form("HF_TOKEN", "hf_", rf"{_B}hf_[A-Za-z0-9]{{28,}}"),
    _form("HF_TOKEN", "api_org_", r"api_org_[A-Za-z0-9]{28,}"),
    _form("SENDGRID_KEY", "SG.", rf"{_B}SG\.[\w-]{{16,}}\.[\w-]{{16,}}"),
    _form("TWILIO_KEY", "AC", r"AC[a-z0-9]{32}"),
    _form("TWILIO_KEY", "SK", r"SK[a-z0-9]{32}"),
    _form("TELEGRAM_TOKEN", ":AA", r"(?<!\d)\d{8,10}:AA[\w-]{32,33}"),
    _form("TELEGRAM_TOKEN", ":", r"(?<!\d)\d{8,10}:[A-Za-z][\w-]{34}(?![\w-])"),
    _form("API_KEY", "key-", rf"{_B}(?:pub)?key-[0-9a-f]{{32}}{_E}"),
    _form("API_KEY", "-us", r"[0-9a-z]{32}-us\d{1,2}"),
    _form("API_KEY", "do", rf"{_B}do[opr]_v1_[0-9a-f]{{40,}}"),
    _form("API_KEY", "hv", rf"{_B}hv[sbr]\.[\w-]{{20,}}"),
    _form("API_KEY", "shp", rf"{_B}shp(?:at|ca|pa|ss)_[0-9a-fA-F]{{32}}"),
    _form("API_KEY", "sq0", r"sq0(?:atp|csp|idp)-[\w\\-]{20,}"),
    _form("API_KEY", "EAAA", rf"{_B}EAAA[\w-]{{56,}}"),
    _form("API_KEY", "EAAC", rf"{_B}EAAC[A-Za-z0-9]{{20,}}"),
    _form("API_KEY", "lin_", rf"{_B}lin_(?:api|oauth)_[A-Za-z0-9]{{30,}}"),
    _form("API_KEY", "PMAK-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{30,}"),
    _form("API_KEY", "NRAK-", r"NRAK-[A-Z0-9]{20,}"),
    _form("API_KEY", "NR", rf"{_B}NR(?:II|JS|RA|SP|AA|IQ)-[\w-]{{16,}}"),
    _form("API_KEY", "gl", rf"{_B}gl(?:c|sa)_[A-Za-z0-9+/=_]{{30,}}"),
    _form("API_KEY", "dop_v1", rf"{_B}dop_v1_[0-9a-f]{{40,}}"),
    _form("API_KEY", "dp.", rf"{_B}dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{{30,}}"),
    _form("API_KEY", "dapi", rf"{_B}d(?:api|ose|kea)[0-9a-f]{{32}}(?:-\d)?{_E}"),
    _form("API_KEY", "pul-", rf"{_B}pul-[0-9a-f]{{40}}"),
    _form("API_KEY", "rubygems_", r"rubygems_[0-9a-f]{40,}"),
    _form("API_KEY", "dckr_", r"dckr_(?:pat|oat)_[\w-]{20,}"),
    _form("API_KEY", "atlasv1", rf"{_B}[A-Za-z0-9]{{14}}\.atlasv1\.[\w=-]{{40,}}"),
    _form("API_KEY", "ATATT3", r"ATATT3[\w=-]{40,}"),
    _form("API_KEY", "ATCTT3", r"ATCTT3[\w=-]{40,}"),
    _form("API_KEY", "ATBB", rf"{_B}ATBB[\w=-]{{24,}}"),
    _form("API_KEY", "ntn_", rf"{_B}ntn_[A-Za-z0-9]{{40,}}"),
    _form("API_KEY", "secret_", rf"{_B}secret_[A-Za-z0-9]{{40,}}"),
    _form("API_KEY", "figd_", r"figd_[\w-]{30,}"),
    _form("API_KEY", "sntry", r"sntry[su]_[\w+/=-]{30,}"),
    _form("API_KEY", "phc_", rf"{_B}ph[cx]_[A-Za-z0-9]{{30,}}"),
    _form("API_KEY", "r8_", rf"{_B}r8_[A-Za-z0-9]{{30,}}"),
    _form("API_KEY", "gsk_", rf"{_B}gsk_[A-Za-z0-9]{{30,}}"),
    _form("API_KEY", "xai-", rf"{_B}xai-[A-Za-z0-9]{{40,}}"),
    _form("API_KEY", "pplx-", rf"{_B}pplx-[A-Za-z0-9]{{30,}}"),
    _form("API_KEY", "tskey-", r"tskey-(?:[a-z]+-)?[\w-]{16,}"),
    _form("API_KEY", "cio", rf"{_B}cio[A-Za-z0-9]{{32}}{_E}"),
    _form("API_KEY", "AKCp", rf"{_B}AKCp[A-Za-z0-9]{{50,}}"),
    _form("API_KEY", "cmVmd", r"cmVmd[A-Za-z0-9+/=]{40,}"),
    _form("API_KEY", "sbp_", rf"{_B}sbp_[0-9a-f]{{30,}}"),
    _form("API_KEY", "pscale_", r"pscale_(?:tkn|oauth|pw)_[\w.=-]{20,}"),
    _form("API_KEY", "-", r"(?i:AGE-SECRET-KEY-1)[0-9A-Za-z]{40,}"),
    _form("API_KEY", "access_token$", r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}"),
    _form("API_KEY", "sl.", rf"{_B}sl\.[\w-]{{100,}}"),
    _form("API_KEY", "CCIPAT_", r"CCIPAT_[\w]{20,}"),
    _form("API_KEY", "xkeysib-", r"xkeysib-[0-9a-f]{60,}-[A-Za-z0-9]{10,}"),
    _form("API_KEY", "API-", rf"{_B}API-[A-Z0-9]{{26}}{_E}"),
    _form("API_KEY", "duffel_", r"duffel_(?:test|live)_[\w=-]{30,}"),
    _form("API_KEY", "fio-u-", r"fio-u-[\w=-]{40,}"),
    _form("API_KEY", "discord", r"discord(?:app)?\.com/api/webhooks/\d{15,}/[\w-]{30,}"),
    _form("API_KEY", "webhook.office", r"webhook\.office\.com/webhookb2/[\w@/-]{40,}"),
    _form("API_KEY", ".", r"[MNO][A-Za-z\d_-]{23,25}\.[\w-]{6}\.[\w-]{27,38}"),
    _form("SSH_KEY", "AAAA",
        r"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-\w+|sk-[\w.@-]+)\s+(?P<v>AAAA[A-Za-z0-9+/=]{40,})"),
    _form("SSH_KEY", "AAAA", rf"{_B}AAAA[BCE]3NzaC[A-Za-z0-9+/=]{{30,}}|{_B}AAAAE2VjZHNh[A-Za-z0-9+/=]{{30,}}"),
)  # fmt: skip

# The forms by a sign that each of their matches holds, or a capital letter: most texts lack most of them.
_SIGNS = {"gh": "_", "do": "_", "shp": "_", "sntry": "_", "xox": "-", "NR": "-", "T3BlbkFJ": "-", "hv": ".", "ey": ".",
          "discord": "."}  # fmt: skip


def _sign_of(anchor: str) -> str:
    signs = [character for character in anchor if not character.isalnum()]
    return _SIGNS.get(anchor) or (signs[0] if signs else "" if anchor.islower() else "A")


_BY_SIGN = {
    sign: tuple(form for form in FORMS if _sign_of(form.anchor) == sign)
    for sign in sorted({_sign_of(form.anchor) for form in FORMS})
}

_KEY_BLOCK = re.compile(
    r"-----\s?BEGIN[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?(?:\s?-----)?"
    r"(?:.*?-----\s?END[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?\s?-----"
    r"|(?:\s|\\n)*(?:[A-Z][A-Za-z-]{2,12}:[^\n]*\s+)*(?:[A-Za-z0-9+/=]{4,}(?:\s|\\n)*)?"
    r"(?:(?:[A-Za-z0-9+/=]{16,}|[A-Za-z0-9+/]+=)(?:\s|\\n)*)*(?:[A-Za-z0-9+/]{1,64}\Z)?)",
    re.DOTALL,
)
_KEY_NAME = re.compile(r"BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?")
_KEY_TAIL = re.compile(
    r"(?:[A-Za-z0-9+/=]{16,}\s+)*[A-Za-z0-9+/=]{4,}\s*-----\s?END[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?\s?-----"
)
_KEY_BODY = re.compile(
    r"(?<![A-Za-z0-9+/])(?:MII[A-Za-z0-9+/]{2}[IB][A-Za-z0-9+/]{40,}"
    r"|b3BlbnNzaC1rZXktdjE[A-Za-z0-9+/]{8,})[A-Za-z0-9+/=\s]*={0,2}"
)
_PUTTY = re.compile(r"PuTTY-User-Key-File-\d:.*?(?:Private-MAC: ?[0-9a-f]+|\Z)", re.DOTALL)


def find_tokens(text: str, runs: str) -> Iterator[Span]:
    """Tokens known by their form. `runs`: the long words of `text`, where the anchors are looked for."""
    for sign, forms in _BY_SIGN.items():
        if sign not in runs if sign != "A" else runs.islower():
            continue
        for kind, anchor, pattern, group in forms:
            if anchor in runs:
                for match in pattern.finditer(text):
                    yield Span(*match.span(group), kind, RANKS[kind])


def find_private_keys(text: str, lower: str) -> Iterator[Span]:
    """Private-key blocks: whole, cut off at either end, or the mere body of one."""
    rank = RANKS["PRIVATE_KEY"]
    patterns: list[re.Pattern[str]] = []
    if "private key" in lower:
        patterns += (_KEY_BLOCK, _KEY_TAIL, _KEY_NAME)
    if "mii" in lower or "b3blbnnzac1rzxktdje" in lower:
        patterns.append(_KEY_BODY)
    if "putty-user-key-file" in lower:
        patterns.append(_PUTTY)
    for pattern in patterns:
        for match in pattern.finditer(text):
            yield Span(match.start(), match.start() + len(match.group().rstrip()), "PRIVATE_KEY", rank)
