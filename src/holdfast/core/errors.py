"""Every error that holdfast raises on purpose, and the one place where errors become exit codes.

    HoldfastError            1   something expected went wrong
    ├── UsageError           2   the command line asks for something that does not exist
    ├── ConfigError          2   a configuration file is wrong (all its errors at once)
    ├── StageError           1   a stage could not finish (disk full, training failed)
    ├── ModelError           1   a base model is missing or unusable
    ├── ServerError          1   the llama.cpp server did not start or answer
    ├── ContractError       20   data breaks its contract
    ├── DoesNotFitError     21   memory or disk is not enough
    ├── IntegrityError      22   a file is not what its manifest says
    ├── KeyFileError        23   wrong or missing key
    └── LockedError         24   another process works in this run folder

A verdict is not an error: `keep` exits 0, `iterate` 10, `discard` 11, `undecidable` 12 (see `decide.py`).
A message says what happened, the measured value and the limit, where, and ends with the next command.
"""

import errno
import json
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_BUG = 3
EXIT_INTERRUPTED = 130


class HoldfastError(Exception):
    """An expected failure. `hint` is the next thing to do, usually a command."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(HoldfastError):
    """The command line names something that does not exist."""

    exit_code = 2


class ConfigError(HoldfastError):
    """A configuration file is wrong."""

    exit_code = 2


class StageError(HoldfastError):
    """A stage could not finish."""


class ModelError(HoldfastError):
    """A base model is missing, incomplete or unusable."""


class ServerError(HoldfastError):
    """The llama.cpp server did not start or did not answer."""


class RefusedRequestError(ServerError):
    """The llama.cpp server answered a request with an error; it still runs."""


class ContractError(HoldfastError):
    """Data breaks its contract."""

    exit_code = 20


class DoesNotFitError(HoldfastError):
    """Memory or disk is not enough for what was asked."""

    exit_code = 21


class IntegrityError(HoldfastError):
    """A file is not what its manifest says."""

    exit_code = 22


class KeyFileError(HoldfastError):
    """A key is wrong or missing."""

    exit_code = 23


class LockedError(HoldfastError):
    """Another process holds the run folder."""

    exit_code = 24


class Interrupted(KeyboardInterrupt):
    """SIGTERM or Ctrl-C; a KeyboardInterrupt so that no library swallows it."""


# safetensors and torch report a full disk with exceptions and words of their own, not with OSError: either the words of
# the error number, or only that writing failed.
DISK_FULL_WORDS = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")
WRITE_FAILED = re.compile(
    "PytorchStreamWriter failed writing|basic_ios::clear: iostream error|inline_container.*unexpected pos"
    "|File too large"
)
NEARLY_FULL = 16 * 2**20  # bytes; with less left, a failed write needs no other reason


def disk_full_error(error: BaseException, folder: Path | None = None) -> StageError | None:
    """The StageError for "no space left on device" or for a failed write, or None when `error` is something else.

    An error that says no more than that writing failed is a full disk when one of its causes says so or the disk is
    nearly full now; else the error names both possible reasons, for a removed half file may have made room again.
    folder: where the writing was, for errors that do not name their file; default: the current folder.
    """
    failed = WRITE_FAILED.search(str(error)) is not None
    full = any(map(_says_full, _causes(error) if failed else (error,)))
    if not full and not failed:
        return None
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy: where it goes
    where = Path(str(name)) if name else folder or Path.cwd()
    what = f" while writing {where.name}" if name else ""
    folder = next((p for p in (where, *where.parents) if p.exists()), Path("/"))
    free = free_space(folder)
    if full or free < NEARLY_FULL:
        return StageError(
            f"the disk is full: {free / 2**20:.1f} MiB left in {folder}{what}. Nothing half-written was kept.",
            hint="free space or use another disk (holdfast run --run-dir DIR), then repeat the same command: it "
            "goes on where it stopped",
        )
    return StageError(
        f"a file could not be written: {str(error).splitlines()[0]}; {free / 2**20:.1f} MiB are free in {folder} now. "
        "Nothing half-written was kept.",
        hint="if the disk or a quota was full for a moment, make room (df, quota -s); a size limit of files is "
        "`ulimit -f` or the file system's; else look for a failing disk (dmesg); then repeat the same command",
    )


def free_space(folder: Path) -> int:
    """Bytes that this user may still write below a folder that exists."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def _says_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or any(words in str(error) for words in DISK_FULL_WORDS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _denied_error(error: BaseException) -> HoldfastError | None:
    """The error for a file that may not be read or written, or None when `error` is something else."""
    if not isinstance(error, OSError) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return None
    where = error.filename if error.filename is not None else "a file (it is not named)"
    return HoldfastError(
        f"{where}: {error.strerror}", hint="`ls -ld` it; holdfast run --run-dir DIR puts a run somewhere else"
    )


