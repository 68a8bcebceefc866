"""SIGKILL in the middle of prepare: the same command goes on with the shards that are done, to the same bytes.

pytest tests/integration/test_prepare_killed.py
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
ROWS = 2000
# The product with smaller shards, so that a small file has many.
DRIVER = """\
import sys
from holdfast.core.errors import guard
from holdfast.core import shards
from holdfast.dataset import similarity

if __name__ == "__main__":
    shards.SHARD_BYTES = 30_000
    similarity.EXACT_LIMIT = 500
    from holdfast.cli import main

    main()
"""
WORDS = [f"{a}{b}" for a in ("ba", "do", "mi", "ru", "sel") for b in ("tan", "ko", "vir", "lum", "es")]
SAME = ("train.jsonl", "valid.jsonl", "test.jsonl", "split.lock", "task.json", "lengths.json", "report.json")


def command(folder: Path, run: Path) -> list[str]:
    return [sys.executable, str(folder / "driver.py"), "prepare", "-c", str(folder / "holdfast.yaml"),
            "--run-dir", str(run)]  # fmt: skip


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def write_input(folder: Path) -> None:
    rng = random.Random(1)
    (folder / "driver.py").write_text(DRIVER)
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(ROWS):
            text = " ".join(rng.choices(WORDS, k=30)) if number % 20 != 1 else text  # noqa: F821 (of the row before)
            turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]
            file.write(json.dumps({"messages": turns, "domain": f"d{number % 3}"}) + "\n")
    (folder / "holdfast.yaml").write_text("name: killed\ncollect: {sources: [{path: rows.jsonl}]}\n")


def kill_when_some_shards_are_done(folder: Path, run: Path) -> tuple[int, set[int]]:
    """(shards that were done when the kill hit, ids of the processes that were alive)."""
    work = run / "02-prepare" / "shards"
    process = subprocess.Popen(
        command(folder, run), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(work.glob("contract-*.npz"))) < 3:
        assert process.poll() is None, "prepare ended before the kill"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    family = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return len(list(work.glob("contract-*.npz"))), family


def test_a_killed_prepare_goes_on_with_its_finished_shards(tmp_path: Path) -> None:
    write_input(tmp_path)
    done, family = kill_when_some_shards_are_done(tmp_path, tmp_path / "killed")
    assert not (tmp_path / "killed" / "02-prepare" / "manifest.json").exists()
    assert family, "the work was not done in processes of its own"
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in family if psutil.pid_exists(pid)], timeout=10)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]

    again = subprocess.run(command(tmp_path, tmp_path / "killed"), env=environment(), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    reused = re.search(r"contract: (\d+) of (\d+) shards were done before", again.stderr)
    assert reused and done <= int(reused[1]) < int(reused[2])

    whole = subprocess.run(command(tmp_path, tmp_path / "whole"), env=environment(), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    assert "shards were done before" not in whole.stderr
    for name in SAME:
        one, other = (tmp_path / run / "02-prepare" / name for run in ("killed", "whole"))
        assert one.read_bytes() == other.read_bytes(), name
    assert not (tmp_path / "killed" / "02-prepare" / "shards").exists()
    report = json.loads((tmp_path / "whole" / "02-prepare" / "report.json").read_text())
    assert report["duplicates"]["exact_dropped_rows"] == ROWS // 20
