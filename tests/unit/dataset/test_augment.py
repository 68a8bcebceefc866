"""Rules make tagged, capped training rows that depend on rows, rules and seed alone. pytest tests/unit/dataset"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import ConfigError
from holdfast.core.records import Example, Message
from holdfast.dataset.augment import Augmented, augment, change_fields
from holdfast.dataset.augment_rules import AugmentRules, read_rules
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.similarity import jaccard, shingles
from holdfast.dataset.validate import input_text, validate_example

CONTRACT = DatasetContract(
    task="t", instruction="Classify.", label_field="priority", labels=("high", "low"),
    required_fields=("priority", "reason"),
)  # fmt: skip
RULES: dict[str, Any] = {
    "slots": {
        "opening": ["Hello,", "Night shift:", "{who} writes:"],
        "who": ["The desk", "A customer"],
        "alert": [{"text": "printer empty", "priority": "low"}, {"text": "core switch down", "priority": "high"}],
        "site": [f"site {n}" for n in range(40)],
    },
    "paraphrases": [{"name": "greeting", "text": "{opening} {input}", "when": {"label": ["high"]}, "rows": 2}],
    "contrasts": [
        {"name": "one-user", "pattern": "all (users|sites)", "replace": "one of the \\1, {who} says,",
         "set": {"priority": "low", "reason": "one only"}},
    ],
    "grammars": [
        {"name": "alerts", "text": "{instruction}\n\n{alert} at {site}", "rows": 30, "tags": {"domain": "{alert}"},
         "answer": '{"priority":"{alert.priority}","reason":"{alert}"}'},
    ],
}  # fmt: skip


def row(n: int, text: str, label: str, **tags: Any) -> Example:
    answer = json.dumps({"priority": label, "reason": f"because {n}"}, separators=(",", ":"))
    turns = (Message(role="user", content=f"Classify.\n\n{text}"), Message(role="assistant", content=answer))
    return Example(messages=turns, source=f"train.jsonl:{n}", split="train", tags=tags)


def rows(count: int) -> list[Example]:
    parts = ["mail gone for all users", "badge reader slow", "backup late at all sites", "ledger locked"]
    return [row(n, f"{parts[n % 4]} {n * 7919} since {n * 31}:00", ("high", "low")[n % 3 == 0]) for n in range(count)]


def make(examples: list[Example], rules: Any = None, seed: int = 1, **options: Any) -> Augmented:
    options = {"max_share": 0.5, "contract": CONTRACT, **options}
    return augment(examples, AugmentRules.model_validate(RULES if rules is None else rules), seed, **options)


def test_every_new_row_is_tagged_sits_in_train_and_keeps_the_contract() -> None:
    made = make(rows(60))
    assert len(made.rows) > 20
    assert {r.tags["augmentation"] for r in made.rows} == {"greeting", "one-user", "alerts"}
    for new in made.rows:
        assert new.tags["synthetic"] is True
        assert new.split == "train"
        assert validate_example(new, CONTRACT) == []
        if new.tags["augmentation"] != "alerts":
            assert new.tags["from"] in {r.source for r in rows(60)}
            assert new.source.startswith(f"{new.tags['from']}+")
    assert len({r.source for r in made.rows}) == len(made.rows)


def test_a_paraphrase_keeps_the_answer_and_the_words() -> None:
    originals = {r.source: r for r in rows(60)}
    found = [r for r in make(rows(60)).rows if r.tags["augmentation"] == "greeting"]
    assert found
    for new in found:
        before = originals[str(new.tags["from"])]
        assert new.answer == before.answer
        assert json.loads(before.answer)["priority"] == "high"
        assert new.prompt_text.startswith("Classify.\n\n")
        assert new.prompt_text.endswith(input_text(before, "Classify."))
        assert new.prompt_text != before.prompt_text


def test_a_contrast_changes_one_fact_and_the_label() -> None:
    found = [r for r in make(rows(60)).rows if r.tags["augmentation"] == "one-user"]
    assert found
    for new in found:
        assert json.loads(new.answer) == {"priority": "low", "reason": "one only"}
        assert "one of the users, " in new.prompt_text or "one of the sites, " in new.prompt_text
        assert " all " not in new.prompt_text


def test_a_grammar_row_has_the_label_of_its_slot() -> None:
    for new in (r for r in make(rows(60)).rows if r.tags["augmentation"] == "alerts"):
        wanted = "high" if "core switch" in new.prompt_text else "low"
        assert json.loads(new.answer)["priority"] == wanted
        assert str(new.tags["domain"]) in new.prompt_text


def test_a_new_row_that_contradicts_or_repeats_a_training_row_is_left_out() -> None:
    own = row(99, "core switch down at site 7", "low")
    rules = {"grammars": [{"name": "g", "text": "{instruction}\n\nCore  switch down at SITE 7", "rows": 1,
                           "answer": '{"priority":"high","reason":"x"}'}]}  # fmt: skip
    made = make([*rows(20), own], rules)
    assert made.rows == []
    assert made.counts["by_rule"]["g"] == {
        "made": 0, "near_held_out": 0, "duplicate": 0, "conflicting": 1, "used_up": True,
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.floats(0, 0.95), st.integers(0, 9))
def test_the_share_of_synthetic_rows_is_capped(count: int, share: float, seed: int) -> None:
    made = make(rows(count), seed=seed, max_share=share)
    total = count + len(made.rows)
    assert not total or len(made.rows) / total <= share + 1e-9
    assert made.counts["synthetic"] == len(made.rows) == sum(r["made"] for r in made.counts["by_rule"].values())


def test_the_cap_is_filled_and_shared_by_the_rules() -> None:
    made = make(rows(100), max_share=0.2)
    assert len(made.rows) == 25
    counts = [rule["made"] for rule in made.counts["by_rule"].values()]
    assert max(counts) - min(counts) <= 1


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 1000))
def test_the_order_of_the_rows_changes_nothing(rng: random.Random, seed: int) -> None:
    shuffled = rows(30)
    rng.shuffle(shuffled)
    assert make(shuffled, seed=seed).rows == make(rows(30), seed=seed).rows


def test_another_seed_makes_other_rows() -> None:
    assert make(rows(30), seed=1).rows != make(rows(30), seed=2).rows


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), st.floats(0.2, 0.9))
def test_no_new_row_is_near_a_held_out_one(seed: int, threshold: float) -> None:
    held = [row(500 + n, f"core switch down at site {n}", "high") for n in range(0, 40, 2)]
    made = make(rows(20), seed=seed, held_out=held, threshold=threshold)
    for new in made.rows:
        for other in held:
            pair = (shingles(input_text(e, "Classify.")) for e in (new, other))
            assert jaccard(*pair) < threshold


def test_near_held_out_rows_are_counted() -> None:
    held = [row(500 + n, f"core switch down at site {n}, please", "high") for n in range(40)]
    counts = make(rows(60), held_out=held, threshold=0.6, max_share=0.9).counts["by_rule"]["alerts"]
    assert counts["near_held_out"] > 5
    assert counts["made"] + counts["near_held_out"] == 30
    assert counts["used_up"]


def test_changed_fields_keep_the_way_the_answer_is_written() -> None:
    assert change_fields('{"a":"1","b":"x, y"}', {"a": "é"}) == '{"a":"é","b":"x, y"}'
    assert change_fields('{"a": "1"}', {"a": "2"}) == '{"a": "2"}'
    assert change_fields("plain", {"a": "2"}) is None
    assert change_fields("[1]", {"a": "2"}) is None


def test_a_shared_system_turn_comes_before_grammar_rows() -> None:
    system = Message(role="system", content="Be short.")
    examples = [Example(messages=(system, *r.messages), source=r.source, split="train") for r in rows(20)]
    made = [r for r in make(examples).rows if r.tags["augmentation"] == "alerts"]
    assert made
    assert all(r.messages[0] == system for r in made)


def test_decomposed_rows_have_markers_and_the_answers_own_words() -> None:
    answer = "## Cause\n\nDisk slow.\n\n## Actions\n\n1. Run `zpool status`.\n2. Run `qm list`."
    answer += "\n\n## Escalation\n\nCall."
    turns = (Message(role="user", content="Alert on pve7"), Message(role="assistant", content=answer))
    made = augment(
        [Example(messages=turns, source="a:1")], AugmentRules.model_validate({"decompose": {}}), 1, max_share=0.95
    )
    plan, *steps = made.rows
    assert plan.answer.startswith("<decompose>\n<step>1. Cause</step>\n<step>2. Actions</step>\n<step>3. Run `zpool")
    assert plan.answer.endswith(f"</decompose>\n\n{answer}")
    assert [step.answer for step in steps] == [
        "Disk slow.", "1. Run `zpool status`.\n2. Run `qm list`.", "Run `zpool status`.", "Run `qm list`.", "Call.",
    ]  # fmt: skip
    assert steps[2].prompt_text == "Alert on pve7\n\n<step>3. Run `zpool status`.</step>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grammars: [{name: g, text: '{nod}', answer: x, rows: 1}]", "rule 'g' names {nod}, which is not a slot"),
        ("slots: {a: ['{a}']}", "slot 'a' holds itself"),
        ("contrasts: [{name: c, pattern: '(', replace: x, answer: y}]", "pattern is not a regular expression"),
        ("contrasts: [{name: c, pattern: a, replace: x}]", "give either set or answer"),
        ("contrasts: [{name: c, pattern: a, replace: '\\1', answer: y}]", "replace names group 1, the pattern has 0"),
        ("paraphrases: [{name: a, text: x}, {name: a, text: y}]", "the name 'a' is used 2 times"),
        ("paraphrase: []", "did you mean 'paraphrases'"),
    ],
)
def test_a_wrong_rules_file_says_where_and_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "augment.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_rules(path)
    assert message in caught.value.message
    assert str(path) in caught.value.message
