"""Each rule of the contract, one row that breaks it: pytest tests/unit/dataset"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdfast.core.records import Example, Message
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.validate import strict_json, validate_example, validate_examples, violations_error

CONTRACT = DatasetContract(
    task="triage",
    instruction="Classify.",
    label_field="priority",
    labels=("high", "low"),
    required_fields=("priority", "reason"),
    max_input_chars=40,
    max_output_chars=80,
)
GOOD = '{"priority":"high","reason":"disk full"}'


def example(asked: str = "Classify.\n\nDisk full", answer: str = GOOD, line: int = 1) -> Example:
    turns = (Message(role="user", content=asked), Message(role="assistant", content=answer))
    return Example(messages=turns, source=f"a.jsonl:{line}")


def rules(row: Example, contract: DatasetContract = CONTRACT) -> list[str]:
    return [violation.rule for violation in validate_example(row, contract)]


def test_a_row_that_keeps_the_contract_has_no_violation() -> None:
    assert rules(example()) == []


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("high", "json"),
        (GOOD + " Done.", "json"),
        ("```json\n" + GOOD + "\n```", "json"),
        ('{"priority":"high","priority":"low","reason":"x"}', "json"),
        ('{"priority":"high","reason":NaN}', "json"),
        ('["high"]', "object"),
        ('{"priority":"high"}', "field_missing"),
        ('{"priority":"high","reason":" "}', "field_text"),
        ('{"priority":"high","reason":7}', "field_text"),
        ('{"priority":"High","reason":"x"}', "label"),
        ('{"priority":"high","reason":"x","note":"y"}', "field_unknown"),
        ('{"priority":"high","reason":"' + "x" * 80 + '"}', "output_length"),
    ],
)
def test_a_broken_answer_is_named_by_its_rule(answer: str, rule: str) -> None:
    assert rules(example(answer=answer)) == [rule]


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ("Disk full", "instruction"),
        ("Classify.now", "instruction"),
        ("Classify.", "input"),
        ("Classify.\n\n" + "x" * 41, "input_length"),
    ],
)
def test_a_broken_prompt_is_named_by_its_rule(asked: str, rule: str) -> None:
    assert rules(example(asked)) == [rule]


def test_a_second_question_breaks_single_turn_and_a_system_turn_does_not() -> None:
    row = example()
    assert rules(replace(row, messages=(*row.messages, *row.messages))) == ["single_turn"]
    assert rules(replace(row, messages=(Message(role="system", content="x"), *row.messages))) == []


def test_other_fields_are_fine_when_the_contract_allows_them() -> None:
    relaxed = CONTRACT.model_copy(update={"allow_other_fields": True})
    assert rules(example(answer='{"priority":"high","reason":"x","note":["y"]}'), relaxed) == []


def test_every_violation_of_every_row_is_reported_and_fifty_are_shown() -> None:
    rows = [example("Disk full", "high", line) for line in range(1, 41)]
    found = validate_examples(rows, CONTRACT)
    assert len(found) == 80
    error = violations_error(found, len(rows))
    assert error.exit_code == 20
    assert "40 of 40 rows break the contract (80 violations)" in error.message
    assert "a.jsonl:1: json: the answer is not strict JSON: Expecting value at character 1; found high" in error.message
    assert "… and 30 more" in error.message


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, "", "{'a': 1}"])
def test_strict_json_raises_only_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        strict_json(text)


@given(st.text(), st.text())
def test_validation_never_crashes(asked: str, answer: str) -> None:
    for violation in validate_example(example(asked, answer), CONTRACT):
        violation.value.encode()


RUNBOOK = DatasetContract(
    task="runbook",
    instruction="",
    answer="sections",
    required_sections=("Probable cause", "Immediate actions", "Escalation"),
)
GOOD_RUNBOOK = "## Probable cause\nA full disk.\n\nImmediate actions: df -h\nrm nothing\n**Escalation:**\nCall storage."


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (GOOD_RUNBOOK, None),
        (GOOD_RUNBOOK.replace("## Probable cause", "PROBABLE CAUSE:"), None),
        (GOOD_RUNBOOK.replace("Immediate actions:", "Immediate things:"), "section_missing"),
        ("Escalation: x\n# Probable cause\ny\n# Immediate actions\nz", "section_order"),
        (GOOD_RUNBOOK + "\n# Escalation\nagain", "section_twice"),
        (GOOD_RUNBOOK.replace("A full disk.", " "), "section_empty"),
        (GOOD_RUNBOOK.replace("df -h", "df -h\n```\n# Escalation\n```"), None),
    ],
)
def test_sections_are_there_once_in_order_and_not_empty(answer: str, rule: str | None) -> None:
    assert rules(example("Disk full on n1", answer), RUNBOOK) == ([rule] if rule else [])


def test_other_sections_can_be_forbidden() -> None:
    strict = RUNBOOK.model_copy(update={"allow_other_sections": False})
    assert rules(example("x", GOOD_RUNBOOK + "\n# Notes\nmore"), strict) == ["section_unknown"]


def test_plain_text_answers_may_be_labels() -> None:
    contract = DatasetContract(task="t", instruction="", answer="text", labels=("up", "down"), min_output_chars=2)
    assert rules(example("x", "up"), contract) == []
    assert rules(example("x", "sideways"), contract) == ["label"]
    assert rules(example("x", "u"), contract) == ["output_length", "label"]


def test_a_json_schema_names_the_place_of_each_error() -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}}}
    contract = DatasetContract(task="t", instruction="", json_schema=schema)
    assert rules(example("x", '{"n": 2, "more": true}'), contract) == []
    found = validate_example(example("x", '{"n": 0}'), contract)
    assert [(v.rule, v.value) for v in found] == [("schema", "0")]
    assert "$.n" in found[0].message
    assert rules(example("x", "[1]"), contract) == ["schema"]


def test_letters_of_other_scripts_are_named() -> None:
    contract = DatasetContract(task="t", instruction="", answer="text", scripts=("Latin",))
    assert rules(example("Größe 5 µs → ok 😀", "ça va"), contract) == []
    found = validate_example(example("диск full", "yes"), contract)
    assert [v.rule for v in found] == ["script"] and found[0].value.startswith("Cyrillic: д")
    assert rules(example("диск full", "yes"), contract.model_copy(update={"scripts": ("Latin", "Cyrillic")})) == []


def test_turns_can_be_limited() -> None:
    contract = DatasetContract(task="t", instruction="", answer="text", single_turn=False, max_turns=2)
    row = example("x", "y")
    assert rules(row, contract) == []
    assert rules(replace(row, messages=(*row.messages, *row.messages)), contract) == ["turns"]


@given(st.text(st.sampled_from("#`~: *\nab A"), max_size=60))
def test_section_checks_never_crash(answer: str) -> None:
    contract = RUNBOOK.model_copy(update={"required_sections": ("a", "b a")})
    validate_example(example("x", answer), contract)
