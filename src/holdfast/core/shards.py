"""Work on a large JSONL file piece by piece, in a process for each core; finished pieces survive a kill.

A shard is a range of whole lines. Where shards begin depends on the file alone, so the outcome is the same for any
number of processes. A file of one shard is worked on in this process, and nothing is written for it.
"""

import gc
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from holdfast.core.console import Console
from holdfast.core.files import atomic_path

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

    from numpy.typing import NDArray

SHARD_BYTES = 16 << 20
MAX_PROCESSES = 16
PR_SET_PDEATHSIG = 1


class Range(NamedTuple):
    """Bytes begin ≤ x < end of a file: whole lines."""

    begin: int
    end: int


@dataclass(frozen=True)
class Piece:
    """What came of one shard: arrays, and a small JSON document."""

    arrays: "dict[str, NDArray[Any]]" = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


Job = TypeVar("Job")
Result = TypeVar("Result")


def cut(path: Path) -> list[Range]:
    """Shards of a file, in order; at least one. A file up to two shards long is not cut."""
    size, shard_bytes = path.stat().st_size, SHARD_BYTES
    if size <= 2 * shard_bytes:
        return [Range(0, size)]
    found: list[Range] = []
    begin = 0
    with path.open("rb") as file:
        while begin < size:
            file.seek(min(begin + shard_bytes, size))
            file.readline()
            end = min(file.tell(), size)
            found.append(Range(begin, end))
            begin = end
    return found


def read_lines(path: Path, part: Range) -> list[bytes]:
    """The lines of a shard, without their line feeds."""
    with path.open("rb") as file:
        file.seek(part.begin)
        lines = file.read(part.end - part.begin).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def run_shards(
    work: Callable[[Job], Piece], jobs: Sequence[Job], folder: Path, console: Console, label: str
) -> Iterator[Piece]:
    """`work` done on every job, in the order of the jobs; `folder` keeps what is done, so that a later call goes on.

    work: a function of a module, its jobs can be pickled. One job is done here; more go to one process a core.
    """
    if len(jobs) == 1:
        yield work(jobs[0])
        return
    folder.mkdir(parents=True, exist_ok=True)
    files = shard_files(folder, label, len(jobs))
    missing = [(job, file) for job, file in zip(jobs, files, strict=True) if not file.exists()]
    with console.progress(label, len(jobs), "shards") as bar:
        if len(missing) < len(jobs):
            console.say(f"  {label}: {len(jobs) - len(missing)} of {len(jobs)} shards were done before")
            bar.advance(len(jobs) - len(missing))
        for _ in _in_processes(partial(_work_and_save, work), missing):
            bar.advance()
    for file in files:
        yield load(file)


def shard_files(folder: Path, label: str, count: int) -> list[Path]:
    """Where the pieces of a call of `run_shards` are."""
    return [folder / f"{label.replace(' ', '-')}-{number:05d}.npz" for number in range(count)]


def count_processes() -> int:
    """Worker processes: one for each core that this process may use."""
    return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))


def _in_processes(work: Callable[[Any], None], jobs: Sequence[Any]) -> Iterator[None]:
    if not jobs:
        return
    count = min(count_processes(), len(jobs))
    if count == 1:
        for job in jobs:
            work(job)
            yield
        return
    from concurrent.futures import as_completed

    with _pool(count) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """`work` done on every job in a process for each core; results in the order of the jobs, few of them at a time.

    work: a function of a module; jobs and results can be pickled. What a job raises is raised in its turn.
    """
    count = count_processes()
    if count == 1:
        yield from map(work, jobs)
        return
    pending: deque[Future[Result]] = deque()
    with _pool(count) as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(work, job))
                if len(pending) > 2 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _pool(count: int) -> "ProcessPoolExecutor":
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Spawned, not forked: this process may have threads (a tokenizer's, a server's).
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, context, initializer=_begin_worker, initargs=(os.getpid(),))


def _begin_worker(parent: int) -> None:
    """The parent alone answers Ctrl-C; the kernel ends a worker whose parent was killed."""
    import ctypes

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    gc.set_threshold(200_000)  # rows hold no cycles, and looking for some takes a tenth of the time


def _work_and_save(work: Callable[[Job], Piece], task: tuple[Job, Path]) -> None:
    job, file = task
    save(file, work(job))


def save(file: Path, piece: Piece) -> None:
    """Write a piece atomically."""
    import numpy as np

    facts = np.frombuffer(json.dumps(piece.facts).encode(), dtype=np.uint8)
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, facts=facts, **piece.arrays)


def load(file: Path) -> Piece:
    """Read what `save` wrote."""
    import numpy as np

    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return Piece(arrays, json.loads(arrays.pop("facts").tobytes()))
