"""YAML scalars as people mean them; broken files are configuration errors with a line."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ConfigError
from holdfast.core.yamlfile import load_yaml, parse_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E5", 1e5), ("-2e+3", -2000.0), (".5", 0.5), ("1.", 1.0), ("-.inf", -math.inf),
        ("12", 12), ("-3", -3), ("0o17", 15), ("0x1F", 31), ("010", 10),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("Yes", "Yes"), ("on", "on"), ("OFF", "OFF"), ("y", "y"), ("n", "n"),
        ("1_000", "1_000"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("1e", "1e"), ("1.2.3", "1.2.3"),
        ("'5'", "5"), ("[1, no]", [1, "no"]), ("<<", "<<"), ("=", "="),
    ],
)  # fmt: skip
def test_a_scalar_has_its_yaml_1_2_value(text: str, value: Any) -> None:
    found = parse_scalar(text)
    assert found == value and type(found) is type(value)


def test_nan_is_read() -> None:
    assert math.isnan(parse_scalar(".nan"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_prints_is_read_back(value: float) -> None:
    found = parse_scalar(repr(value))
    assert isinstance(found, float) and found == value


@given(st.integers())
def test_every_integer_that_python_prints_is_read_back(value: int) -> None:
    assert parse_scalar(str(value)) == value


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff")))
def test_quoted_text_always_stays_text(text: str) -> None:
    assert parse_scalar(yaml.safe_dump(text, default_style='"', allow_unicode=True)) == text


@pytest.mark.parametrize(
    "text", ["[1", "{a: ", '"x', "a: b: c", "\x00", "!!int x", "!!timestamp x", "1" * 5000, "[" * 5000]
)
def test_a_value_that_is_no_yaml_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_scalar(text)


def test_lines_of_keys_and_items_count_from_one(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# remark\na: 1\nb:\n  - x\n  - c: 2\n")
    document, lines = load_yaml(path)
    assert document == {"a": 1, "b": ["x", {"c": 2}]}
    assert lines == {("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "c"): 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: [1\n", r"a\.yaml:3: not valid YAML"),
        (b"a: 1\n\tb: 2\n", r"a\.yaml:2: not valid YAML"),
        (b"a: 1\nb: {c: 1, c: 2}\n", r"a\.yaml:2: b\.c is given twice \(first on line 2\)"),
        (b"a: \x00\n", r"a\.yaml: not valid YAML"),
        (b"a: !!int x\n", r"a\.yaml: not valid YAML"),
        (b"a: !!timestamp x\n", r"a\.yaml: not valid YAML"),
        (b"a: !!python/object:os.system x\n", r"a\.yaml:1: not valid YAML"),
        (b"a: " + b"1" * 5000, r"a\.yaml: not valid YAML"),
        (b"a: &x [*x]\n", "alias that holds itself"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: \xff\n", "cannot be read"),
        (b"a: 1\n---\nb: 2\n", r"a\.yaml:2: not valid YAML"),
    ],
)  # fmt: skip
def test_a_broken_file_is_a_configuration_error_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_yaml(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file") as caught:
        load_yaml(tmp_path / "none.yaml")
    assert "holdfast init" in caught.value.hint


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    assert load_yaml(tmp_path / "a.yaml")[0] == {"a": 1}
