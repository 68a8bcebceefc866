"""validate on files, folders and globs of every format. pytest tests/unit/operations"""

import json
from pathlib import Path

import pytest

from holdfast.core.console import Console
from holdfast.core.errors import ContractError, UsageError
from holdfast.dataset import contested
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


def test_a_configuration_gives_sources_columns_and_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("subject,priority\ndisk full,high\nprinter,low\n")
    (tmp_path / "c.yaml").write_text(
        "task: t\ninstruction: Classify.\nlabel_field: priority\nlabels: [high, low]\nrequired_fields: [priority]\n"
    )
    (tmp_path / "h.yaml").write_text(
        f"name: t\nprepare: {{contract: {tmp_path}/c.yaml}}\ncollect:\n  sources:\n    - path: {tmp_path}/t.csv\n"
        "      tickets: {instruction: Classify., columns: {input: [subject], output: [priority]}}\n"
    )
    for data in (None, tmp_path / "t.csv"):
        assert validate(data, None, None, Console(as_json=True), tmp_path / "h.yaml") == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["rows"], document["format"]) == (2, "tickets")
    (tmp_path / "t.csv").write_text("subject,priority\ndisk full,huge\n")
    with pytest.raises(ContractError, match=r"t\.csv:2: label: 'priority' must be one of high, low"):
        validate(None, None, None, Console(), tmp_path / "h.yaml")
    with pytest.raises(UsageError, match="tickets needs") as caught:
        validate(tmp_path / "t.csv", None, "tickets", Console())
    assert "-c FILE" in caught.value.hint
    with pytest.raises(UsageError, match="nothing to validate"):
        validate(None, None, None, Console())


def test_contradictions_are_found_without_keeping_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"p{n % 40}", "completion": json.dumps({"a": n // 40, "b": 1})} for n in range(80)]
    rows += [{"prompt": "P1", "completion": '{"b": 1, "a": 0}'}]  # the same prompt, the same answer in another form
    (tmp_path / "a.jsonl").write_bytes(as_jsonl(rows))
    monkeypatch.setattr(contested, "KEPT", 3)
    with pytest.raises(ContractError, match=r"40 of 81 rows break the contract \(40 violations\)") as caught:
        validate(tmp_path / "a.jsonl", None, None, Console())
    assert "a.jsonl:41: conflicting_answers: same prompt as a.jsonl:1, other answer" in str(caught.value)
    (tmp_path / "a.jsonl").write_bytes(as_jsonl([*rows[:40], rows[80]]))
    assert validate(tmp_path / "a.jsonl", None, None, Console()) == 0
