"""SIGKILL at random moments of the demo: the same command must finish with the same adapter and the same verdict.

python tests/kill_demo.py N [--dir D] [--seed S] [--in-a-row K]   prints a JSON line a run; exit 1: something was lost
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
FINISHED_CODES = (0, 10, 11, 12)  # the verdict's
ORPHAN_SECONDS = 10.0


class Result(NamedTuple):
    """What a finished run ended with."""

    code: int
    adapter: str
    verdict: str


class Kill(NamedTuple):
    """A kill that hit: `stage` was unfinished (None = between two stages)."""

    seconds: float
    status: int
    stage: str | None
    orphans: int


def environment(**values: str) -> dict[str, str]:
    """Environment of a child process that finds this checkout's package."""
    return os.environ | {"PYTHONPATH": str(ROOT / "src")} | values


def finish(command: Sequence[str], run: Path) -> Result:
    """Run the command to its end and read what it ended with."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode not in FINISHED_CODES:
        raise SystemExit(f"exit {done.returncode}: {done.stderr}")
    from holdfast.core.digest import digest_file

    adapter = digest_file(run / "05-train" / "adapter" / "adapter_model.safetensors")
    return Result(done.returncode, adapter, json.loads((run / "09-decide" / "decision.json").read_text())["verdict"])


def kill_after(start: Callable[[dict[str, str]], Any], run: Path, seconds: float) -> Kill | None:
    """Start a command and SIGKILL it after some seconds; None when it had already ended.

    start: gives something like a subprocess.Popen that has these variables in its environment.
    """
    mark = uuid.uuid4().hex
    process = start({"HOLDFAST_KILL_MARK": mark})
    try:
        process.wait(timeout=seconds)
        return None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    status = process.wait(timeout=60)
    if status != -signal.SIGKILL:
        return None
    end = time.monotonic() + ORPHAN_SECONDS
    while (orphans := _alive(mark, process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    return Kill(round(seconds, 2), status, unfinished_stage(run), orphans)


def unfinished_stage(run: Path) -> str | None:
    """The stage whose last entry in the journal is its begin."""
    stage = None
    for event in read_journal(run):
        if event["event"] == "begin":
            stage = event["stage"]
        elif event["event"] in ("end", "run", "done"):
            stage = None
    return stage


def read_journal(run: Path) -> list[dict[str, Any]]:
    """The events of a run, without a line that a kill tore."""
    journal = run / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _alive(mark: str, session: int) -> int:
    """How many processes still carry the mark in their environment, or belong to the session (forked ones show the
    environment of the program that they were forked from)."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            count += mark.encode() in path.read_bytes() or os.getsid(int(path.parent.name)) == session
        except OSError:
            continue
    return count


def main() -> int:
    """The demo once undisturbed, then with kills and the same command again, until N kills have hit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--dir", type=Path, help="where the runs go; default: a temporary folder")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--in-a-row", type=int, default=1, help="kills of one run before it may finish")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    generator = random.Random(seed)
    sys.path.insert(0, str(ROOT / "src"))
    with tempfile.TemporaryDirectory() as temporary:
        top = given.dir or Path(temporary)
        clock = time.monotonic()
        wanted = finish(_demo(top / "whole"), top / "whole" / "triage")
        whole = time.monotonic() - clock
        print(json.dumps({"whole": wanted._asdict(), "seconds": round(whole, 1), "seed": seed}), flush=True)
        lost = done = runs = 0
        while done < given.kills:
            folder = top / f"killed-{runs}"
            count = min(given.in_a_row, given.kills - done)
            kills = _kill_in_a_row(folder, [generator.uniform(0.5, whole) / count for _ in range(count)])
            if not kills:  # it was faster this time: this one does not count
                shutil.rmtree(folder)
                continue
            got = finish(_demo(folder), folder / "triage")
            good = got == wanted and not any(kill.orphans for kill in kills)
            lost += not good
            done, runs = done + len(kills), runs + 1
            print(json.dumps({"kills": [k._asdict() for k in kills], "got": got._asdict(), "same": good}), flush=True)
        print(json.dumps({"kills": done, "runs": runs, "lost": lost}))
    return 1 if lost else 0


def _kill_in_a_row(folder: Path, moments: Sequence[float]) -> list[Kill]:
    """The kills that hit; a run that has ended before is not killed again."""
    kills = []
    for seconds in moments:
        kill = kill_after(partial(_start_demo, folder), folder / "triage", seconds)
        if kill is None:
            break
        kills.append(kill)
    return kills


def _start_demo(folder: Path, values: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        _demo(folder), env=environment(**values), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def _demo(folder: Path) -> list[str]:
    return [sys.executable, "-m", "holdfast", "demo", "--dir", str(folder), "--json"]


if __name__ == "__main__":
    raise SystemExit(main())
