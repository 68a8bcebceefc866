"""Names are masked until nothing new is found, in every text of a row, whatever the finder sees in what is left."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.records import Example, Message
from holdfast.core.redact_config import RedactConfig
from holdfast.redact import names
from holdfast.redact.redactor import Redactor
from holdfast.redact.spans import Span

# A word with a capital at the beginning, after a placeholder, or after "by": what it finds changes what it finds next.
CASCADE = re.compile(r"(?:^|(?<=> )|(?<=by ))[A-Z][a-z]+")
WORDS = ("Maria", "Berlin", "by", "password:", "card", "4111111111111111", "a@b.internal", "<HOST_3>", "disk",
         "10.0.0.7", "Acme", "account", "12345678", "is", "=", "token", "x")  # fmt: skip


def find(texts: Sequence[str], model: str) -> Iterator[list[Span]]:
    """The first name of each text."""
    for text in texts:
        match = CASCADE.search(text)
        yield [] if match is None else [Span(*match.span(), "PERSON")]


@pytest.fixture
def redactor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Redactor:
    monkeypatch.setattr(names, "find_names", find)
    return Redactor(RedactConfig(ner="bundled", pseudonym_key_file=str(tmp_path / "key")))


def row(text: str, answer: str = "ok", **more: object) -> Example:
    turns = (Message(role="user", content=text), Message(role="assistant", content=answer))
    return Example(messages=turns, source="a.jsonl:1", **more)  # type: ignore[arg-type]


def test_masking_twice_changes_nothing_with_names_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "find_names", find)
    r = Redactor(RedactConfig(ner="bundled", pseudonym_key_file=str(tmp_path / "key")))

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), st.lists(st.sampled_from(WORDS), min_size=1))
    def holds(text: str, answer: list[str]) -> None:
        masked = r.mask_examples([row(text or "x", " ".join(answer), rejected=text)])
        assert r.mask_examples(masked) == masked
        assert not [spans for spans in find([m.content for m in masked[0].messages], "") if spans]

    holds()


def test_a_name_that_only_shows_after_a_mask_is_masked(redactor: Redactor) -> None:
    (masked,) = redactor.mask_examples([row("Maria Berlin Acme disk Maria")])
    assert masked.messages[0].content == "<PERSON_1> <PERSON_2> <PERSON_3> disk Maria"


def test_a_secret_that_only_shows_after_a_name_is_masked(redactor: Redactor, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_tail(text: str, extra: object = ()) -> list[Span]:
        at = -1 if "Maria" in text else text.find("tail")
        return [] if at < 0 else [Span(at, at + 4, "SECRET", 3)]

    monkeypatch.setattr(redactor, "_find_spans", find_tail)
    (masked,) = redactor.mask_examples([row("Maria tail")])
    assert masked.messages[0].content == "<PERSON_1> <SECRET_1>"


def test_names_in_tags_and_unwanted_answers_are_masked(redactor: Redactor) -> None:
    (masked,) = redactor.mask_examples([row("x", "y", rejected="Maria says", tags={"assignee": "Maria", "n": 3})])
    assert (masked.rejected, masked.tags) == ("<PERSON_1> says", {"assignee": "<PERSON_1>", "n": 3})


def test_rows_with_names_alone_count_as_changed_once(redactor: Redactor) -> None:
    redactor.mask_examples([row("Maria"), row("disk 10.0.0.7"), row("by Maria 10.0.0.7"), row("disk")])
    assert (redactor.report()["rows"], redactor.report()["rows_changed"]) == (4, 3)


def test_documents_lose_names_unless_masking_is_off(redactor: Redactor, tmp_path: Path) -> None:
    assert redactor.mask_document({"Maria": ["by Maria"]}) == {"Maria": ["by <PERSON_1>"]}
    off = Redactor(RedactConfig(enabled=False))
    assert off.mask_document({"who": "10.0.0.7"}) == {"who": "10.0.0.7"}
