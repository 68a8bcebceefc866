"""A training that was stopped and went on, against two that were not: is the difference the noise of the machine? JSON.

    python bench/resume.py [--steps 120] [--nproc 2]   # pebble on the triage example, on the card when there is one
    python bench/resume.py --steps 12                  # some steps, CPU or GPU

All go through `holdfast train`. The third gets SIGTERM at its first checkpoint (`stop_seconds`: until it has saved and
ended) and is started again. `noise`: relative difference of the two undisturbed adapters (Frobenius, all matrices) and
the largest one of their losses; `resumed`: of the third against the nearer of them. On the CPU all are 0.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(Path(__file__).parent))
INTERRUPTED = 130


def train(command: list[str]) -> None:
    """One `holdfast train` to its end."""
    began = time.monotonic()
    done = subprocess.run(command, env=environment_of_child(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"exit {done.returncode}: {' '.join(command)}\n{done.stderr[-3000:]}")
    print(f"trained in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def environment_of_child() -> dict[str, str]:
    """Environment in which this checkout's package is found first."""
    return os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"}


def stop_at_first_checkpoint(command: list[str], run: Path) -> float:
    """Start, send SIGTERM once a checkpoint is there; seconds until it ended."""
    process = subprocess.Popen(command, env=environment_of_child(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not list(run.glob("05-train/checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    if process.returncode != INTERRUPTED:
        raise SystemExit(f"exit {process.returncode} instead of {INTERRUPTED}: {errors.decode()[-2000:]}")
    print(f"stopped in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return time.monotonic() - began


def difference(one: Path, other: Path) -> dict[str, float]:
    """Relative difference of two runs' adapters, and the largest one of their losses."""
    from safetensors.torch import load_file

    adapters = [load_file(run / "05-train" / "adapter" / "adapter_model.safetensors") for run in (one, other)]
    apart = sum(float((adapters[0][name] - adapters[1][name]).double().pow(2).sum()) for name in adapters[0])
    size = sum(float(weight.double().pow(2).sum()) for weight in adapters[0].values())
    losses = [_losses(run) for run in (one, other)]
    steps = sorted(losses[0].keys() & losses[1].keys())
    worst = max(abs(losses[0][step] - losses[1][step]) / losses[0][step] for step in steps)
    return {"adapter": (apart / size) ** 0.5, "loss": worst}


def _losses(run: Path) -> dict[int, float]:
    lines = (run / "05-train" / "trainer_log.jsonl").read_text().splitlines()
    return {row["step"]: row["loss"] for row in map(json.loads, lines) if "loss" in row}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--nproc", type=int, default=1)
    options = parser.parse_args()
    from learning_gpu import write_example
    from train_gpu import environment

    with tempfile.TemporaryDirectory() as scratch:
        config = write_example(Path(scratch) / "triage", None if options.steps > 30 else 40)
        steps = {"train.max_steps": options.steps, "train.save_steps": options.steps // 3, "train.logging_steps": 1}
        changes = [f"{key}={value}" for key, value in steps.items()] + ["prepare.near_duplicate_threshold=null"]
        runs = [Path(scratch) / name for name in ("first", "second", "stopped")]
        commands = [
            [sys.executable, "-m", "holdfast", "train", "-c", str(config), "--run-dir", str(run),
             "--nproc", str(options.nproc), *(part for change in changes for part in ("--set", change))]
            for run in runs
        ]  # fmt: skip
        for command in commands[:2]:
            train(command)
        seconds = stop_at_first_checkpoint(commands[2], runs[2])
        train(commands[2])
        noise = difference(runs[0], runs[1])
        found: list[dict[str, Any]] = [difference(run, runs[2]) for run in runs[:2]]
    print(json.dumps({
        "bench": "resume", **environment(), "steps": options.steps, "nproc": options.nproc, "noise": noise,
        "resumed": {key: min(row[key] for row in found) for key in noise}, "stop_seconds": round(seconds, 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
