"""report.html says what report.json says, loads nothing, and no row can break it. pytest tests/unit/dataset"""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.records import Example, Message
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.report_page import Inputs, data_page, read_lengths, survey

VOID = {"meta", "rect", "line", "circle", "path", "br", "img"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "svg", "defs", "pattern", "rect", "circle", "path", "header", "p",
    "h1", "h2", "h3", "ul", "li", "b", "span", "div", "main", "section", "table", "caption", "thead", "tbody", "tr",
    "th", "td", "code", "line", "text", "article", "small", "dl", "dt", "dd", "mark", "footer",
}  # fmt: skip
CONTRACT = DatasetContract(
    task="triage",
    instruction="Classify.",
    label_field="priority",
    labels=("high", "low"),
    required_fields=("priority",),
)
HOSTILE = [
    "<script>alert(1)</script>", "</style><style>body{display:none}</style>", "\u202egnp.exe", "zero\u200bwidth",
    "x" * 50_000, "{{ 7*7 }}{% raw %}", "\ud800 lone", "z" + "\u0301" * 300, "مرحبا שלום", "\x1b[31m\x00", "</title>",
    "<!--", "]]>", "' onload='x", "&lt;", "﷽" * 200,
]  # fmt: skip


class Reader(HTMLParser):
    """Tags, attributes and whether they nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.style = self.texts = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.texts += data


def example(text: str, n: int = 1, **tags: Any) -> Example:
    turns = (
        Message(role="user", content=f"Classify.\n\n{text}"),
        Message(role="assistant", content='{"priority":"high"}'),
    )
    return Example(messages=turns, source=f"{text[:40]}:{n}", tags=tags)


def page_report(text: str = "mail is down") -> dict[str, Any]:
    pair = {"similarity": 0.31, "a": text, "b": "b:2", "splits": ["train", "test"]}
    split = {"rows": 2, "tokens": 40, "trained_tokens": 10, "trained_share": 0.25, "p50": 20, "p90": 21, "p99": 21,
             "longest": 21, "truncated_rows": 0, "rows_with_trained_eos": 2, "zero_label_rows": 0}  # fmt: skip
    return {
        "rows": {"read": 5, "train": 2, "valid": 1, "test": 1},
        "contract": text, "violations": [], "warnings": [text],
        "duplicates": {"exact_dropped": [{}], "near_pairs": 1, "near_groups": 1, "threshold": 0.5, "examples": [pair]},
        "split_proof": {"largest": pair, "by_splits": {"train/test": pair, "train/valid": None}, "method": "exact",
                        "threshold": 0.5, "groups": 4, "seed": 1, "fixed_rows": {}},
        "token_audit": {**split, "dropped_too_long": [text], "splits": {"train": split},
                        "example": {"source": text, "text": f"u {text} a", "trained_text": text}},
        "augmentation": {"real": 1, "synthetic": 1, "share": 0.5, "max_synthetic_share": 0.5,
                         "by_rule": {"r": {"made": 1, "near_held_out": 2, "duplicate": 3, "conflicting": 4}},
                         "preferences": {"pairs": 7, "by_break": {"vague": 7}}},
    }  # fmt: skip


def page(text: str = "mail is down", **more: Any) -> str:
    rows = {"train": [example(text, domain=text), example(text, 2, synthetic=True, augmentation=text)],
            "valid": [example(text)], "test": [example(text)]}  # fmt: skip
    source = {"name": text, "format": "messages", "detected": True, "split": "auto", "rows": 5}
    values: dict[str, Any] = {
        "name": "t", "report": page_report(text), "lengths": {"train": [20, 21], "valid": [20], "sequence_len": 64},
        "rows": survey(rows, CONTRACT), "collected": {"sources": [source]},
        "redaction": {"by_type": {text: 3, "EMAIL": 12}},
    }  # fmt: skip
    return data_page(Inputs(**{**values, **more}))


def check(html: str) -> Reader:
    html.encode()
    found = Reader(html)
    assert found.open == []
    assert found.tags <= ALLOWED, found.tags - ALLOWED
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in {"style", "src", "href"}]
    return found


def test_hostile_text_neither_breaks_out_nor_hides() -> None:
    for text in HOSTILE:
        shown = check(page(text)).texts
        assert not re.search("[\u202a-\u202e\u200b-\u200f\u2066-\u2069\x00\x1b]", shown)
        assert len(page(text)) < 120_000
    assert "<script>alert(1)</script>" in check(page(HOSTILE[0])).texts
    assert "‹U+202E›gnp.exe" in check(page(HOSTILE[2])).texts
    assert "{{ 7*7 }}" in check(page(HOSTILE[5])).texts


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=60))
def test_any_text_gives_a_whole_page(text: str) -> None:
    check(page(text))


def test_the_page_loads_nothing_and_allows_only_its_own_style() -> None:
    html = page()
    found = check(html)
    digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
    policy = next(v for n, v in found.attributes if "default-src" in v)
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in found.style.replace("url(#", "")
    assert "@import" not in found.style


def test_both_themes_print_and_narrow_screens_are_cared_for() -> None:
    style = check(page()).style
    for words in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert words in style


def test_the_same_inputs_give_the_same_bytes_without_a_clock() -> None:
    assert page() == page()
    assert not re.search(r"20\d\d-\d\d", page())


def test_the_page_says_what_the_report_says() -> None:
    texts = " ".join(check(page()).texts.split())
    for words in (
        "Every row keeps the contract mail is down", "31 % of what they say", "train/test0.310", "b:2", "limit 0.5",
        "Read 5 rows", "EMAIL12", "25.0 % of all tokens", "50.0 % of the training rows were made by rules",
        "7 pairs in preferences.jsonl", "made by mail is down", "1 remark",
    ):  # fmt: skip
        assert words in texts, words


def test_parts_that_are_not_there_are_left_out() -> None:
    texts = check(page(redaction=None, collected=None)).texts
    assert "Redacted" not in texts
    assert "values redacted" not in texts
    assert "Nothing was found to redact" in check(page(redaction={"by_type": {}})).texts


def test_samples_are_few_and_of_each_kind() -> None:
    rows = [example("t", n) for n in range(50)]
    rows += [example("t", n, synthetic=True, augmentation=f"rule{n % 9}") for n in range(50)]
    seen = survey({"train": iter(rows), "valid": [], "test": rows[:3]}, CONTRACT)
    assert seen.counts["label"]["train"] == {"high": 100}
    assert [row["about"] for row in seen.samples] == [
        "train, high", *(f"train, made by rule{n}" for n in range(4)), "test, high",
    ]  # fmt: skip


@given(st.lists(st.integers(0, 5000), max_size=80))
def test_lengths_are_counted_whole_whether_listed_or_counted_before(lengths: list[int]) -> None:
    bins, _ = read_lengths(lengths)
    assert sum(rows for _, rows in bins) == len(lengths)
    assert [upto for upto, _ in bins] == sorted({upto for upto, _ in bins})
    assert not lengths or bins[-1][0] >= max(lengths)
    counted = {"histogram": [[10, 3], [20, 1]], "percentiles": {"50": 9}}
    assert read_lengths(counted) == ([(10, 3), (20, 1)], {"p50": 9})


def test_without_a_limit_nothing_is_claimed() -> None:
    report = page_report()
    report["split_proof"]["threshold"] = report["duplicates"]["threshold"] = None
    texts = check(page(report=report)).texts
    assert "How alike the splits are" in texts
    assert "Nothing of the test set" not in texts
    assert "not looked for" in texts
