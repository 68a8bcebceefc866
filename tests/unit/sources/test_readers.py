"""Readers: what they keep, what they report, and that they never crash. pytest tests/unit/sources"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ContractError, UsageError
from holdfast.core.records import examples_bytes, read_examples
from holdfast.sources.conversation import MEANINGFUL_KEYS
from holdfast.sources.readers import Reading, check_turns, defects_error, read_file

USER = {"role": "user", "content": "is it up?"}
ANSWER = {"role": "assistant", "content": "yes"}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, *rows: Any, **options: Any) -> Reading:
    return read_file(write(folder, *rows), "rows.jsonl", **options)


def rules(folder: Path, *rows: Any, **options: Any) -> list[str]:
    return [defect.rule for defect in read(folder, *rows, **options).defects]


def test_instruction_and_input_become_one_user_turn(tmp_path: Path) -> None:
    found = read(tmp_path, {"instruction": "Classify.", "input": "Disk full", "output": "high"})
    assert found.format == "instruction"
    assert [m.content for m in found.examples[0].messages] == ["Classify.\n\nDisk full", "high"]


@pytest.mark.parametrize("empty", [{}, {"input": ""}, {"input": "  "}, {"input": None}])
def test_an_empty_input_leaves_only_the_instruction(tmp_path: Path, empty: dict[str, Any]) -> None:
    found = read(tmp_path, {"instruction": "Say hi.", **empty, "output": "hi"})
    assert found.examples[0].prompt_text == "Say hi."


def test_expected_is_the_answer_of_evaluation_rows(tmp_path: Path) -> None:
    assert read(tmp_path, {"instruction": "Say hi.", "expected": "hi"}).examples[0].answer == "hi"


def test_the_two_formats_give_the_same_example(tmp_path: Path) -> None:
    one = read(tmp_path, {"instruction": "Classify.", "input": "Disk full", "output": "high", "system": "Be short."})
    turns = [("system", "Be short."), ("user", "Classify.\n\nDisk full"), ("assistant", "high")]
    other = read(tmp_path, {"messages": [{"role": role, "content": content} for role, content in turns]})
    assert one.examples == other.examples


def test_source_split_and_scalar_extras_are_kept(tmp_path: Path) -> None:
    row = {"messages": [USER, ANSWER], "borderline": True, "domain": "web", "n": 3, "weight": 0.5, "none": None}
    found = read(tmp_path, {"messages": [USER, ANSWER]}, row, split="test")
    assert found.examples[1].source == "rows.jsonl:2"
    assert found.examples[1].split == "test"
    assert found.examples[1].tags == {"borderline": True, "domain": "web", "n": 3, "weight": 0.5}
    assert found.examples[1].tags["borderline"] is True
    assert found.ignored == {"none": 1}


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([USER], "no_answer"),
        ([USER, ANSWER, USER], "last_turn"),
        ([USER, {**ANSWER, "content": " \n"}], "empty"),
        ([USER, USER, ANSWER], "doubled_role"),
        ([USER, {"role": "system", "content": "x"}, ANSWER], "system_first"),
        ([USER, {"role": "bot", "content": "x"}, ANSWER], "role"),
        ([USER, {"content": "x"}, ANSWER], "role"),
        ([USER, {**ANSWER, "content": ["yes"]}], "content_type"),
        ([USER, {**ANSWER, "content": None}], "content_type"),
        ([ANSWER, USER, ANSWER], "first_turn"),
        ([ANSWER], "no_user"),
        ([], "no_user"),
        ([USER, {**ANSWER, "tool_calls": []}], "turn_keys"),
        ([USER, "yes"], "turn"),
        ("hello", "messages"),
        ([USER, {**ANSWER, "content": "\ud800"}], "unicode"),
    ],
)
def test_a_defective_conversation_is_reported_and_not_repaired(tmp_path: Path, messages: Any, rule: str) -> None:
    found = read(tmp_path, {"messages": messages})
    assert rule in [defect.rule for defect in found.defects]
    assert found.examples == []
    assert {defect.source for defect in found.defects} == {"rows.jsonl:1"}


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"instruction": "x"}, "no_answer"),
        ({"instruction": "", "output": "y"}, "instruction"),
        ({"instruction": "x", "output": ""}, "empty"),
        ({"instruction": "x", "output": {"a": 1}}, "content_type"),
        ({"instruction": "x", "input": 7, "output": "y"}, "content_type"),
        ({"instruction": "x", "output": "y", "expected": "z"}, "two_answers"),
        ({"instruction": "x", "output": "y", "history": [["a", "b", "c"]]}, "history"),
        ({"input": "x", "output": "y"}, "instruction"),
        ({"instruction": "x", "output": "y", "score": float("nan")}, "json"),
        ({"instruction": "x", "output": "y", "score": 2**63}, "number"),
    ],
)
def test_a_defective_instruction_row_is_reported(tmp_path: Path, row: dict[str, Any], rule: str) -> None:
    assert rules(tmp_path, row) == [rule]


def test_all_defects_are_reported_at_once_with_file_line_rule_and_value(tmp_path: Path) -> None:
    good = {"messages": [USER, ANSWER]}
    found = read(tmp_path, good, {"messages": [USER]}, good, {"messages": [USER, {**ANSWER, "content": ""}, ANSWER]})
    error = defects_error(found.defects, 4)
    assert error.exit_code == 20
    assert "2 of 4 rows are defective (3 defects" in error.message
    assert "rows.jsonl:2: no_answer:" in error.message
    assert defects_error(found.defects[:1], 4).message.startswith("1 of 4 rows is defective (1 defect; nothing")
    assert "rows.jsonl:4: doubled_role: turns 2 and 3 have the same role; found 'assistant'" in error.message


def test_a_file_that_mixes_formats_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"mixes two formats.*first rows\.jsonl:1.*first rows\.jsonl:2") as caught:
        read(tmp_path, {"messages": [USER, ANSWER]}, {"instruction": "x", "output": "y"})
    assert "format: messages" in caught.value.hint


def test_the_format_is_looked_for_in_every_row(tmp_path: Path) -> None:
    rows = [{"instruction": "x", "output": str(n)} for n in range(200)]
    with pytest.raises(ContractError, match=r"rows\.jsonl:201"):
        read(tmp_path, *rows, {"messages": [USER, ANSWER]})


def test_rows_with_unknown_keys_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"rows\.jsonl:1 has no known key \(body, title\)"):
        read(tmp_path, {"title": "x", "body": "y"})


def test_a_row_with_both_formats_needs_a_decision(tmp_path: Path) -> None:
    row = {"messages": [USER, ANSWER], "instruction": "x", "output": "y"}
    with pytest.raises(ContractError, match="has both"):
        read(tmp_path, row)
    assert read(tmp_path, row, asked="messages").examples[0].answer == "yes"
    chosen = read(tmp_path, row, asked="instruction")
    assert (chosen.examples[0].answer, chosen.ignored) == ("y", {"messages": 1})


def test_an_empty_or_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no rows"):
        read(tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        read_file(tmp_path / "none.jsonl", "none.jsonl")


words = st.text(min_size=1, max_size=40).filter(lambda text: text.strip())
scalars = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), words
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), st.none() | words, st.dictionaries(words, scalars))
def test_sound_chat_rows_come_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, str]], system: str | None, extra: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    messages = [{"role": "system", "content": system}] if system else []
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    known = {"messages", "instruction", "output", "expected"} | MEANINGFUL_KEYS
    tags = {key: value for key, value in extra.items() if key not in known}
    found = read(folder, {"messages": messages, **tags})
    assert found.defects == []
    assert [{"role": m.role, "content": m.content} for m in found.examples[0].messages] == messages
    assert found.examples[0].tags == tags
    (folder / "again.jsonl").write_bytes(examples_bytes(found.examples))
    assert read_examples(folder / "again.jsonl") == found.examples


@given(st.lists(st.tuples(anything, anything), max_size=5))
def test_checking_turns_never_crashes_and_accepts_only_sound_ones(turns: list[tuple[Any, Any]]) -> None:
    if not check_turns(turns):
        assert turns[-1][0] == "assistant"
        assert all(isinstance(content, str) and content.strip() for _, content in turns)


@given(st.dictionaries(st.sampled_from(["messages", "instruction", "input", "output", "expected", "x"]), anything))
def test_any_row_is_read_reported_or_refused(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    try:
        found = read(folder, row)
    except ContractError:
        return
    assert bool(found.examples) != bool(found.defects)
    examples_bytes(found.examples)


def test_the_last_line_needs_no_newline_and_a_bom_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"instruction": "x", "output": "y"}).encode())
    assert len(read_file(path, "bom.jsonl").examples) == 1
