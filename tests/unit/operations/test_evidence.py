"""`compare`, `rescore` and `status` judge by the same rules as stage decide."""

import json
from pathlib import Path
from typing import Any

import pytest

from finished_stage import finish_stage
from holdfast import decide
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.errors import IntegrityError
from holdfast.core.rundir import RunDir
from holdfast.operations import compare, verdict
from holdfast.operations.evidence import export_eval
from holdfast.pipeline import STAGES

CONFIG = RunConfig.model_validate({"name": "r", "collect": {"sources": [{"path": "a"}]}, "verify": {"deploy": "auto"}})


def finish(run: RunDir, stage: str, files: dict[str, Any]) -> Path:
    """A finished stage with JSON files."""
    folder = run.stage(stage).path
    folder.mkdir(parents=True)
    for name, document in files.items():
        (folder / name).write_text(json.dumps(document) + "\n")
    finish_stage(folder, stage, {})
    return folder


def test_auto_compares_the_file_that_verify_chose(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_config(CONFIG)
    finish(run, "verify", {"ladder.json": {"deploy": "Q8_0"}, "samples-Q8_0.jsonl": {"id": "x"}})
    assert compare._samples(tmp_path, deployed=True) == [{"id": "x"}]


def test_a_verdict_written_by_hand_is_not_shown(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_config(CONFIG)
    for stage in STAGES:
        files = {"r-Q8_0.gguf": "weights", "ladder.json": {"deploy": "Q8_0"}, "decision.json": {"verdict": "discard"}}
        folder = finish(run, stage.name, files)
    assert verdict.current_verdict(run) == "discard"
    (folder / "decision.json").write_text('{"verdict": "keep"}')
    with pytest.raises(IntegrityError, match="not what stage decide wrote"):
        verdict.current_verdict(run)


def test_redacted_values_in_answers_fail_a_gate_wherever_gates_are_counted(tmp_path: Path) -> None:
    slices = {"slices": []}
    assert [gate.name for gate in decide.more_gates(CONFIG, tmp_path, slices, {})] == ["maximum_slice_regression"]
    (tmp_path / "redacted.json").write_text('{"share": 0.5, "answers": 6}')
    gates = decide.more_gates(CONFIG, tmp_path, slices, {})
    assert [(gate.name, gate.passed) for gate in gates] == [
        ("maximum_slice_regression", True), ("redacted values", False),
    ]  # fmt: skip


def test_the_lines_that_export_eval_prints_fit_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDir(tmp_path / "a run")
    run.write_config(CONFIG.model_copy(update={"serve": CONFIG.serve.model_copy(update={"port": 9000})}))
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    folder = finish(run, "prepare", {"task.json": {"task": "t"}, "test.jsonl": {"messages": turns, "source": "t:1"}})
    assert folder.is_dir() and export_eval(run.path, tmp_path / "to here", Console()) == 0
    _, serve, command = (line.strip() for line in capsys.readouterr().out.splitlines())
    assert serve == f"holdfast serve '{run.path}' --host 127.0.0.1 --port 8080"
    assert command.startswith(f"cd '{tmp_path / 'to here'}' && ") and "base_url=http://127.0.0.1:8080/" in command
