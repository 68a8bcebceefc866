"""One training process of several, started by `processes.py` or by torchrun: python -m holdfast.train.worker RUN

It reads RUN/workers/job.json and does what stage `train` does in one process; process 0 writes the products. What goes
wrong is told in RUN/workers/failed-<rank>.json. It never outlives the process that started it.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import HoldfastError, Interrupted, disk_full_error
from holdfast.core.files import atomic_write
from holdfast.core.rundir import RunDir
from holdfast.train.processes import FOLDER, JOB, LAST_LINES, STOP, STOPPED, Share

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Train; returns the exit code."""
    run = Path(sys.argv[1]).absolute()
    folder, rank = run / FOLDER, int(os.environ["RANK"])
    _die_with_parent()
    _tell_failures(folder, rank)
    signal.signal(signal.SIGTERM, _interrupt)
    run_dir = RunDir(run)
    config = run_dir.read_config()
    job = json.loads((folder / JOB).read_bytes())
    inputs = {name: run_dir.stage(name).path for name in ("prepare", "plan")}
    context = StageContext(config, run_dir.stage("train"), inputs, Console(quiet=rank > 0), run_dir)
    checkpoint = Path(job["checkpoint"]) if job["checkpoint"] else None
    share = Share(job["micro_batch_size"], job["gradient_accumulation_steps"])

    from holdfast import models

    models.go_offline()
    from holdfast.train.stage import train_here
    from holdfast.train.together import join

    together = join(folder / STOP)
    try:
        train_here(context, checkpoint, share, together)
    except KeyboardInterrupt:
        return STOPPED if "HOLDFAST_STORE" in os.environ else 0  # for torchrun anything else is a failure
    together.wait()
    if together.main:
        (folder / "finished").touch()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _die_with_parent() -> None:
    """The kernel ends this process when the one that started it dies, however it dies (prctl(2); Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get("HOLDFAST_PARENT")
    if parent is not None and os.getppid() != int(parent):
        sys.exit("the parent went away before training began")


def _tell_failures(folder: Path, rank: int) -> None:
    """Whatever ends this process is written down for the one that started it; then it ends at once, so that the others
    notice (a library's own threads may keep a failed process alive)."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        known = error if isinstance(error, HoldfastError) else disk_full_error(error, folder.parent)
        lines = "".join(traceback.format_exception(kind, error, trace)).splitlines()
        if known is None:
            sys.stderr.write("\n".join(lines) + "\n")
        document = {
            "kind": type(known or error).__name__,
            "expected": known is not None,
            "message": known.message if known else (str(error).splitlines() or [""])[0],
            "hint": known.hint if known else "",
            "lines": lines[-LAST_LINES:],
            "time": time.time(),
        }
        atomic_write(folder / f"failed-{rank}.json", json.dumps(document).encode())
        sys.stderr.flush()
        os._exit(1)

    sys.excepthook = tell


if __name__ == "__main__":
    sys.exit(main())
