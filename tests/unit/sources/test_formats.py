"""Row formats: what each keeps, and which defects it reports. pytest tests/unit/sources"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.core.config import Source
from holdfast.core.errors import ContractError
from holdfast.core.records import Example
from holdfast.core.source_config import TelemetryOptions, TicketOptions
from holdfast.sources.telemetry import number, read_event
from holdfast.sources.tickets import read_ticket
from source_rows import ASK, EVENT, GPT, HUMAN, ROWS, TICKETS, YES, as_jsonl, read_all

SYSTEM = {"from": "system", "value": "s"}


def read(folder: Path, *rows: Any, **options: Any) -> tuple[list[Example], list[str]]:
    path = folder / "r.jsonl"
    path.write_bytes(as_jsonl(list(rows)))
    examples, defects, _ = read_all(path, "r.jsonl", **options)
    return examples, [d.rule for d in defects]


def turns(example: Example) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in example.messages]


@pytest.mark.parametrize("form", [form for form in ROWS if form != "tickets"])
def test_every_format_is_told_from_its_rows(tmp_path: Path, form: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(as_jsonl(ROWS[form]))
    examples, defects, report = read_all(path)
    assert (report.files[0].format, report.files[0].detected, defects) == (form, True, [])
    assert len(examples) == len(ROWS[form])
    assert read_all(path, format=form)[0] == examples


def test_sharegpt_speakers_become_roles_and_system_comes_first(tmp_path: Path) -> None:
    examples, _ = read(
        tmp_path, {"conversations": [HUMAN, GPT], "system": "s"}, {"conversations": [SYSTEM, HUMAN, GPT]}
    )
    assert (
        turns(examples[0]) == turns(examples[1]) == [("system", "s"), ("user", HUMAN["value"]), ("assistant", "It is.")]
    )


def test_conversations_with_roles_are_messages(tmp_path: Path) -> None:
    examples, found = read(tmp_path, {"conversations": [ASK, YES]})
    assert (turns(examples[0])[-1], found) == (("assistant", "It is."), [])


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"conversations": [GPT, HUMAN, GPT]}, "first_turn"),
        ({"conversations": [HUMAN, HUMAN, GPT]}, "doubled_role"),
        ({"conversations": [HUMAN, {"from": "gpt", "value": ""}]}, "empty"),
        ({"conversations": [HUMAN, {"from": "gpt", "value": None}]}, "content_type"),
        ({"conversations": [HUMAN, {"from": "bing", "value": "x"}]}, "role"),
        ({"conversations": [HUMAN, {"from": ["gpt"], "value": "x"}]}, "role"),
        ({"conversations": [HUMAN, {"from": "function_call", "value": "{}"}, GPT]}, "tool_turn"),
        ({"conversations": [HUMAN, {**GPT, "weight": 0}]}, "turn_keys"),
        ({"conversations": [HUMAN, {"from": "gpt"}]}, "turn"),
        ({"conversations": [SYSTEM, HUMAN, GPT], "system": "other"}, "two_systems"),
        ({"conversations": [HUMAN, GPT], "system": 3}, "content_type"),
        ({"conversations": [HUMAN, GPT], "tools": "[]"}, "meaningful_key"),
        ({"conversations": "none"}, "conversations"),
        ({"messages": [ASK, {"role": "assistant", "content": "x", "tool_calls": [{}]}, YES]}, "tool_turn"),
        ({"messages": [ASK, {"role": "tool", "content": "x"}, YES]}, "tool_turn"),
        ({"instruction": "a", "question": "b", "output": "c"}, "two_instructions"),
        ({"instruction": "a", "output": "b", "response": "c"}, "two_answers"),
        ({"instruction": "a", "output": "b", "system": ["x"]}, "content_type"),
        ({"prompt": "a", "completion": "b", "label": False}, "meaningful_key"),
        ({"prompt": "a", "completion": ""}, "empty"),
        ({"prompt": "a", "completion": None}, "missing"),
        ({"prompt": [ASK, YES], "completion": [YES]}, "doubled_role"),
        ({"prompt": 3, "completion": "b"}, "messages"),
        ({"prompt": "a", "chosen": "b"}, "missing"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "same_answers"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty"),
        ({"prompt": "a", "chosen": "b", "rejected": 4}, "messages"),
        ({"chosen": "a", "rejected": "b"}, "no_prompt"),
        ({"chosen": [ASK, YES], "rejected": [{**ASK, "content": "else"}, GPT]}, "turn"),
        ({"chosen": [ASK, YES], "rejected": [{**ASK, "content": "else"}, {**YES, "content": "n"}]}, "preference"),
        ({"prompt": "a", "chosen": [ASK, YES], "rejected": [ASK, {**YES, "content": "n"}]}, "preference"),
        ({"prompt": "a", "chosen": [YES], "rejected": [ASK]}, "last_turn"),
    ],
)
def test_a_defective_row_is_reported_and_never_repaired(tmp_path: Path, row: dict[str, Any], rule: str) -> None:
    examples, found = read(tmp_path, row)
    assert examples == []
    assert rule in found


@pytest.mark.parametrize(
    ("row", "asked", "answered"),
    [
        ({"question": "a", "answer": "b"}, "a", "b"),
        ({"INSTRUCTION": "a", "RESPONSE": "b"}, "a", "b"),
        ({"instruction": "a", "response": "b", "output": "b"}, "a", "b"),
        ({"system_prompt": "s", "question": "a", "response": "b"}, "a", "b"),
        ({"instruction": "a", "context": "c", "response": "b", "category": "qa"}, "a\n\nc", "b"),
        ({"instruction": "a", "input": "", "context": "prod", "output": "b"}, "a", "b"),
    ],
)
def test_relatives_of_alpaca_are_known(tmp_path: Path, row: dict[str, Any], asked: str, answered: str) -> None:
    examples, found = read(tmp_path, row)
    assert (examples[0].prompt_text, examples[0].answer, found) == (asked, answered, [])


def test_history_becomes_earlier_turns(tmp_path: Path) -> None:
    examples, _ = read(tmp_path, {"instruction": "c", "output": "d", "history": [["a", "b"]]})
    assert turns(examples[0]) == [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": [{"role": "user", "content": "Q"}], "chosen": [{"role": "assistant", "content": "A"}],
         "rejected": "B"},
        {"prompt": "Q", "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
         "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]},
        {"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
         "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]},
        {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"},
         "rejected": {"from": "gpt", "value": "B"}},
        {"instruction": "Q", "chosen": "A", "rejected": "B"},
    ],
)  # fmt: skip
def test_all_ways_to_write_a_preference_give_one_example(tmp_path: Path, row: dict[str, Any]) -> None:
    examples, found = read(tmp_path, row)
    assert found == []
    assert (turns(examples[0]), examples[0].rejected) == ([("user", "Q"), ("assistant", "A")], "B")


@pytest.mark.parametrize(
    "rows",
    [
        [{"messages": [ASK, YES], "chosen": [ASK, YES], "rejected": [ASK, YES]}],
        [{"messages": [ASK, YES]}, {"conversations": [HUMAN, GPT]}],
        [{"prompt": "a", "completion": "b"}, {"prompt": "a", "chosen": "b", "rejected": "c"}],
        [{"text": "all in one"}],
    ],
)
def test_what_cannot_be_told_names_the_way_out(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ContractError, match="cannot be told") as caught:
        read(tmp_path, *rows)
    assert "`format: " in caught.value.hint
    assert "--format" in caught.value.hint


def test_a_table_without_a_known_column_leads_to_tickets(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("title,priority\na,high\n")
    with pytest.raises(ContractError, match=r"no known key \(priority, title\)") as caught:
        read_all(tmp_path / "t.csv")
    assert "`format: tickets`" in caught.value.hint


def test_a_column_that_is_not_utf8_is_named_with_its_byte(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("subject,body,priority,reason\nok,Größe,high,x\n".encode("latin-1"))
    _, defects, _ = read_all(tmp_path / "t.csv", "t.csv", format="tickets", tickets=TICKETS)
    assert [(d.source, d.message) for d in defects] == [("t.csv:2", "the column 'body': not UTF-8: byte 0xf6")]


def test_events_of_a_table_have_numbers_though_csv_has_only_text(tmp_path: Path) -> None:
    head = "service,signal,value,baseline,unit,context\n"
    (tmp_path / "t.csv").write_text(
        f"{head}pg,lag,95.5,2,s,\npg,lag,,2,s,\npg,lag,n/a,1e999,s,\npg,lag,{'9' * 5000},2,s,\n"
    )
    examples, defects, _ = read_all(tmp_path / "t.csv", "t.csv")
    assert [e.prompt_text for e in examples] == ["Analyze: pg lag 95.5s\nBaseline: 2s"]
    assert [(d.source, d.value[:5]) for d in defects] == [
        ("t.csv:3", "''"), ("t.csv:4", "'n/a'"), ("t.csv:4", "inf"), ("t.csv:5", "inf"),
    ]  # fmt: skip


def test_tickets_are_asked_by_their_columns_and_answered_as_json(tmp_path: Path) -> None:
    row = {"id": 7, "subject": "Checkout fails", "body": "", "priority": "critical", "reason": "no sales"}
    examples, found = read(tmp_path, row, format="tickets", tickets=TICKETS)
    assert found == []
    assert examples[0].prompt_text == "Classify the ticket.\n\nsubject: Checkout fails"
    assert json.loads(examples[0].answer) == {"priority": "critical", "reason": "no sales"}
    assert examples[0].tags == {"id": 7}


def test_one_input_column_and_one_label_stand_as_they_are(tmp_path: Path) -> None:
    options = {"instruction": "I", "answer": "text", "columns": {"input": ["t"], "output": ["label"]}}
    examples, _ = read(tmp_path, {"t": "x", "label": "low"}, tickets=options)
    assert turns(examples[0]) == [("user", "I\n\nx"), ("assistant", "low")]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"subject": "x"}, "missing_column"),
        ({"subject": "", "body": None, "priority": "p", "reason": "r"}, "empty"),
        ({"subject": "x", "body": "y", "priority": "", "reason": "r"}, "empty"),
        ({"subject": ["x"], "body": "y", "priority": "p", "reason": "r"}, "content_type"),
    ],
)
def test_a_defective_ticket_is_reported(row: dict[str, Any], rule: str) -> None:
    assert rule in [p.rule for p in read_ticket(row, TicketOptions.model_validate(TICKETS)).problems]


@pytest.mark.parametrize(
    "options",
    [
        {"format": "tickets"},
        {"format": "messages", "tickets": TICKETS},
        {"tickets": {**TICKETS, "answer": "text"}},
        {"telemetry": {"prompt": "Analyze: {servce}"}},
        {"telemetry": {"answer": " "}},
        {"prometheus": {"prompt": "{alert.__class__} {x}"}},
    ],
)
def test_wrong_options_are_refused_with_the_configuration(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Source.model_validate({"path": "x", **options})


def test_an_event_is_asked_and_interpreted_from_its_facts(tmp_path: Path) -> None:
    examples, _ = read(tmp_path, EVENT)
    assert examples[0].prompt_text == (
        "Analyze: exchange-api GET 500ms\nBaseline: 200ms\n"
        "Context: cpu_percent 12.5, hour 14, weekend no, note after a deployment"
    )
    assert examples[0].answer == (
        "exchange-api GET is above its baseline: 500ms against 200ms, 2.5 times the baseline (+150 %).\n"
        "Spread: 6 standard deviations above the mean.\n"
        "Context: cpu_percent 12.5, hour 14, weekend no, note after a deployment."
    )
    assert examples[0].tags == {"service": "exchange-api", "signal": "GET"}


def test_an_interpretation_in_the_event_wins_and_empty_lines_go() -> None:
    row = {"service": "s", "signal": "m", "value": 1, "baseline": 2, "interpretation": "Fine {value}."}
    assert list(read_event(row, TelemetryOptions()).turns) == [
        ("user", "Analyze: s m 1\nBaseline: 2"), ("assistant", "Fine {value}."),
    ]  # fmt: skip
    answer = read_event({**row, "interpretation": None}, TelemetryOptions()).turns[1][1]
    assert answer == "s m is below its baseline: 1 against 2, 0.5 times the baseline (-50 %)."


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": ""}, {"signal": 3}, {"value": "500"}, {"value": True}, {"value": None}, {"baseline": None},
        {"baseline": {"mean": "x"}}, {"baseline": {"mean": 1, "stddev": -1}}, {"context": [1]}, {"context": {"a": [1]}},
        {"baseline": {"mean": 1, "std": 2}},
        {"interpretation": 7}, {"unit": 1}, {"value": float("inf")}, {"value": 10**400},
    ],
)  # fmt: skip
def test_a_defective_event_is_reported(wrong: dict[str, Any]) -> None:
    assert [p.rule for p in read_event({**EVENT, **wrong}, TelemetryOptions()).problems] == ["event"]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18))
def test_a_number_is_shown_to_six_digits(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=1e-5, abs=1e-300)


finite = st.floats(-1e9, 1e9, allow_nan=False) | st.integers(-(10**9), 10**9)


@given(
    finite, finite, st.none() | st.floats(0, 1e6), st.dictionaries(st.text(min_size=1), st.text() | finite, max_size=3)
)
def test_every_sound_event_gets_an_answer(
    value: float, mean: float, spread: float | None, context: dict[str, Any]
) -> None:
    row = {
        "service": "s",
        "signal": "m",
        "value": value,
        "baseline": {"mean": mean, "stddev": spread},
        "context": context,
    }
    found = read_event(row, TelemetryOptions())
    if not found.problems:
        assert found.turns[1][1].startswith("s m is ")
        assert found == read_event(row, TelemetryOptions())
