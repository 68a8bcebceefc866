"""validate on files, folders and globs of every format. pytest tests/unit/operations"""

import json
from pathlib import Path

import pytest

from holdfast.core.console import Console
from holdfast.core.errors import ContractError, UsageError
from holdfast.operations.data import validate
from source_rows import PAGE, ROWS, RULES, as_jsonl, as_parquet


def run(data: Path, capsys: pytest.CaptureFixture[str], form: str | None = None) -> dict[str, object]:
    assert validate(data, None, form, Console(as_json=True)) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_every_format_is_validated_with_what_was_detected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("messages", "sharegpt", "instruction", "preference", "telemetry"):
        path = tmp_path / f"{form}.jsonl"
        path.write_bytes(as_jsonl(ROWS[form][:1]))
        assert run(path, capsys)["format"] == form
    (tmp_path / "m.parquet").write_bytes(as_parquet(ROWS["messages"]))
    document = run(tmp_path / "m*", capsys)
    assert document["rows"] == 3
    assert [file["name"] for file in document["files"]] == ["m.parquet", "messages.jsonl"]  # type: ignore[attr-defined]


def test_folders_of_runbooks_and_rules_are_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "DiskFull.md").write_text(PAGE)
    assert run(tmp_path, capsys)["format"] == "runbooks"
    (tmp_path / "rules.yaml").write_text(RULES)
    document = run(tmp_path, capsys)
    assert document["format"] == "prometheus_rules"
    (tmp_path / "rules.yaml").write_text(RULES.replace("for: 10m", "for: long"))
    with pytest.raises(ContractError, match=r"rules\.yaml:11: duration"):
        run(tmp_path, capsys)


def test_the_format_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "both.jsonl"
    path.write_bytes(as_jsonl([{**ROWS["messages"][0], "instruction": "a", "output": "b"}]))
    with pytest.raises(ContractError, match="--format|cannot be told"):
        run(path, capsys)
    assert run(path, capsys, "messages")["format"] == "messages"
    with pytest.raises(UsageError, match="--format mesages"):
        run(path, capsys, "mesages")
    with pytest.raises(UsageError, match="there is no file"):
        run(tmp_path / "none", capsys)
