"""How rows are wrapped: JSONL, array, object with a list, CSV, Parquet - with exact lines. pytest tests/unit/sources"""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.config import Source
from holdfast.core.errors import ContractError
from holdfast.sources import jsonrows
from holdfast.sources.readers import read_source
from source_rows import EVENT, ROWS, TICKETS, as_jsonl, as_parquet, read_all

ROW = b'{"instruction": "a", "output": "b"}'


def write(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def defects(folder: Path, data: bytes, name: str = "r.jsonl", **options: Any) -> list[tuple[str, str, str]]:
    _, found, _ = read_all(write(folder, name, data), name, **options)
    return [(d.source, d.rule, d.message) for d in found]


def test_all_files_of_a_folder_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", b"")
    write(tmp_path, "b.jsonl", ROW)
    write(tmp_path, "c.jsonl", b'{"text": "x"}')
    with pytest.raises(
        ContractError, match=r"(?s)2 files cannot be read:.*a\.jsonl is empty.*c\.jsonl:1 has no known key"
    ):
        read_all(tmp_path)


def test_a_file_of_zero_bytes_is_not_taken_for_utf16(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="64 zero bytes and nothing else"):
        read_all(write(tmp_path, "r.jsonl", bytes(64)))


@pytest.mark.parametrize(
    ("line", "rule", "message"),
    [
        (b'{"instruction": "a", "output": "b",}', "json", "a comma before the closing }"),
        (b'{"instruction": "a", "output": ["b",]}', "json", "a comma before the closing ]"),
        (b'{"instruction": "a", "instruction": "b", "output": "b"}', "json", "'instruction' is given twice"),
        (b'{"x" : ":", "x": 1}', "json", "'x' is given twice"),
        (b'{"a": "\\":", "b" : 1, "b": 2}', "json", "'b' is given twice"),
        (b'{"instruction": "a", "output": "\xff"}', "json", "not UTF-8: byte 0xff at column 33"),
        (b'{"instruction": "a", "output": "b", "n": NaN}', "json", "NaN is not a JSON value"),
        (b'{"instruction": "a", "output": "b", "n": -Infinity}', "json", "-Infinity is not a JSON value"),
        (b'{"instruction": "a", "output": "b"} x', "json", "something follows the value"),
        (b"[" * 100_000, "json", "nested too deeply"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "json", "nested too deeply"),
        (b'{"instruction": "a"', "json", "not JSON"),
        (b'{"instruction": "a', "json", "not JSON: Unterminated string starting at column 17"),
        (b"42", "object", "this is int"),
        (b'{"instruction": "a", "output": "b", "n": 1e999}', "number", "not a finite number"),
        (b'{"instruction": "a", "output": "b", "n": ' + b"9" * 5000 + b"}", "json", ""),
        (b'{"instruction": "a", "output": "\\ud800"}', "unicode", "half of a surrogate pair"),
    ],
)
def test_a_broken_line_is_a_defect_and_the_next_lines_are_read(
    tmp_path: Path, line: bytes, rule: str, message: str
) -> None:
    path = write(tmp_path, "r.jsonl", ROW + b"\r\n\r\n" + line + b"\n" + ROW)
    examples, found, report = read_all(path, "r.jsonl")
    assert [e.source for e in examples] == ["r.jsonl:1", "r.jsonl:4"]
    assert [(d.source, d.rule) for d in found] == [("r.jsonl:3", rule)]
    assert message in found[0].message
    assert len(found[0].value) <= 80
    assert (report.rows, report.files[0].defective) == (3, 1)


def test_a_line_beyond_the_limit_is_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrows, "ROW_LIMIT", 100)
    monkeypatch.setattr(jsonrows, "BLOCK", 16)
    assert defects(tmp_path, ROW + b"\n" + b"x" * 1000 + b"\n" + ROW) == [
        ("r.jsonl:2", "row_size", "a row may have 0 MiB"),
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8") | st.sampled_from(list('":\\ \t'))),
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(st.sampled_from(['a', 'b:', '"', ' ', 'c']), inner)),
    max_leaves=12,
)  # fmt: skip


