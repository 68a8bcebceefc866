"""Two processes on the CPU (gloo) train what one trains: the same losses, one adapter, also after a stop.

Run: pytest tests/integration/test_processes.py
"""

import json
import shutil
import signal
from pathlib import Path

import pytest

from holdfast.train.checkpoints import MARK
from small_run import SAVE_STEPS, STEPS, SmallRun, holdfast, start, stop, wait_for

FIRST = f"checkpoint-{SAVE_STEPS}"


def losses(run: SmallRun, name: str) -> list[float]:
    rows = [json.loads(line) for line in (run.folder / "05-train" / "trainer_log.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def test_two_processes_with_parts_of_the_weights_stopped_and_resumed_train_what_one_trains(
    small: SmallRun, tmp_path: Path
) -> None:
    shutil.copytree(
        small.folder, tmp_path / "run", ignore=shutil.ignore_patterns("03-*", "05-*", "06-*", "07-*", "08-*", "09-*")
    )
    run = SmallRun(small.config, tmp_path / "run", small.base)
    command = ["train", "-c", run.config, "--run-dir", run.folder, "--nproc", "2", "--set", "train.distributed=fsdp"]

    process = start(*command)
    folder = run.folder / "05-train"
    assert wait_for((folder / FIRST / MARK).exists, process), f"training ended with {process.poll()}"
    assert stop(process, signal.SIGTERM) == 130
    saved = max(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*") if (path / MARK).exists())
    assert SAVE_STEPS <= saved < STEPS
    assert not (folder / "adapter").exists()

    done = holdfast(*command)
    assert done.code == 0, done.err
    assert f"resuming from checkpoint-{saved}" in done.err
    assert losses(run, "loss") == pytest.approx(losses(small, "loss"), rel=1e-4)
    assert losses(run, "eval_loss") == pytest.approx(losses(small, "eval_loss"), rel=1e-4)
    training = json.loads((folder / "training.json").read_text())
    assert (training["processes"], training["micro_batch_size"], training["gradient_accumulation_steps"]) == (2, 1, 1)
    weights, settings = (folder / "adapter" / f"adapter_{name}" for name in ("model.safetensors", "config.json"))
    assert weights.stat().st_size > 1000
    assert weights.stat().st_mode == settings.stat().st_mode, "a service's user checks what root has trained"
    assert sorted(path.name for path in (folder / f"checkpoint-{STEPS}").glob("rng_state*")) == [
        "rng_state_0.pth", "rng_state_1.pth",
    ]  # fmt: skip
    assert not (run.folder / "workers").exists()
