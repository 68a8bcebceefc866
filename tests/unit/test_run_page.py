"""The run's page says what the documents say, in any verdict, and no answer can break it. pytest tests/unit"""

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.manifest import Manifest, Product
from holdfast.pages.diff import compare_words
from holdfast.run_page import RunDocuments, run_page, short_digest, wilson

TEXT = "mail is down"


def documents(text: str = TEXT, **more: Any) -> RunDocuments:
    scores = {"valid_json": 1.0, "label_accuracy": 0.75, "stopped": 1.0, "n": 120}
    row = {"id": "1", "source": text, "prompt_text": text, "expected": f"a {text} b", "baseline_output": "",
           "tuned_output": text, "baseline": 1, "tuned": 0, "outcome": "loss"}  # fmt: skip
    difference = {"estimate": 0.25, "low": 0.1, "high": 0.4, "confidence": 0.95, "method": "BCa bootstrap"}
    phase = {"phase": "train", "place": "gpu", "needed": 2**31, "usable": 2**33}
    values: dict[str, Any] = {
        "name": "t", "deploy": "Q4_K_M",
        "decision": {
            "verdict": "keep", "reasons": [text, "It is better."], "primary": "label_accuracy", "items": 120,
            "gates": [{"name": text, "measured": 0.25, "limit": 0.1, "passed": True}], "p_value": 0.0012,
            "baseline": {**scores, "label_accuracy": 0.5}, "tuned": scores, "deployed": {"Q4_K_M": scores},
            "difference": difference,
        },
        "baseline": {**scores, "label_accuracy": 0.5},
        "tuned": {**scores, "quantization": "nf4", "confusion": {text: {text: 3, "low": 1}, "low": {"low": 2}},
                  "by_tag": {text: {"true": {"n": 4, "label_accuracy": 0.5, "interval": [0.2, 0.8]}}}},
        "ladder": {"before": [{**scores, "rung": "adapter"}, {**scores, "rung": "merged", "size_bytes": 2**31}],
                   "rungs": [{**scores, "rung": "F16", "size_bytes": 2**30, "tokens_per_second": 54.2},
                             {**scores, "rung": "Q4_K_M", "label_accuracy": 0.7, "median_first_token_seconds": 0.034}]},
        "parity": {"identical": 200, "rows": 200, "bos_ok": True, "stop_ok": True},
        "comparison": {"rows": [row, {**row, "outcome": "win", "tuned": 1}], "wins": 40, "losses": 10, "ties": 70},
        "data": {"rows": {"train": 860, "valid": 80, "test": 120}},
        "plan": {"phases": [phase, {**phase, "place": "disk"}], "target": {"name": text}},
        "training": {"steps": 9, "device": "cuda", "rows": 860, "trainable_parameters": 655360,
                     "peak_memory_bytes": 3 * 2**30, "tokens_per_second": 1234.5, "energy_kwh": 0.01234,
                     "kept_step": 7},
        "trained_with": None,
        "training_log": [{"step": 1, "loss": 2.0}, {"step": 9, "loss": 0.5}, {"step": 9, "eval_loss": 0.75}],
        "manifests": {},
    }  # fmt: skip
    return RunDocuments(**{**values, **more})


class Texts(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def said(page: str) -> str:
    return " ".join(Texts(page).words)


def test_the_verdict_comes_first_and_the_page_says_what_the_documents_say() -> None:
    words = said(run_page(documents()))
    body = words[words.index("Run report") :]
    assert body.index("✓ keep") < body.index("baseline, right label")
    for wanted in (
        "It is better.", "50.0 % baseline, right label", "+25.0 points; 95 % interval +10.0 to +40.0",
        "0.0012 p, exact McNemar, 120 items", "4-bit + adapter", "merged, 16-bit 75.0 % +0.0 2.00 GiB",
        "Q4_K_M (deployed) 70.0 % −5.0", "1.00 GiB 54",
        "200 of 200 prompts identical", "40 won, 10 lost, 70 unchanged",
        "training 2.00 to 0.50; validation 0.75 to 0.75",
        "1,234 tokens/s; the card used 0.0123 kWh. The adapter of step 7, with the lowest validation loss, is kept.",
        "2.00 GiB 25.0 % 8.00 GiB 3.00 GiB", "Learned from 860 rows",
    ):  # fmt: skip
        assert wanted in body, wanted


@pytest.mark.parametrize(("verdict", "sign"), [("keep", "✓"), ("iterate", "↻"), ("discard", "✕"), ("undecidable", "?")])
def test_every_verdict_has_a_sign_of_its_own(verdict: str, sign: str) -> None:
    decision = {**documents().decision, "verdict": verdict}
    assert f"{sign} {verdict}" in said(run_page(documents(decision=decision)))


def test_a_failed_gate_is_told_in_words() -> None:
    decision = copy.deepcopy(dict(documents().decision))
    decision["gates"][0]["passed"] = False
    assert "✕ no" in said(run_page(documents(decision=decision)))
    assert "✕ no" not in said(run_page(documents()))


def test_losses_come_before_wins() -> None:
    words = said(run_page(documents()))
    assert words.index("lost, tuned answer wrong") < words.index("won, tuned answer right")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=60))
