"""A second look by other rules: after masking, nothing that looks like a secret may be left.

Written without the recognisers' patterns, tables or normalised copy, so that one mistake does not pass twice. Beside
its own rules it runs the detectors of detect-secrets (those without entropy and without keywords: see ADR 0011).
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from holdfast.core.records import Example
from holdfast.redact.policy import Policy
from holdfast.redact.texts import example_texts

# A text is looked at when it holds one of these; everything that a rule or a detector can find does.
_RUN = re.compile(r"[A-Za-z0-9+/=_~.$-]{18}")
_DIGITS = re.compile(r"\d[ \d-]{3}")  # in every number and IBAN below
_NUMBER = re.compile(r"(?<!\d)\d[ -]?\d{3}[ -]?\d{4}[ -]?\d{3}|\d{11}|\d{3}-\d\d-\d{4}|[A-Z]{2}\d\d[ A-Z0-9]{8}")
_SIGNS = ("@", "-----", "passw", "secret", "pwd")
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*_[a-z0-9]+>")


class Rule(NamedTuple):
    """`words`: one of them (lower case) must be in the line. `type` is what the policy may have switched off."""

    name: str
    type: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]


def _rule(name: str, kind: str, words: str, pattern: str) -> Rule:
    return Rule(name, kind, tuple(words.split()), re.compile(pattern))


RULES = (
    _rule("private-key", "PRIVATE_KEY", "-----begin", r"-----BEGIN[A-Z ]*PRIVATE KEY( BLOCK)?-----"),
    _rule("aws-access-key", "AWS_KEY", "akia asia", r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    _rule(
        "aws-secret-key",
        "AWS_SECRET",
        "aws_secret secretaccesskey",
        r"(?i)(aws_secret_access_key|secretaccesskey)\W{1,8}[0-9a-z/+]{40}\b",
    ),
    _rule("gcp-api-key", "GOOGLE_KEY", "aiza", r"\bAIza[\w-]{35}"),
    _rule(
        "github-token",
        "GITHUB_TOKEN",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"\b(gh[a-z]_[0-9a-zA-Z]{36}|github_pat_[0-9A-Za-z_]{36,})",
    ),
    _rule("gitlab-token", "GITLAB_TOKEN", "glpat- gldt- glrt-", r"\bgl(pat|dt|rt)-[0-9a-zA-Z_-]{20}"),
    _rule(
        "slack-token",
        "SLACK_TOKEN",
        "xoxb- xoxp- xoxa- xoxs- xoxe- xapp-",
        r"\b(xox[a-z]|xapp)-[0-9]+-[0-9a-zA-Z-]{10,}",
    ),
    _rule("slack-webhook", "SLACK_WEBHOOK", "hooks.slack.com", r"hooks\.slack\.com/[a-z]+/[A-Za-z0-9+/]{40,}"),
    _rule("stripe-key", "STRIPE_KEY", "sk_live_ sk_test_ rk_live_ rk_test_", r"\b[sr]k_(live|test)_[0-9a-zA-Z]{16,}"),
    _rule("anthropic-key", "ANTHROPIC_KEY", "sk-ant-", r"\bsk-ant-[a-z0-9]+-[\w-]{32,}"),
    _rule(
        "openai-key",
        "OPENAI_KEY",
        "sk-",
        r"\bsk-(proj-)?[A-Za-z0-9_-]*T3BlbkFJ[A-Za-z0-9_-]{10,}|\bsk-[A-Za-z0-9]{48}\b",
    ),
    _rule("azure-storage-key", "AZURE_KEY", "accountkey", r"AccountKey=[A-Za-z0-9+/]{60,}"),
    _rule("npm-token", "NPM_TOKEN", "npm_", r"\bnpm_[0-9a-zA-Z]{36}"),
    _rule("pypi-token", "PYPI_TOKEN", "pypi-", r"\bpypi-AgE[\w-]{50,}"),
    _rule("hf-token", "HF_TOKEN", "hf_", r"\bhf_[a-zA-Z]{34}\b"),
    _rule("sendgrid-key", "SENDGRID_KEY", "sg.", r"\bSG\.[\w-]{22}\.[\w-]{43}"),
    _rule("twilio-key", "TWILIO_KEY", "sk", r"\bSK[0-9a-f]{32}\b"),
    _rule("jwt", "JWT", "eyj", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    _rule(
        "password-in-url",
        "PASSWORD",
        "://",
        r"\b[a-z][a-z0-9+]+://[^\s/:@<>$\"'{}]+:(?P<v>[^\s/:@<>$\"'{}*]{3,})@[\w.-]+",
    ),
    _rule("basic-header", "SECRET", "basic", r"(?i:authorization: basic) (?P<v>(?=\S*[0-9A-Z])[A-Za-z0-9+/=]{12,})"),
    _rule("bearer-header", "SECRET", "bearer", r"(?i:authorization: bearer) (?P<v>(?=\S*[0-9A-Z])[\w.~+/-]{16,})"),
    _rule(
        "assigned-password",
        "PASSWORD",
        "password passwd",
        r"""(?i)\b(password|passwd)["']?\s?[=:]\s?["']"""
        r"""(?P<v>(?=[^"']*\d)[A-Za-z0-9][^\s"'<>${}()./:]{5,})["']""",
    ),
    _rule("e-mail", "EMAIL", "@", r"\b(?!git@)[a-z][a-z0-9]*\.?[a-z0-9]+@[a-z0-9-]+\.(com|org|net|de|fr|internal)\b"),
    _rule("us-ssn", "NATIONAL_ID", "-", r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-]|\.\d)"),
)
_CARD = re.compile(
    r"(?<![\w.,-])(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|65\d\d)([ -]?)\d{4}\1\d{4}\1\d{4}(?![\w.,-])"
    r"|(?<![\w.,-])3[47]\d\d([ -]?)\d{6}\2\d{5}(?![\w.,-])"
)
_IBAN = re.compile(
    r"(?<![\w])(?:AT|BE|CH|DE|DK|ES|FI|FR|GB|IE|IT|NL|NO|PL|PT"
    r"|SE)\d\d(?: ?[A-Z0-9]{4}){2,6}(?: ?[A-Z0-9]{1,3})?(?![\w])"
)
_IBAN_SIZES = {
    "AT": 20, "BE": 16, "CH": 21, "DE": 22, "DK": 18, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "IE": 22, "IT": 27,
    "NL": 18, "NO": 15, "PL": 28, "PT": 25, "SE": 24,
}  # fmt: skip
# Detectors left out: those for entropy, keywords, public addresses and old Artifactory words flag prose.
_LEFT_OUT = frozenset(
    ("Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector", "IPPublicDetector", "ArtifactoryDetector",
     "BasicAuthDetector", "CloudantDetector", "IbmCloudIamDetector", "IbmCosHmacDetector", "SoftlayerDetector")
)  # fmt: skip
_DETECTOR_WORDS = {
    "AWSKeyDetector": ("akia", "abia", "acca", "asia", "a3t"), "AzureStorageKeyDetector": ("accountkey",),
    "DiscordBotTokenDetector": (".",), "GitHubTokenDetector": ("gh",), "GitLabTokenDetector": ("gl", "gr1348941"),
    "JwtTokenDetector": ("eyj",), "MailchimpDetector": ("-us",), "NpmDetector": ("_authtoken",),
    "OpenAIDetector": ("t3blbkfj",), "PrivateKeyDetector": ("private key", "putty"), "PypiTokenDetector": ("pypi-",),
    "SendGridDetector": ("sg.",), "SlackDetector": ("xox", "hooks.slack"), "SquareOAuthDetector": ("sq0csp",),
    "StripeDetector": ("_live_",), "TelegramBotTokenDetector": (":",), "TwilioKeyDetector": ("ac", "sk"),
}  # fmt: skip


