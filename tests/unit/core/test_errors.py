"""Every outcome has its exit code, its words on stderr and, with --json, one document on stdout."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.core import errors
from holdfast.core.console import Console
from holdfast.core.errors import ConfigError, HoldfastError, Interrupted, LockedError, disk_full_error, guard

CODES = {
    "HoldfastError": 1, "UsageError": 2, "ConfigError": 2, "StageError": 1, "ModelError": 1, "ServerError": 1,
    "RefusedRequestError": 1,
    "ContractError": 20, "DoesNotFitError": 21, "IntegrityError": 22, "KeyFileError": 23, "LockedError": 24,
}  # fmt: skip


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder and a TMPDIR of one's own."""
    (tmp_path / "cwd").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_each_class_has_its_documented_exit_code(name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    error = getattr(errors, name)("what happened", hint="holdfast next")
    assert isinstance(error, HoldfastError)
    assert guard(raising(error)) == error.exit_code == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "holdfast: what happened\n  next: holdfast next\n")


def test_no_class_of_errors_is_without_a_documented_exit_code() -> None:
    found = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, HoldfastError)}
    assert found == set(CODES)


@pytest.mark.parametrize("code", [0, 10, 11, 12])
def test_a_command_that_ends_well_gives_its_own_code(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: code, as_json=True) == code
    assert capsys.readouterr() == ("", "")


def test_an_error_without_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(raising(ConfigError("bad"))) == 2
    assert capsys.readouterr().err == "holdfast: bad\n"


def test_with_json_an_error_is_exactly_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(raising(LockedError("é in use", hint="wait")), as_json=True) == 24
    out, err = capsys.readouterr()
    document = {"error": {"kind": "LockedError", "message": "é in use", "next": "wait"}, "exit_code": 24}
    assert json.loads(out) == document and out.count("\n") == 1 and "é in use" in err


def test_with_json_an_error_after_the_answer_is_told_on_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)

    def serve() -> int:
        console.result({"url": "there"}, "")
        raise LockedError("it died")

    assert guard(serve, as_json=True, answered=lambda: console.answered) == 24
    assert capsys.readouterr() == ('{"url": "there"}\n', "holdfast: it died\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted()])
def test_an_interruption_exits_130_and_says_how_to_go_on(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(raising(error), as_json=True) == 130
    out, err = capsys.readouterr()
    assert "The same command goes on" in err and json.loads(out)["exit_code"] == 130


def test_an_interruption_is_not_swallowed_by_a_library_that_catches_exceptions() -> None:
    assert not issubclass(Interrupted, Exception)


def test_leaving_with_an_exit_code_is_left_alone() -> None:
    with pytest.raises(SystemExit):
        guard(raising(SystemExit(2)))


def test_a_bug_exits_3_and_its_log_holds_the_traceback(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(raising(ZeroDivisionError("by zero")), as_json=True) == 3
    (log,) = (here / "cwd").glob("holdfast-crash-*.log")
    assert "Traceback" in log.read_text() and "ZeroDivisionError: by zero" in log.read_text()
    out, err = capsys.readouterr()
    assert "this is a bug in holdfast: ZeroDivisionError: by zero" in err and str(log) in err
    assert json.loads(out)["error"]["kind"] == "Bug" and json.loads(out)["exit_code"] == 3


def test_a_crash_log_goes_to_tmpdir_when_the_current_folder_is_gone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(here / "cwd")
    assert guard(raising(ValueError("x"))) == 3
    (log,) = (here / "tmp").glob("holdfast-crash-*.log")
    assert str(log) in capsys.readouterr().err


def test_a_crash_log_is_printed_when_it_can_be_saved_nowhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(here / "cwd")
    shutil.rmtree(here / "tmp")
    assert guard(raising(ValueError("x"))) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err and "the log above" in err


def test_a_bug_with_a_name_that_is_no_utf8_still_exits_3(here: Path) -> None:
    assert guard(raising(ValueError("file \udcff")), as_json=True) == 3
    (log,) = (here / "cwd").glob("holdfast-crash-*.log")
    assert "\\udcff" in log.read_text()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/nowhere/at/all/weights.bin"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/nowhere/weights.bin"),
        RuntimeError("Error while serializing: IoError(Os { code: 28, message: (os error 28) })"),
        RuntimeError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"),
    ],
)
def test_a_full_disk_exits_1_with_the_space_left(
    error: Exception, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(raising(error), as_json=True) == 1
    out, err = capsys.readouterr()
    assert "the disk is full" in err and "MiB left" in err and "repeat the same command" in err
    assert json.loads(out)["error"]["kind"] == "StageError"
    assert not list((here / "cwd").iterdir())


TORCH_WRITES = (
    "Error while serializing: I/O error: File too large (os error 27)",
    "PytorchStreamWriter failed writing file data/0: file write failed",
    "[enforce fail at inline_container.cc:664] . unexpected pos 3456 vs 3350",
)


@pytest.mark.parametrize("words", TORCH_WRITES)
def test_a_failed_write_is_a_full_disk_only_when_it_is_one(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError(words)
    monkeypatch.setattr(errors, "free_space", lambda folder: 2**30)
    failed = disk_full_error(error, tmp_path)
    assert failed is not None and "the disk is full" not in failed.message
    assert words in failed.message and "1024.0 MiB are free" in failed.message
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    full = disk_full_error(error, tmp_path)
    assert full is not None and "the disk is full" in full.message
    monkeypatch.setattr(errors, "free_space", lambda folder: 2**20)
    full = disk_full_error(RuntimeError(words), tmp_path)
    assert full is not None and "the disk is full: 1.0 MiB left" in full.message


def test_words_of_another_error_are_no_full_disk() -> None:
    assert disk_full_error(ValueError("template has an unexpected position")) is None
    assert disk_full_error(ValueError("unexpected pos 3 in the grammar")) is None


def test_other_errors_of_the_system_are_not_a_full_disk() -> None:
    assert disk_full_error(OSError(errno.EACCES, os.strerror(errno.EACCES), "x")) is None
    assert disk_full_error(ValueError("x")) is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_that_may_not_be_written_is_no_bug(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise OSError(number, os.strerror(number), "/somewhere/run.yaml")

    assert guard(command) == 1
    assert f"/somewhere/run.yaml: {os.strerror(number)}" in capsys.readouterr().err


def test_an_interruption_may_say_how_to_go_on_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise Interrupted("stopped; leave out --from")

    assert guard(command) == 130
    assert capsys.readouterr().err == "holdfast: stopped; leave out --from\n"


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_runs_out_in_any_stage_does_not_fit(
    error: Exception, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(raising(error)) == 21
    told = capsys.readouterr().err
    assert "memory is not enough: " in told and "holdfast plan" in told and "more" not in told.splitlines()[0]
    assert not [path for path in here.rglob("*") if path.is_file()], "no crash log: it is no bug"