def _dump(value: Any, spaces: list[str]) -> str:
    """JSON text in which a list of pairs is an object, so that keys may repeat, with any spaces around the colons."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        pairs = (f"{json.dumps(k)}{spaces[0]}:{spaces[1]}{_dump(v, spaces)}" for k, v in value)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_dump(item, spaces) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(json_values, st.lists(st.sampled_from(["", " ", "  ", "\t"]), min_size=2, max_size=2))
def test_the_fast_decoder_agrees_with_the_strict_one(value: Any, spaces: list[str]) -> None:
    data = _dump(value, spaces).encode()
    outcomes = []
    for decode in (jsonrows.decode, jsonrows.decode_strictly):
        try:
            outcomes.append(decode(data))
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_value_or_a_reason(data: bytes) -> None:
    try:
        jsonrows.decode(data)
    except ValueError as error:
        assert str(error)


ARRAY = [{"instruction": f"q{n}", "output": "é" * n, "n": n} for n in range(1, 200)]


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_row_by_row_with_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, indent: int | None
) -> None:
    monkeypatch.setattr(jsonrows, "BLOCK", block)
    text = json.dumps(ARRAY, indent=indent, ensure_ascii=False)
    examples, found, report = read_all(write(tmp_path, "rows.json", b"\xef\xbb\xbf" + text.encode()), "rows.json")
    assert found == []
    assert [e.answer for e in examples] == [row["output"] for row in ARRAY]
    lines = [text.count("\n", 0, text.index(f'"q{n}"')) for n in range(1, 200)] if indent else [1] * 199
    assert [int(e.source.rpartition(":")[2]) for e in examples] == lines
    assert "JSON array" in report.files[0].reason


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        (b"[" + ROW + b",\n" + ROW + b",\n]", "r.jsonl:3", "a comma before the closing ]"),
        (b"[" + ROW + b"\n" + ROW + b"]", "r.jsonl:2", "expected , or ]"),
        (b"[" + ROW + b",\n{bad}]", "r.jsonl:2", "not JSON"),
        (b"[" + ROW + b"]\n{}", "r.jsonl:2", "something follows the array"),
        (b"[" + ROW + b",\n3]", "r.jsonl:2", "a row must be an object"),
        (b"[" + ROW, "r.jsonl:1", "expected , or ]"),
        (b"[" + ROW + b',\n{"instruction": "a\xff", "output": "b"}]', "r.jsonl:2", "not UTF-8: byte 0xff"),
        (b"[" + ROW + b',\n{"a": 1,\n"a": 2}]', "r.jsonl:2", "'a' is given twice"),
    ],
)
def test_a_broken_array_says_where_and_keeps_what_came_before(
    tmp_path: Path, text: bytes, source: str, message: str
) -> None:
    examples, found, _ = read_all(write(tmp_path, "r.jsonl", text), "r.jsonl")
    assert examples[0].source == "r.jsonl:1"
    assert found[0].source == source
    assert message in found[0].message


def test_an_empty_array_holds_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no rows"):
        read_all(write(tmp_path, "r.json", b" [ ] "))


def test_an_object_with_one_list_gives_its_rows_with_lines(tmp_path: Path) -> None:
    text = json.dumps({"version": 1, "n": {"data": [1]}, "data": ARRAY[:2]}, indent=1)
    examples, found, report = read_all(write(tmp_path, "r.json", text.encode()), "r.json")
    assert [e.source for e in examples] == ["r.json:9", "r.json:14"]
    assert (found, "JSON object" in report.files[0].reason) == ([], True)


def test_two_lists_in_an_object_need_a_decision(tmp_path: Path) -> None:
    text = json.dumps({"train": ARRAY, "test": ARRAY}, indent=1)
    with pytest.raises(ContractError, match="2 lists of rows .'train', 'test'."):
        read_all(write(tmp_path, "r.json", text.encode()))


@pytest.mark.parametrize("indent", [None, 1])
def test_one_row_alone_in_a_json_file_is_a_row(tmp_path: Path, indent: int | None) -> None:
    examples, _, _ = read_all(write(tmp_path, "r.json", json.dumps(ROWS["messages"][0], indent=indent).encode()))
    assert len(examples) == 1


def test_lines_in_a_file_called_json_are_lines(tmp_path: Path) -> None:
    assert len(read_all(write(tmp_path, "r.json", ROW + b"\n" + ROW))[0]) == 2


def test_utf_16_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is UTF-16"):
        read_all(write(tmp_path, "r.jsonl", ROW.decode().encode("utf-16")))


@pytest.mark.parametrize("before", ["\r\n\r\n", "sep=;\r\n", '"sep=;"\n\n'])
def test_what_stands_before_a_header_does_not_change_what_stands_between_fields(tmp_path: Path, before: str) -> None:
    text = before + "instruction;output\na, b, c;d\n"
    examples, found, _ = read_all(write(tmp_path, "t.csv", text.encode()), "t.csv")
    assert [(e.source, e.answer) for e in examples] == [(f"t.csv:{text.count(chr(10))}", "d")]
    assert (found, examples[0].prompt_text) == ([], "a, b, c")


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table_with_a_header_gives_rows_at_the_line_where_they_begin(tmp_path: Path, delimiter: str) -> None:
    text = 'instruction,output,domain\r\n"two\nlines",b,web\r\n\r\nc,"d ""x""",\r\n'.replace(",", delimiter)
    examples, found, report = read_all(write(tmp_path, "t.csv", b"\xef\xbb\xbf" + text.encode()), "t.csv")
    assert [(e.source, e.answer) for e in examples] == [("t.csv:2", "b"), ("t.csv:5", 'd "x"')]
    assert found == []
    assert report.files[0].format == "instruction"


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (b"a,b,c", "fields"), (b"a", "fields"), (b'"a"x,b', "csv"), (b"a\xff,b", "unicode"), (b'"a,b', "csv"),
        (b",b", "instruction"), (b"a,", "empty"),
    ],
)  # fmt: skip
def test_a_defective_row_of_a_table_is_reported(tmp_path: Path, row: bytes, rule: str) -> None:
    data = b"instruction,output\na,b\n" + row + b"\n"
    found = defects(tmp_path, data, "t.csv")
    assert [(source, found_rule) for source, found_rule, _ in found] == [("t.csv:3", rule)]


