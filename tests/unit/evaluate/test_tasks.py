import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ContractError, IntegrityError
from holdfast.core.records import Example, Message
from holdfast.evaluate.tasks import Task, check_items, normalise, parse_object, read_task, reference_label

TRIAGE = {
    "task": "triage", "instruction": "Classify.", "system_prompt": "", "label_field": "priority",
    "labels": ["high", "low"], "required_fields": ["priority", "reason"],
    "schema": {"type": "object", "additionalProperties": False},
}  # fmt: skip
TASK = Task.model_validate(TRIAGE)
PLAIN = Task(task="plain")
BARE = Task(task="bare", labels=("high", "low"))


def example(answer: str, question: str = "q", source: str = "t.jsonl:1") -> Example:
    messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Example(messages=messages, source=source)


def test_task_is_read_as_prepare_writes_it(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text(json.dumps({**TRIAGE, "a_later_field": 1}))
    task = read_task(tmp_path / "task.json")
    assert task == TASK
    assert task.wants_json and not task.allows_other_fields and task.fields == {"priority", "reason"}


def test_task_without_a_contract_asks_for_no_json() -> None:
    empty = {**TRIAGE, "label_field": None, "labels": [], "required_fields": [], "schema": None}
    assert not Task.model_validate(empty).wants_json


@pytest.mark.parametrize("content", [None, "{", '{"labels": []}', "[]"])
def test_broken_task_file_is_an_integrity_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "task.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"task\.json"):
        read_task(tmp_path / "task.json")


@pytest.mark.parametrize(
    "text",
    ["", "null", "[1]", '```json\n{"a": 1}\n```', '{"a": 1} ok', 'x {"a": 1}', '{"a": 1, "a": 1}',
     '{"a": {"b": 1, "b": 2}}', '{"a": NaN}', "{'a': 1}", '{"a": 1', '{"a": "\\ud800"}',
     "[" * 100_000, '{"a": "line\nbreak"}', '\ufeff{"a": 1}',
     '\u00a0{"a": 1}', '{"a": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_text_that_is_not_one_strict_object_is_refused(text: str) -> None:
    assert parse_object(text) is None


@given(st.dictionaries(st.text(), st.text()), st.text(" \t\r\n"), st.text(" \t\r\n"))
def test_every_object_parses_back_with_white_space_around_it(value: dict[str, str], before: str, after: str) -> None:
    assert parse_object(before + json.dumps(value, ensure_ascii=False) + after) == value


@given(st.text(st.characters()))
def test_parse_object_never_raises_and_its_result_can_be_written(text: str) -> None:
    value = parse_object(text)
    assert value is None or json.dumps(value, ensure_ascii=False).encode()


@given(st.text())
def test_normalise_is_idempotent_for_spaces(text: str) -> None:
    assert normalise(f"  {text}\n") == normalise(text)


def test_reference_label_comes_from_json_or_is_the_bare_label() -> None:
    assert reference_label(TASK, example('{"priority": "high", "reason": "r", "more": 1}')) == "high"
    assert reference_label(TASK, example(" High ")) == "high"
    assert reference_label(BARE, example("LOW")) == "low"
    assert reference_label(PLAIN, example("anything")) is None


@pytest.mark.parametrize("answer", ["urgent", '{"priority": "urgent"}', '{"reason": "r"}', '{"priority": ["high"]}'])
def test_reference_without_a_known_label_names_its_row(answer: str) -> None:
    with pytest.raises(ContractError, match=r"t\.jsonl:7.*high, low"):
        reference_label(TASK, example(answer, source="t.jsonl:7"))


def test_check_items_names_every_problem_at_once() -> None:
    good = '{"priority": "low", "reason": "r"}'
    rows = [example(good, "a", "t:1"), example(good, "a", "t:2"), example("?", "b", "t:3"), example(good, "c", "t:4")]
    with pytest.raises(ContractError, match=r"2 of 4") as caught:
        check_items(TASK, rows)
    assert "t:2: the same item as t:1" in str(caught.value) and "t:3" in str(caught.value)
    check_items(TASK, [rows[0], rows[3]])


def test_check_items_refuses_an_empty_test_set() -> None:
    with pytest.raises(ContractError, match="0 test items"):
        check_items(TASK, [])


def test_an_item_that_the_prompt_of_all_items_shows_is_not_held_out() -> None:
    asked = "Nobody in the branch can print\nsince the update of this morning."
    shot = f"Be brief. For example: {asked.upper()} -> high"
    system = Message(role="system", content=shot)
    plain = example("high", f"Classify.\n\n{asked}", "t.jsonl:3")
    shown = Example(messages=(system, *plain.messages), source=plain.source)
    check_items(BARE, [plain])
    with pytest.raises(ContractError, match=r"t\.jsonl:3: the system prompt holds this very item"):
        check_items(BARE.model_copy(update={"instruction": "Classify."}), [shown])
    with pytest.raises(ContractError, match="the instruction holds this very item"):
        check_items(BARE.model_copy(update={"instruction": shot}), [example("high", f"{shot}\n\n{asked}")])


def test_a_short_question_may_stand_in_a_prompt_by_chance() -> None:
    system = Message(role="system", content="Say how bad it is when the disk is full.")
    check_items(BARE, [Example(messages=(system, *example("high", "disk is full").messages), source="t:1")])
