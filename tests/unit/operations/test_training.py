"""The number of processes belongs to a run. Run: pytest tests/unit/operations/test_training.py"""

from pathlib import Path

import pytest

from holdfast.core.console import Console
from holdfast.core.rundir import RunDir
from holdfast.operations.training import started_as, warn_of_other_processes
from plan_shapes import run_config


def test_a_training_by_more_processes_is_not_made_again_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir, two, one = RunDir(tmp_path), run_config(train={"nproc": 2}), run_config()
    run_dir.write_config(two)
    warn_of_other_processes(tmp_path, one, Console())
    assert capfd.readouterr().err == "", "nothing is trained yet"
    run_dir.stage("train").path.mkdir()
    (run_dir.stage("train").path / "manifest.json").write_text("{}")
    warn_of_other_processes(tmp_path, two, Console())
    assert capfd.readouterr().err == ""
    warn_of_other_processes(tmp_path, one, Console())
    assert "training is made again. To keep it: --nproc 2" in capfd.readouterr().err


def test_one_process_needs_no_command_of_its_own(tmp_path: Path) -> None:
    assert started_as(tmp_path, run_config()) == []
    assert len(started_as(tmp_path, run_config(train={"nproc": 3}))) == 3
