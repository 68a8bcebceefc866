"""Examples and JSONL: what is written is read; every broken line is named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.core.digest import digest_document
from holdfast.core.errors import ContractError, IntegrityError
from holdfast.core.records import Example, Message, Role, examples_bytes, jsonl_bytes, read_examples, read_jsonl

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=TEXT)
TAGS = st.dictionaries(TEXT, TEXT | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False))
EXAMPLES = st.builds(
    Example,
    messages=st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    source=TEXT,
    split=st.sampled_from([None, "train", "valid", "test"]),
    tags=TAGS,
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def read(folder: Path, content: bytes) -> list[tuple[int, dict[str, Any]]]:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return list(read_jsonl(path))


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(ContractError) as caught:
        read(folder, content)
    return caught.value.message


@same_folder
@given(rows=st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=5))
def test_rows_that_are_written_are_read_back(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    assert read(tmp_path, jsonl_bytes(rows)) == list(enumerate(rows, 1))


@same_folder
@given(examples=st.lists(EXAMPLES, max_size=4))
def test_examples_that_are_written_are_read_back(tmp_path: Path, examples: list[Example]) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_bytes(examples_bytes(examples))
    found = read_examples(path)
    assert found == examples
    assert [{k: type(v) for k, v in e.tags.items()} for e in found] == [
        {k: type(v) for k, v in e.tags.items()} for e in examples
    ]


def test_line_numbers_count_blank_lines_and_all_line_endings(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbf{"a":1}\r\n\r\n  \n{"a":2}') == [(1, {"a": 1}), (4, {"a": 2})]


def test_a_line_separator_inside_a_text_does_not_split_the_row(tmp_path: Path) -> None:
    assert read(tmp_path, '{"a":"x\u2028y\u0085z"}\n'.encode()) == [(1, {"a": "x\u2028y\u0085z"})]


def test_every_broken_line_is_named(tmp_path: Path) -> None:
    lines = [
        b'{"good": 1}', b'{"a": }', b"[1]", b'"text"', b'{"n": ' + b"9" * 5000 + b"}", b'{"a": ' + b"[" * 20000,
        b'{"a": 1, "b": {"c": 1, "c": 2}}', b'{"fine": "\\ud83d\\ude00"}',
    ]  # fmt: skip
    message = refusal(tmp_path, b"\n".join(lines))
    assert message.startswith("6 of 8 rows cannot be read:")
    path = tmp_path / "rows.jsonl"
    for number, reason in {
        2: "not JSON: Expecting value at column 7", 3: "a row must be an object {…}, this is list",
        4: "a row must be an object {…}, this is str", 5: "Exceeds the limit", 6: "nested too deeply",
        7: "key 'c' is given twice in one object",
    }.items():  # fmt: skip
        assert f"{path}:{number}: {reason}" in message


def test_a_key_may_appear_once_in_each_of_two_objects(tmp_path: Path) -> None:
    assert read(tmp_path, b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}')[0][1]["b"] == [{"a": 1}, {"a": 2}]


def test_of_many_broken_lines_twenty_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    message = refusal(tmp_path, b"x\n" * 25)
    assert message.startswith("25 of 25") and message.count("not JSON") == 20 and message.endswith("… and 5 more")


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    assert "is not UTF-8: byte 6 is 0xff" in refusal(tmp_path, b'{"a":"\xff"}')


def conversation(*turns: tuple[Role, str], source: str = "a:1") -> Example:
    return Example(messages=tuple(Message(role=r, content=c) for r, c in turns), source=source)


def test_an_example_names_its_parts() -> None:
    example = conversation(("system", "s"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", "a2"))
    assert (example.answer, example.prompt_text, len(example.prompt)) == ("a2", "u1\nu2", 4)


def test_the_name_of_an_example_is_that_of_its_conversation() -> None:
    one = conversation(("user", "u"), ("assistant", "a"))
    assert one.id == conversation(("user", "u"), ("assistant", "a"), source="b:7").id
    assert one.id != conversation(("user", "u"), ("assistant", "b")).id
    assert len(one.id) == 12


@given(EXAMPLES)
def test_the_name_is_the_digest_of_the_conversation_as_canonical_json(example: Example) -> None:
    document = [{"role": message.role, "content": message.content} for message in example.messages]
    assert example.id == digest_document(document)[7:19]


@pytest.mark.parametrize("line", [b"{", b'{"messages": 7}', b'{"messages":[],"source":"a","tagz":{}}', b"\xff", b""])
def test_a_damaged_file_of_our_own_is_named_with_the_next_command(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(examples_bytes([conversation(("user", "u"), ("assistant", "a"))]) + line + b"\n")
    with pytest.raises(IntegrityError, match=r"train\.jsonl:2 is not a row that holdfast wrote") as caught:
        read_examples(path)
    assert caught.value.exit_code == 22 and "holdfast run -c FILE" in caught.value.hint
