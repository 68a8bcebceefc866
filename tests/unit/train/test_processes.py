"""Processes that train together are started, watched and ended together. The processes here are small scripts.

Run: pytest tests/unit/train/test_processes.py
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.config import TrainConfig
from holdfast.core.errors import DoesNotFitError, Interrupted, StageError
from holdfast.train import processes
from holdfast.train.processes import FOLDER, Ended, Share, fewer_rows, first_failure, launch_lines, train_together

TWO, FOUR = TrainConfig(nproc=2), Share(4, 1)
WRITE_PID = "import os,pathlib,sys; folder=pathlib.Path(sys.argv[1]); rank=int(os.environ['RANK']);"
WRITE_PID += "(folder/f'pid-{rank}').write_text(str(os.getpid()));\n"
FINISH = "(folder/'finished').touch()\n"
TELL = "import json,time\n(folder/f'failed-{rank}.json').write_text(json.dumps(dict(kind=KIND,expected=EXPECTED,"
TELL += "message='what happened',hint='do this',lines=['line one','line two'],time=time.time()))); sys.exit(1)\n"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Run a script in each of two processes as training does; returns the journal."""

    def run(script: str, share: Share = FOUR) -> list[dict[str, Any]]:
        folder = tmp_path / FOLDER

        def commands(run: Path, train: TrainConfig) -> list[tuple[list[str], dict[str, str], str | None]]:
            command = [sys.executable, "-c", WRITE_PID + script, str(folder)]
            return [(command, {"RANK": str(rank)}, f"process-{rank}.log") for rank in range(train.nproc)]

        monkeypatch.setattr(processes, "_commands", commands)
        events: list[dict[str, Any]] = []
        train_together(
            tmp_path, TWO, share, lambda: None, lambda text: None, lambda event, **named: events.append(named)
        )
        return events

    return run


def alive(tmp_path: Path) -> list[int]:
    found = []
    for path in (tmp_path / FOLDER).glob("pid-*"):
        stat = Path(f"/proc/{path.read_text()}/stat")
        if stat.exists() and stat.read_text().split()[2] != "Z":
            found.append(int(path.read_text()))
    return found


def test_when_all_end_well_their_folder_is_removed(tmp_path: Path, start: Callable[..., Any]) -> None:
    assert start(FINISH) == []
    assert not (tmp_path / FOLDER).exists()


def test_one_that_is_killed_ends_all_and_is_named_with_its_last_lines(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    script = (
        "import time,signal\nif rank == 1: print('about to die', flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with pytest.raises(StageError) as caught:
        start(script + "time.sleep(60)")
    assert "training process 1 of 2" in caught.value.message
    assert "SIGKILL" in caught.value.message
    assert "about to die" in caught.value.message
    assert alive(tmp_path) == []


def test_one_that_fails_as_expected_gives_its_error_and_exit_code(start: Callable[..., Any]) -> None:
    script = "if rank == 0:\n import time; time.sleep(60)\n"
    with pytest.raises(DoesNotFitError, match="process 1 of 2 .*: what happened") as caught:
        start(script + TELL.replace("KIND", "'DoesNotFitError'").replace("EXPECTED", "True"))
    assert (caught.value.hint, caught.value.exit_code) == ("do this", 21)


def test_a_bug_in_one_comes_with_the_end_of_its_traceback(start: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match="ended with ZeroDivisionError: what happened") as caught:
        start(TELL.replace("KIND", "'ZeroDivisionError'").replace("EXPECTED", "False"))
    assert "line one\n  line two" in caught.value.message


def test_out_of_memory_begins_again_with_half_the_rows_and_is_journaled(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    script = "job = __import__('json').loads((folder/'job.json').read_text())\n"
    script += f"if job['micro_batch_size'] == 1:\n {FINISH} sys.exit(0)\n"
    events = start(script + TELL.replace("KIND", "'OutOfMemoryError'").replace("EXPECTED", "False"))
    shares = [(event["micro_batch_size"], event["gradient_accumulation_steps"]) for event in events]
    assert shares == [(2, 2), (1, 4)]


def test_out_of_memory_with_one_row_does_not_fit(start: Callable[..., Any]) -> None:
    with pytest.raises(DoesNotFitError, match="one row at a time"):
        start(TELL.replace("KIND", "'OutOfMemoryError'").replace("EXPECTED", "False"), Share(1, 4))


def test_a_signal_lets_them_save_and_ends_as_interrupted(tmp_path: Path, start: Callable[..., Any]) -> None:
    script = "import time\nwhile not (folder/'stop').exists(): time.sleep(0.02)\n"
    script += "(folder.parent/f'saved-{rank}').touch(); sys.exit(130)"
    threading.Thread(target=_signal_when, args=(tmp_path / FOLDER / "pid-1",), daemon=True).start()
    with pytest.raises(Interrupted):
        start(script)
    assert (tmp_path / "saved-0").exists()
    assert (tmp_path / "saved-1").exists()
    assert alive(tmp_path) == []


def _signal_when(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_one_that_failed_first_is_blamed() -> None:
    told = {0: {"time": 2.0, "kind": "RuntimeError"}, 1: {"time": 1.0, "kind": "StageError"}}
    assert first_failure([Ended(0, 1, 5.0, None), Ended(1, 1, 5.1, None)], told).rank == 1
    assert first_failure([Ended(0, 1, 5.0, None), Ended(1, -9, 5.1, None)], told).rank == 1
    assert first_failure([Ended(0, 1, 5.1, None), Ended(1, 3, 5.0, None)], {}).rank == 1


def test_the_lines_of_a_dry_run(tmp_path: Path) -> None:
    one = launch_lines(tmp_path, TWO)
    assert [line.split()[0] for line in one] == ["RANK=0", "RANK=1"]
    assert all("torchrun" not in line and "127.0.0.1" not in line for line in one)
    many = launch_lines(tmp_path, TrainConfig(nproc=4, nnodes=2, master="10.0.0.1:29500"))
    assert many[1] == (
        "torchrun --nnodes=2 --node-rank=1 --nproc-per-node=4 --master-addr=10.0.0.1 --master-port=29500 "
        f"-m holdfast.train.worker {tmp_path}"
    )


def test_on_one_machine_they_talk_over_the_loopback_interface_only(tmp_path: Path) -> None:
    for command, environment, _ in processes._commands(tmp_path, TWO):
        assert environment["GLOO_SOCKET_IFNAME"] == environment["NCCL_SOCKET_IFNAME"] == "lo"
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        assert "--master-addr" not in " ".join(command)


def test_nothing_heavy_is_imported_to_start_them() -> None:
    code = "import sys, holdfast.train.processes; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    import subprocess

    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


@pytest.mark.parametrize(("rows", "smaller"), [(1, None), (2, 1), (3, 1), (5, 1), (8, 4), (9, 3), (15, 5)])
def test_any_number_of_rows_goes_down_to_one_and_the_batch_stays(rows: int, smaller: int | None) -> None:
    found = fewer_rows(Share(rows, 7))
    assert (found and found.micro_batch_size) == smaller
    assert found is None or found.micro_batch_size * found.gradient_accumulation_steps == rows * 7