def no_memory_error(error: BaseException) -> DoesNotFitError | None:
    """The error for memory that ran out in any stage, or None when `error` is something else.

    By name, because this layer does not import torch: its card says OutOfMemoryError, its CPU says RuntimeError.
    """
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not named and "can't allocate memory" not in str(error):
        return None
    what = (str(error).splitlines() or ["no memory left"])[0]
    return DoesNotFitError(
        f"memory is not enough: {what}",
        hint="end other work on this machine (ps aux --sort -rss, nvidia-smi), use smaller batches "
        "(evaluate.batch_size: 1), or ask holdfast plan -c FILE for what fits; what is finished is kept",
    )


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Around work in `folder`: a full disk becomes a StageError that names it, whatever library met it."""
    try:
        yield
    except Exception as error:
        full = disk_full_error(error, folder)
        if full is None:
            raise
        raise full from error


def guard(command: Callable[[], int], *, as_json: bool = False, answered: Callable[[], bool] = lambda: False) -> int:
    """Run `command` and turn every outcome into an exit code. Only this file says `except Exception`.

    answered: whether stdout has its one document already; an error that comes later (of a server that was ready) is
    told on stderr alone.
    """

    def say(message: str, hint: str, kind: str, code: int) -> None:
        _say(message, hint, kind, code, as_json and not answered())

    try:
        return command()
    except KeyboardInterrupt as stop:
        text = str(stop) or "interrupted. The same command goes on where this one stopped."
        say(text, "", "Interrupted", EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    except HoldfastError as error:
        say(error.message, error.hint, type(error).__name__, error.exit_code)
        return error.exit_code
    except Exception as error:
        full = disk_full_error(error)
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has gone: `holdfast status RUN | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return HoldfastError.exit_code
        expected = full or _denied_error(error) or no_memory_error(error)
        if expected is not None:
            say(expected.message, expected.hint, type(expected).__name__, expected.exit_code)
            return expected.exit_code
        log = _save_crash_log()
        message = f"this is a bug in holdfast: {type(error).__name__}: {error}"
        say(message, f"please report it with the log {log}", "Bug", EXIT_BUG)
        return EXIT_BUG


def _say(message: str, hint: str, kind: str, code: int, as_json: bool) -> None:
    print(f"holdfast: {message}", file=sys.stderr)
    if hint:
        print(f"  next: {hint}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"kind": kind, "message": message, "next": hint}, "exit_code": code}))


def _save_crash_log() -> str:
    text = f"holdfast crash, {platform.platform()}, Python {platform.python_version()}\nargv: {sys.argv}\n\n"
    text += traceback.format_exc()
    name = f"holdfast-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (Path(), Path(os.environ.get("TMPDIR", "/tmp"))):  # noqa: S108 (the name is ours alone)
        try:
            log = folder.resolve(strict=True) / name
            log.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return str(log)
    print(text, file=sys.stderr)
    return "above"
