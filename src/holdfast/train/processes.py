"""Several processes that train one model: started, watched and ended together. No torch here.

Each process runs `python -m holdfast.train.worker RUN`: one card each, or a share of the processor's cores. On one
machine they meet in a file and talk over the loopback interface only; on several machines torchrun starts them, with
the line that `launch_lines` gives. What they tell this process lies in RUN/workers/ (docs/processes.md).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core import errors
from holdfast.core.errors import DoesNotFitError, Interrupted, StageError
from holdfast.core.files import atomic_write
from holdfast.core.loopback import bring_loopback_up
from holdfast.core.train_config import TrainConfig
from holdfast.train.stop import StopRequest, stop_on_signal

FOLDER = "workers"
JOB, STOP, STORE = "job.json", "stop", "store"
STOPPED = errors.EXIT_INTERRUPTED  # a worker's exit code after a stop that was asked for
LAST_LINES = 12
_POLL = 0.1  # seconds
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL once a process has failed
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
MODULE = "holdfast.train.worker"


class Share(NamedTuple):
    """What one of several processes takes at once; the product with their number is the effective batch."""

    micro_batch_size: int
    gradient_accumulation_steps: int


@dataclass(frozen=True)
class Ended:
    """How one process ended; `told` is what it said itself (`failed-<rank>.json`), if it could."""

    rank: int
    code: int
    seconds: float
    told: Mapping[str, Any] | None


def process_count(train: TrainConfig) -> int:
    """Processes of all machines together."""
    return train.nproc * train.nnodes


def launch_lines(run: Path, train: TrainConfig) -> list[str]:
    """The command of every machine, for `--dry-run`: torchrun where there are several, else the worker itself."""
    if train.nnodes == 1:
        shared = f"WORLD_SIZE={train.nproc} HOLDFAST_STORE={run / FOLDER / STORE} python -m {MODULE} {run}"
        return [f"RANK={rank} LOCAL_RANK={rank} {shared}" for rank in range(train.nproc)]
    return [" ".join(_torchrun(run, train, node, "torchrun")) for node in range(train.nnodes)]


def _torchrun(run: Path, train: TrainConfig, node: int, *program: str) -> list[str]:
    address, _, port = train.master.rpartition(":")
    return [
        *program, f"--nnodes={train.nnodes}", f"--node-rank={node}", f"--nproc-per-node={train.nproc}",
        f"--master-addr={address}", f"--master-port={port}", "-m", MODULE, str(run),
    ]  # fmt: skip


def train_together(
    run: Path,
    train: TrainConfig,
    share: Share,
    find_checkpoint: Callable[[], Path | None],
    say: Callable[[str], None],
    journal: Callable[..., None],
) -> None:
    """Start the processes and return when all of them have ended well; worker 0 has then written the products.

    Out of memory in any of them: all begin again at the newest whole checkpoint with fewer rows at once and as much
    more accumulation (`fewer_rows`). Raises Interrupted after a signal (a checkpoint was saved then), the error that a
    process met, StageError with its last lines when it died.
    """
    folder = run / FOLDER
    with stop_on_signal() as request:
        while True:
            checkpoint = find_checkpoint()
            _prepare(folder, share, checkpoint)
            failed = _run_all(run, train, request)
            if failed is None:
                break
            if (failed.told or {}).get("kind") != "OutOfMemoryError":
                _raise(failed, process_count(train), folder)
            share = _smaller(share, failed, journal, say)
        stopped = (folder / STOP).exists() or request.requested
        if stopped:
            raise Interrupted
        if not (folder / "finished").exists():
            raise StageError("training ended without a result", hint="run it again")
    shutil.rmtree(folder)


def _prepare(folder: Path, share: Share, checkpoint: Path | None) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    job = share._asdict() | {"checkpoint": str(checkpoint) if checkpoint else None}
    atomic_write(folder / JOB, json.dumps(job).encode())


def fewer_rows(share: Share) -> Share | None:
    """The same batch with fewer rows at once: divided by the smallest prime factor, which the accumulation is
    multiplied by (8 → 4, 9 → 3, 5 → 1). None for one row."""
    rows = share.micro_batch_size
    factor = next((divisor for divisor in range(2, rows + 1) if rows % divisor == 0), None)
    return None if factor is None else Share(rows // factor, share.gradient_accumulation_steps * factor)


def _smaller(share: Share, failed: Ended, journal: Callable[..., None], say: Callable[[str], None]) -> Share:
    told, smaller = failed.told or {}, fewer_rows(share)
    if smaller is None:
        raise DoesNotFitError(
            f"training process {failed.rank} ran out of memory with one row at a time: {told.get('message')}",
            hint="free the cards from other processes (see nvidia-smi), or ask holdfast plan -c FILE for what fits",
        )
    journal("out_of_memory", process=failed.rank, why=told.get("message"), **smaller._asdict())
    say(
        f"  out of memory in process {failed.rank}: going on from the newest checkpoint with micro_batch_size "
        f"{smaller.micro_batch_size}, gradient_accumulation_steps {smaller.gradient_accumulation_steps}"
    )
    return smaller


def _run_all(run: Path, train: TrainConfig, request: StopRequest) -> Ended | None:
    """All processes from start to end; the one that failed first, or None."""
    folder = run / FOLDER
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command, environment, log in _commands(run, train):
            output = 2 if log is None else os.open(folder / log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            started.append(
                subprocess.Popen(
                    command, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True,  # Ctrl-C of the terminal reaches this process alone
                )
            )  # fmt: skip
            if output != 2:
                os.close(output)
        return _watch(started, folder, request)
    finally:
        _end(started)


def _commands(run: Path, train: TrainConfig) -> list[tuple[list[str], dict[str, str], str | None]]:
    """(command, environment, log file or None for our own stderr) of what is started on this machine."""
    if train.nnodes > 1:
        cores = max(1, _cores() // train.nproc)
        line = _torchrun(run, train, 0, sys.executable, "-m", "torch.distributed.run")
        return [(line, {"OMP_NUM_THREADS": str(cores)}, None)]
    bring_loopback_up()
    shared = {
        "WORLD_SIZE": str(train.nproc), "LOCAL_WORLD_SIZE": str(train.nproc), "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "HOLDFAST_STORE": str(run / FOLDER / STORE),
        "GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK, "HOLDFAST_PARENT": str(os.getpid()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // train.nproc))),
    }  # fmt: skip
    return [
        ([sys.executable, "-m", MODULE, str(run)], shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
         None if rank == 0 else f"process-{rank}.log")
        for rank in range(train.nproc)
    ]  # fmt: skip


def _watch(started: list["subprocess.Popen[bytes]"], folder: Path, request: StopRequest) -> Ended | None:
    found: dict[int, Ended] = {}
    while len(found) < len(started):
        if request.requested and not (folder / STOP).exists():
            (folder / STOP).touch()
        for rank, process in enumerate(started):
            code = process.poll()
            if code is not None and rank not in found:
                found[rank] = Ended(rank, code, time.monotonic(), None)
        if any(ended.code not in (0, STOPPED) for ended in found.values()):
            break
        time.sleep(_POLL)
    bad = [ended for ended in found.values() if ended.code not in (0, STOPPED)]
    if any(ended.code == STOPPED for ended in found.values()):  # also when somebody else sent them the signal
        (folder / STOP).touch()
    if not bad:
        return None
    time.sleep(2 * _POLL)  # the others notice within moments; what the first one said is on the disk
    return first_failure(bad, _told(folder))


def first_failure(bad: list[Ended], told: Mapping[int, Mapping[str, Any]]) -> Ended:
    """Which process failed first: one that a signal ended, else the one whose own report is the oldest."""
    killed = [ended for ended in bad if ended.code < 0]
    if killed:
        return min(killed, key=lambda ended: ended.seconds)
    if told:
        rank = min(told, key=lambda rank: float(told[rank]["time"]))
        code = next((ended.code for ended in bad if ended.rank == rank), 1)
        return Ended(rank, code, 0.0, told[rank])
    return min(bad, key=lambda ended: ended.seconds)


def _told(folder: Path) -> dict[int, dict[str, Any]]:
    found = {}
    for path in folder.glob("failed-*.json"):
        try:
            found[int(path.stem.partition("-")[2])] = json.loads(path.read_bytes())
        except ValueError:
            continue
    return found


def _end(started: list["subprocess.Popen[bytes]"]) -> None:
    """No process outlives this one: SIGTERM, some seconds, SIGKILL."""
    alive = [process for process in started if process.poll() is None]
    for process in alive:
        process.send_signal(signal.SIGTERM)
    until = time.monotonic() + _GRACE
    for process in alive:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _raise(failed: Ended, count: int, folder: Path) -> None:
    """Raise what a process met. A bug in it stays a bug here: its traceback is in the message."""
    told, name = failed.told, f"training process {failed.rank} of {count} (counted from 0)"
    if told is not None and told["expected"]:
        kind = getattr(errors, str(told["kind"]), StageError)
        raise kind(f"{name}: {told['message']}", hint=str(told["hint"]))
    if told is not None:
        lines, how = list(told["lines"]), f"ended with {told['kind']}: {told['message']}"
    else:
        log = folder / f"process-{failed.rank}.log"
        lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.exists() else []
        how = _how(failed.code)
    last = "\n  ".join(["; its last lines:", *lines]) if lines else ""
    raise StageError(
        f"{name} {how}; the others were ended too{last}", hint="the same command goes on from the checkpoint"
    )


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    memory = " (by the kernel when memory ends: see dmesg)" if code == -signal.SIGKILL else ""
    return f"was killed by {name}{memory}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
