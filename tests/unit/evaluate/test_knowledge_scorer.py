"""Answers are checked against facts: one wrong thing at a time, and the right answer in other words."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.config import Source
from holdfast.core.errors import ContractError
from holdfast.core.knowledge import KNOWLEDGE_FILE, Knowledge
from holdfast.core.records import Example, Message
from holdfast.evaluate.knowledge_scorer import Asked, asked_of, problems_of
from holdfast.evaluate.scorers import score_sample, summarize
from holdfast.evaluate.tasks import Task, check_items, read_task
from holdfast.sources.knowledge import read_knowledge_source

ANALYST = Path(__file__).parents[3] / "examples" / "analyst"
READING = read_knowledge_source(
    Source.model_validate({"path": str(ANALYST / "knowledge.yaml"), "format": "knowledge",
                           "knowledge": {"sample_nodes": 0}}), "kb",
)  # fmt: skip
FACTS: Knowledge = READING.facts
ASKED = Asked("runbook", "cpu_steal_critical", "pve7")
RIGHT = FACTS.runbook(ASKED.condition, ASKED.node)
ALERT = "ALERT\nNode: pve7\nCondition: cpu_steal_critical\nDetail: cpu_steal >= 40 %"
PLACE = "pve7 stands in rack_c, behind leaf_c."


def checks(answer: str) -> set[str]:
    return {text.split(":")[0] for text in problems_of(answer, ASKED, ALERT, RIGHT, FACTS)}


def place_checks(answer: str, reference: str = PLACE) -> list[str]:
    return problems_of(answer, Asked("topology", "", "pve7"), "Where is pve7?", reference, FACTS)


@pytest.mark.parametrize("example", READING.examples, ids=lambda e: e.source)
def test_every_reference_is_true(example: Example) -> None:
    asked = asked_of(example.tags, FACTS)
    assert asked is not None
    assert problems_of(example.answer, asked, example.prompt_text, example.answer, FACTS) == []


def test_a_runbook_in_other_words_is_right() -> None:
    other = """## Probable Cause
On pve7, which is in rack_c on leaf_c, cpu_steal >= 40 % was seen; somebody eats the processor.

## Immediate Actions
1. First `vmstat 1 10`
2. Then `pvesh get /nodes/pve7/qemu`
3. `numactl --hardware`
4. `ps aux --sort=-%cpu | head -20` shows who it is