@pytest.mark.parametrize(
    ("header", "message"),
    [(b"a,a\n", "names 'a' twice"), (b"a,\n", "without a name"), (b"\xff,b\n", "not UTF-8"), (b'"a\n', "no CSV row")],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read_all(write(tmp_path, "t.csv", header + b"1,2\n"))


def test_a_table_with_unknown_columns_says_how_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"no known key \(body, subject\).*format: tickets"):
        read_all(write(tmp_path, "t.csv", b"subject,body\nx,y\n"))


def test_parquet_gives_the_same_examples_as_jsonl(tmp_path: Path) -> None:
    for form in ("messages", "sharegpt", "instruction", "preference", "telemetry"):
        rows = ROWS[form][:1]
        lines = read_all(write(tmp_path, "a.jsonl", as_jsonl(rows)), "a")
        table = read_all(write(tmp_path, "a.parquet", as_parquet(rows)), "a")
        assert table[0] == lines[0]
        assert table[2].files[0].format == form


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    data = as_parquet([EVENT] * 50)
    with pytest.raises(ContractError, match="cannot be read as Parquet"):
        read_all(write(tmp_path, "a.parquet", data[:-20]))


@pytest.mark.parametrize("wrap", ["jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, wrap: str) -> None:
    row = {"instruction": "a" * 200, "output": "b" * 200}
    write_all = {
        "jsonl": lambda n: as_jsonl([row] * n),
        "json": lambda n: json.dumps([row] * n).encode(),
        "csv": lambda n: b"instruction,output\n" + (b"a" * 200 + b"," + b"b" * 200 + b"\n") * n,
    }[wrap]
    peaks = []
    for count in (10_000, 40_000):
        path = write(tmp_path, f"{count}.{wrap}", write_all(count))
        tracemalloc.start()
        assert sum(1 for _ in read_source(Source(path=str(path)), "r")) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


def test_tickets_in_a_table_need_no_format_when_their_columns_are_named(tmp_path: Path) -> None:
    data = b"subject,body,priority,reason\nx,y,high,z\n"
    examples, found, report = read_all(write(tmp_path, "t.csv", data), tickets=TICKETS)
    assert (len(examples), found, report.files[0].format) == (1, [], "tickets")
