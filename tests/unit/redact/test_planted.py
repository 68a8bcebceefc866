"""Planted secrets never survive, in any disguise; near misses survive; masking twice changes nothing."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.core.config import RedactConfig
from holdfast.redact.redactor import Redactor
from holdfast.redact.scanner import scan
from holdfast.redact.shadow import make_shadow
from planted import BY_FORM, BY_PLACE, evade

CONTEXT = st.text(alphabet=st.characters(exclude_categories=("Cs", "Nd", "Cf", "Mn", "Me")), max_size=30)
SETTINGS = settings(
    max_examples=600, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.fixture(scope="module")
def redactor(tmp_path_factory: pytest.TempPathFactory) -> Redactor:
    return Redactor(RedactConfig(pseudonym_key_file=str(Path(tmp_path_factory.mktemp("key")) / "pseudonym.key")))


def survives(secret: str, masked: str) -> bool:
    """Is the secret, or a telling half of it, still there once disguises are undone?"""
    shown = make_shadow(masked).text.replace(" ", "")
    plain = make_shadow(secret).text.replace(" ", "")
    return (
        plain in shown or len(plain) > 19 and (plain[: len(plain) // 2] in shown or plain[len(plain) // 2 :] in shown)
    )


@SETTINGS
@given(before=CONTEXT, after=CONTEXT, kind=st.sampled_from(sorted(BY_FORM)), seed=st.integers(0, 2**32))
def test_a_secret_known_by_its_form_never_survives(
    redactor: Redactor, before: str, after: str, kind: str, seed: int
) -> None:
    r = random.Random(seed)
    secret = evade(r, BY_FORM[kind](r))
    masked = redactor.mask(f"{before} {secret} {after}")
    assert not survives(secret, masked), (kind, secret, masked)
    assert redactor.mask(masked) == masked
    assert scan(masked, redactor.policy) == []


@SETTINGS
@given(before=CONTEXT, after=CONTEXT, kind=st.sampled_from(sorted(BY_PLACE)), seed=st.integers(0, 2**32))
def test_a_secret_known_by_its_place_never_survives(
    redactor: Redactor, before: str, after: str, kind: str, seed: int
) -> None:
    head, secret, tail = BY_PLACE[kind](random.Random(seed))
    masked = redactor.mask(f"{before}\n{head}{secret}{tail} {after}")
    assert secret not in masked, (kind, secret, masked)
    assert redactor.mask(masked) == masked


@SETTINGS
@given(text=st.lists(st.sampled_from((
    "password", "=", ": ", "<HOST_3>", "<", ">", "card ", "4111111111111111", "a@b.internal", "%40", "&lt;", "10.0.0.7",
    "://", "u:p", "@", "\u200b", "token ", "is ", "ssn ", "078-05-1120", "-----BEGIN PRIVATE KEY-----", "\n", " ",
    "\\n",
    "AKIAABCDEFGHIJKLMNOP", "\"", "'", "account 12345678", "+49 30 1234567", "x", "é", "bearer ", "abc123DEF456ghi789",
)), max_size=14).map("".join))  # fmt: skip
def test_masking_twice_changes_nothing_and_leaves_nothing_for_the_scanner(redactor: Redactor, text: str) -> None:
    masked = redactor.mask(text)
    assert redactor.mask(masked) == masked
    assert scan(masked, redactor.policy) == []


@SETTINGS
@given(text=st.text(max_size=80))
def test_offsets_stay_within_the_text_and_what_is_outside_of_them_is_untouched(redactor: Redactor, text: str) -> None:
    spans = redactor.find(text)
    assert all(0 <= s.start < s.end <= len(text) for s in spans)
    assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))
    outside = "".join(
        text[a:b] for a, b in zip([0, *(s.end for s in spans)], [*(s.start for s in spans), len(text)], strict=True)
    )
    shadow = make_shadow(text)
    assert len(outside) <= len(text)
    assert not text or all(
        0 <= a < b <= len(text) for a, b in (shadow.locate(i, i + 1) for i in range(len(shadow.text)))
    )


NEAR_MISSES = (
    "4111111111111112", "card 4111 1111 1111 1113", "build 123456789012", "routing 021000022",
    "GB82 WEST 1234 5698 7654 33",
    "v1.2.3.4.5", "version 10.1.2.3", "10.1.2.300", "2026-11-20 10:11:12.345 took 3000 ms port 8080",
    "1.2.3.4-5ubuntu1",
    "request id 7c9e6679-7425-40de-944b-e07fc1f90ae7", "sha256:" + "ab12" * 16, "timestamp 1700000000000", "127.0.0.1",
    "mask 255.255.255.0", "12345678A", "000-12-3456", "self.logger.info(x)", "alert_dispatcher.pl", "docs/README.md",
    "getty@tty1.service", "lodash@4.17.21", "password: required", "the password is wrong", "Token endpoint: down",
    "secret: my-tls-cert", "max_tokens: 512", "password=<PASSWORD_1>", "${DB_PASSWORD}", "password: ${DB_PASSWORD}",
    "ssh -p 2222 bastion", "mkdir -p /srv/data", "1,234,567,890 bytes", "0.4111111111111111",
    "pve7 in rack C on leaf_c",
    "10:11:12", "std::vector", "8:00-17:00", "50 000 000 rows", "3.141592653589793", "10.1145/3292500.3330701",
)  # fmt: skip


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_a_near_miss_survives(redactor: Redactor, text: str) -> None:
    assert redactor.mask(text) == text


def test_every_type_is_counted(redactor: Redactor) -> None:
    fresh = Redactor(redactor.config)
    for kind, make in BY_FORM.items():
        before = sum(fresh.by_type.values())
        fresh.mask(make(random.Random(5)))
        assert sum(fresh.by_type.values()) > before, kind