def scan_examples(examples: Sequence[Example], policy: Policy) -> list[tuple[str, str]]:
    """(place, rule) of all that is still found in the masked examples; the place is `<file>:<line>`."""
    found: list[tuple[str, str]] = []
    for example in examples:
        for text in example_texts(example):
            if is_interesting(text):
                found += ((example.source, name) for name in scan(text, policy))
    return list(dict.fromkeys(found))


def is_interesting(text: str) -> bool:
    """Whether a rule or a detector might find something: most texts are passed over by this."""
    lower = text.lower()
    for sign in _SIGNS:
        if sign in lower:
            return True
    for word in text.split():
        if len(word) > 17 and _RUN.search(word):
            return True
    return _DIGITS.search(text) is not None and _NUMBER.search(text) is not None


def scan(text: str, policy: Policy | None = None) -> list[str]:
    """Names of the rules that find something in `text`; values that the policy keeps do not count."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    names: list[str] = []
    for name, kind, value in (*_by_rules(text), *_by_checksum(text), *_by_detectors(text)):
        if not _PLACEHOLDER.search(value) and (policy is None or policy.hides(kind, value)):
            names.append(name)
    return list(dict.fromkeys(names))


def _by_rules(text: str) -> Iterator[tuple[str, str, str]]:
    lower = text.lower()
    for rule in RULES:
        for word in rule.words:
            if word in lower:
                for match in rule.pattern.finditer(lower if rule.type == "EMAIL" else text):
                    yield rule.name, rule.type, match["v"] if "v" in rule.pattern.groupindex else match.group()
                break


def _by_checksum(text: str) -> Iterator[tuple[str, str, str]]:
    for match in _CARD.finditer(text):
        digits = [int(c) for c in match.group() if c.isdigit()][::-1]
        if (sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0 and len(set(digits)) > 1:
            yield "card-number", "CARD", match.group()
    for match in _IBAN.finditer(text):
        plain = match.group().replace(" ", "")
        remainder = 0
        for character in plain[4:] + plain[:4]:
            remainder = int(f"{remainder}{int(character, 36)}") % 97
        if remainder == 1 and _IBAN_SIZES[plain[:2]] == len(plain):
            yield "iban", "IBAN", match.group()


def _by_detectors(text: str) -> Iterator[tuple[str, str, str]]:
    lower = text.lower()
    for name, words, analyze in _detectors():
        for word in words:
            if word in lower:
                for value in analyze(text):
                    yield f"detect-secrets {name}", "SECRET", value
                break


@cache
def _detectors() -> tuple[tuple[str, tuple[str, ...], Callable[[str], Iterator[str]]], ...]:
    """The detectors of detect-secrets, with the words that gate them."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: Any = get_mapping_from_secret_type_to_class().values()
    chosen = [kind for kind in kinds if kind.__name__ not in _LEFT_OUT and hasattr(kind, "denylist")]
    return tuple((k.__name__, _DETECTOR_WORDS.get(k.__name__, ("",)), k().analyze_string) for k in chosen)
