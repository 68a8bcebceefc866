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