def test_no_text_breaks_the_page(text: str) -> None:
    page = run_page(documents(text))
    page.encode()
    plain = Texts(run_page(documents()))
    found = Texts(page)
    kinds = {"ins", "del"}  # how an answer differs from another depends on its text
    assert [tag for tag in found.tags if tag not in kinds] == [tag for tag in plain.tags if tag not in kinds]
    assert not [name for name in found.attributes if name.startswith("on") or name in {"style", "src", "href"}]
    assert not re.search("[\u202a-\u202e\u200b-\u200f\u2066-\u2069\x00\x1b]", page)


def test_what_a_run_does_not_have_is_left_out() -> None:
    words = said(run_page(documents(plan=None, training=None, data=None)))
    assert "Memory and disk" not in words
    assert "Training" not in words
    cpu = {**(documents().training or {}), "peak_memory_bytes": None}
    assert "8.00 GiB –" in said(run_page(documents(training=cpu)))
    assert "3.00 GiB" not in said(run_page(documents(training=cpu)))
    bare = {**documents().tuned, "confusion": {}, "by_tag": {}}
    assert "Slices" not in said(run_page(documents(tuned=bare)))


def test_the_peak_of_a_card_is_not_shown_as_that_of_host_memory() -> None:
    phases = [{"phase": "train", "place": place, "needed": 2**30, "usable": 2**33} for place in ("gpu", "ram", "disk")]
    plan = {**(documents().plan or {}), "phases": phases}
    words = said(run_page(documents(plan=plan)))
    assert "train gpu 1.00 GiB 12.5 % 8.00 GiB 3.00 GiB train ram 1.00 GiB 12.5 % 8.00 GiB – train disk" in words
    on_cpu = {**(documents().training or {}), "device": "cpu"}
    words = said(run_page(documents(plan=plan, training=on_cpu)))
    assert "train gpu 1.00 GiB 12.5 % 8.00 GiB – train ram 1.00 GiB 12.5 % 8.00 GiB 3.00 GiB train disk" in words


def test_the_peak_of_settings_that_are_no_longer_planned_is_not_shown() -> None:
    def words(micro_batch_size: int) -> str:
        plan = {**(documents().plan or {}), "settings": {"micro_batch_size": 4}}
        return said(run_page(documents(plan=plan, trained_with={"micro_batch_size": micro_batch_size})))

    assert "3.00 GiB" in words(4)
    assert "3.00 GiB" not in words(2)


def test_labels_keep_the_order_of_the_contract() -> None:
    table = {"severe": {"severe": 3, "low": 1, "debug": 0}, "low": {"severe": 0, "low": 2, "debug": 0}}
    words = said(run_page(documents(tuned={**documents().tuned, "confusion": table})))
    assert "expected severe low debug right severe 3 1 0 75 % low 0 2 0 100 %" in words


def test_lineage_names_keys_and_digests() -> None:
    digest = "sha256:" + "ab" * 32
    products = {f"adapter/file{n}": Product(digest=digest, size_bytes=1) for n in range(9)} | {
        "training.json": Product(digest=digest, size_bytes=1)
    }
    manifest = Manifest.model_construct(stage="train", key="sha256:" + "0123456789abcdef" * 4, products=products)
    words = said(run_page(documents(manifests={"train": manifest})))
    assert "train sha256:0123456789ab training.json sha256:abababababab" in words
    assert "and 4 more" in words
    assert short_digest(digest) == "sha256:abababababab"


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_diff_holds_both_answers(expected: str, given_text: str) -> None:
    pieces = compare_words(expected, given_text)
    assert "".join(p.text for p in pieces if p.kind != "missing") == given_text
    assert "".join(p.text for p in pieces if p.kind != "added") == expected


def test_the_diff_shows_the_changed_words_only() -> None:
    pieces = compare_words('{"priority":"high","reason":"x"}', '{"priority":"low","reason":"x"}')
    assert [(p.text, p.kind) for p in pieces if p.kind != "same"] == [("high", "missing"), ("low", "added")]


def test_wilson_intervals_are_those_of_the_book() -> None:
    low, high = wilson(0.75, 120)
    assert (round(low, 4), round(high, 4)) == (0.6656, 0.8189)
    assert wilson(0.0, 0) == (0.0, 1.0)