## Escalation Criteria
Call the team lead when it is still >= 40 % later.
"""
    assert problems_of(other, ASKED, ALERT, RIGHT, FACTS) == []


@pytest.mark.parametrize(("old", "new", "check"), [
    ("## Probable Cause\n", "", "sections"),
    ("## Immediate Actions", "## Actions", "sections"),
    ("## Escalation Criteria\n", "## Escalation Criteria\n\n## More\n", "sections"),
    ("2. Steal", "Steal", "sections"),
    ("`vmstat 1 10`", "`vmstat 1 30`", "commands"),
    ("`vmstat 1 10`", "vmstat", "commands"),
    ("`numactl --hardware`", "`zpool status -v`", "commands"),
    ("/nodes/pve7/qemu", "/nodes/pve8/qemu", "commands"),
    ("`numactl --hardware`", "`qm stop 100`", "changes state"),
    ("Escalate when", "Run `reboot`. Escalate when", "changes state"),
    ("cpu_steal >= 40 %", "cpu_steal >= 30 %", "thresholds"),
    ("cpu_steal >= 40 %", "cpu_steal > 40 %", "thresholds"),
    ("cpu_steal >= 40 %", "arc_miss >= 20 % and cpu_steal >= 40 %", "thresholds"),
    ("guests wait", "57 % of guests wait", "figures"),
    ("guests wait", "the load is 12 ms and guests wait", "figures"),
    ("rack_c", "rack_a", "places"),
    ("leaf_c", "leaf_b", "places"),
    ("On pve7 (", "On pve9 (", "places"),
    ("guests wait", "as on pve2 guests wait", "places"),
    ("guests wait", "as on pve15 guests wait", "invented"),
    ("guests wait", "as in rack_d guests wait", "invented"),
    ("guests wait", "gpu_steal is high, guests wait", "invented"),
    ("guests wait", "this is io_saturated_critical, guests wait", "conditions"),
])  # fmt: skip
def test_one_wrong_thing_is_found_and_named(old: str, new: str, check: str) -> None:
    assert old in RIGHT
    assert check in checks(RIGHT.replace(old, new))


def test_sections_in_another_order_are_wrong() -> None:
    cause, actions, escalation = RIGHT.split("\n\n")
    assert "sections" in checks("\n\n".join([actions, cause, escalation]))


@pytest.mark.parametrize("name", [name for name in FACTS.conditions if name != ASKED.condition])
def test_the_runbook_of_another_condition_is_wrong(name: str) -> None:
    assert {"commands", "thresholds"} <= checks(FACTS.runbook(name, "pve7"))


@pytest.mark.parametrize("node", [node for node in FACTS.nodes if node != "pve7"])
def test_the_runbook_of_another_node_is_wrong(node: str) -> None:
    assert "places" in checks(FACTS.runbook(ASKED.condition, node))


@pytest.mark.parametrize(("answer", "right"), [
    (PLACE, True), ("It hangs on leaf_c in rack_c: pve7.", True), ("pve7 stands in rack_b, behind leaf_b.", False),
    ("pve7 stands in rack_c.", False), ("pve7 stands in rack_c, behind leaf_c, with pve2.", False),
    ("pve7 stands in rack_c, behind leaf_c, next to pve15.", False), ("", False),
    ("pve7 stands in rack_c, behind leaf_c, 3 m high.", False),
])  # fmt: skip
def test_answers_about_places(answer: str, right: bool) -> None:
    assert (place_checks(answer) == []) is right


def test_an_untrue_reference_is_noticed() -> None:
    wrong = "pve7 stands in rack_b, behind leaf_b."
    assert any("is not true of pve7" in text for text in place_checks(wrong, wrong))


@given(st.text(max_size=300))
def test_any_answer_gets_a_verdict_and_nonsense_is_never_right(answer: str) -> None:
    assert problems_of(answer, ASKED, ALERT, RIGHT, FACTS)


@given(st.sampled_from(sorted(set(re.findall(r"[\w.%/-]+", RIGHT)) - {"of", "the"})))
def test_losing_a_command_a_place_or_a_heading_is_never_right(word: str) -> None:
    needed = {
        "pvesh",
        "vmstat",
        "numactl",
        "ps",
        "head",
        "pve7",
        "rack_c",
        "leaf_c",
        "Probable",
        "Actions",
        "cpu_steal",
    }
    if word in needed:
        assert checks(re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", "", RIGHT))


# --- in the run


def example(answer: str, **tags: str) -> Example:
    messages = (Message(role="user", content=ALERT), Message(role="assistant", content=answer))
    return Example(messages=messages, source="t:1", tags=tags)


TAGS = {"kind": "runbook", "condition": "cpu_steal_critical", "node": "pve7"}
TASK = Task(task="analyst", knowledge=FACTS)


def test_samples_carry_the_score_and_what_was_wrong() -> None:
    good = score_sample(TASK, example(RIGHT, **TAGS), RIGHT, True, 9)
    bad = score_sample(TASK, example(RIGHT, **TAGS), RIGHT.replace("rack_c", "rack_a"), True, 9)
    assert (good["scores"]["knowledge"], good["problems"]) == (1, [])
    assert bad["scores"]["knowledge"] == 0
    assert any(text.startswith("places: rack_a") for text in bad["problems"])
    summary = summarize([good, bad])
    assert (summary["knowledge"], summary["problems"]) == (0.5, {"places": 1})
    assert summary["by_tag"]["node"]["pve7"]["knowledge"] == 0.5


def test_without_a_knowledge_base_nothing_about_it_is_written() -> None:
    row = score_sample(Task(task="plain"), example("a"), "a", True, 1)
    assert "knowledge" not in row["scores"]
    assert "problems" not in row
    assert "knowledge" not in summarize([row])


def test_the_task_brings_the_facts_beside_it(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"task": "t"}')
    assert read_task(tmp_path / "task.json").knowledge is None
    (tmp_path / KNOWLEDGE_FILE).write_text(FACTS.model_dump_json())
    assert read_task(tmp_path / "task.json").knowledge == FACTS


@pytest.mark.parametrize(("item", "message"), [
    (example(RIGHT.replace("leaf_c", "leaf_a"), **TAGS), "the reference answer is not true to the knowledge base"),
    (example(RIGHT, kind="runbook", condition="nothing", node="pve7"), "its tags kind, condition and node"),
    (example(RIGHT), "its tags kind, condition and node"),
])  # fmt: skip
def test_items_that_cannot_be_checked_stop_the_run_before_a_model_is_loaded(item: Example, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_items(TASK, [item], "knowledge")
    check_items(TASK, [item], "label_accuracy")


def test_deciding_by_knowledge_needs_a_knowledge_base() -> None:
    with pytest.raises(ContractError, match="there is no knowledge base to check the answer against"):
        check_items(Task(task="plain"), [example(RIGHT, **TAGS)], "knowledge")
