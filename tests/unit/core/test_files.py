"""Atomic writing: a reader sees old or new; a fault leaves the old content and no litter."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.core.errors import UsageError, disk_full_error
from holdfast.core.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    atomic_write,
    require_new_folder,
    sweep_temporaries,
    sync_tree,
)


class Fault:
    """Makes a function of a module fail at its n-th call (0 = never) and counts the calls."""

    def __init__(self, patch: pytest.MonkeyPatch, module: Any, name: str, at: int, error: BaseException) -> None:
        self.calls, self.at, self.error = 0, at, error
        self.real: Callable[..., Any] = getattr(module, name)
        patch.setattr(module, name, self)

    def __call__(self, *values: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return self.real(*values, **named)

    @property
    def fired(self) -> bool:
        return 0 < self.at <= self.calls


def no_space(path: Path | None = None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", str(path) if path else None)


def everything(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() if p.is_file() else "" for p in folder.rglob("*")}


def write_folder(path: Path, **files: str) -> None:
    with atomic_path(path) as temporary:
        temporary.mkdir()
        for name, text in files.items():
            (temporary / name).write_text(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(contents=st.lists(st.binary(), min_size=1, max_size=4))
def test_the_last_write_is_what_is_read_and_nothing_else_is_left(tmp_path: Path, contents: list[bytes]) -> None:
    path = tmp_path / "deep" / "er" / "file"
    for data in contents:
        atomic_write(path, data)
    assert path.read_bytes() == contents[-1]
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", a="1", b="1")
    write_folder(tmp_path / "out", a="2")
    assert everything(tmp_path) == {"out": "", "out/a": "2"}


def test_a_folder_may_take_the_place_of_a_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "out", b"file")
    write_folder(tmp_path / "out", a="2")
    assert everything(tmp_path) == {"out": "", "out/a": "2"}


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), no_space()])
def test_an_exception_leaves_the_old_file_and_no_litter(tmp_path: Path, error: BaseException) -> None:
    atomic_write(tmp_path / "file", b"old")
    with pytest.raises(type(error)), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half of the n")
        raise error
    assert everything(tmp_path) == {"file": "old"}


def test_an_exception_leaves_the_old_folder_and_no_litter(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", a="old")
    with pytest.raises(ValueError, match="x"), atomic_path(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("half")
        raise ValueError("x")
    assert everything(tmp_path) == {"out": "", "out/a": "old"}


def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", b"old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        pass
    assert everything(tmp_path) == {"file": "old"}


def test_a_failing_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write(tmp_path / "file", b"old")
    fault = Fault(monkeypatch, os, "replace", 1, no_space())
    with pytest.raises(OSError, match="No space"):
        atomic_write(tmp_path / "file", b"new")
    assert fault.fired and everything(tmp_path) == {"file": "old"}


@pytest.mark.parametrize("at", [1, 2])
def test_a_failing_rename_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    write_folder(tmp_path / "out", a="old")
    fault = Fault(monkeypatch, os, "replace", at, no_space())
    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path / "out", a="new")
    assert fault.fired and everything(tmp_path) == {"out": "", "out/a": "old"}


@pytest.mark.parametrize(("at", "kept"), [(1, "old"), (2, "new")])
def test_a_failing_fsync_leaves_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, kept: str
) -> None:
    atomic_write(tmp_path / "file", b"old")
    fault = Fault(monkeypatch, os, "fsync", at, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        atomic_write(tmp_path / "file", b"new")
    assert fault.fired and everything(tmp_path) == {"file": kept}


@pytest.mark.parametrize(("at", "kept"), [(1, "old"), (2, "old"), (3, "new")])
def test_a_failing_fsync_leaves_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, kept: str
) -> None:
    write_folder(tmp_path / "out", a="old")
    fault = Fault(monkeypatch, os, "fsync", at, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        write_folder(tmp_path / "out", a="new")
    assert fault.fired and everything(tmp_path) == {"out": "", "out/a": kept}


def test_the_file_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        events.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_replace(source: Any, target: Any) -> None:
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    atomic_write(tmp_path / "file", b"x")
    assert events == ["fsync file", "replace", f"fsync {tmp_path.name}"]


def test_a_full_disk_leaves_the_old_file_and_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write(tmp_path / "file", b"old")
    fault = Fault(monkeypatch, Path, "write_bytes", 1, no_space(tmp_path / "file"))
    with pytest.raises(OSError, match="No space") as caught:
        atomic_write(tmp_path / "file", b"new")
    assert fault.fired and everything(tmp_path) == {"file": "old"}
    told = disk_full_error(caught.value)
    assert told is not None and "MiB left" in told.message and "while writing file" in told.message
    unnamed = disk_full_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert unnamed is not None and f"left in {tmp_path}. Nothing" in unnamed.message


def test_a_write_that_fails_names_the_file_that_was_to_be(tmp_path: Path) -> None:
    for at_first, named in ((None, str(tmp_path / "f")), ("other", "other")):
        with pytest.raises(OSError, match="No space") as caught, atomic_path(tmp_path / "f"):
            raise OSError(errno.ENOSPC, "No space left on device", at_first)
        assert caught.value.filename == named


def test_a_really_full_device_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half")
        Path("/dev/full").write_text("x")
    assert everything(tmp_path) == {} and disk_full_error(caught.value) is not None


def test_sweeping_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    for name in ("keep/a", f"{TEMPORARY_PREFIX}x/half", f"keep/{TEMPORARY_PREFIX}y/{TEMPORARY_PREFIX}z/half"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "keep" / f"{TEMPORARY_PREFIX}file").write_text("x")
    (tmp_path / "tmp-mine").write_text("x")
    sweep_temporaries(tmp_path)
    assert everything(tmp_path) == {"keep": "", "keep/a": "x", "tmp-mine": "x"}
    sweep_temporaries(tmp_path / "not there")


def test_syncing_a_tree_touches_every_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    fault = Fault(monkeypatch, os, "fsync", 0, OSError())
    sync_tree(tmp_path)
    assert fault.calls == 4
    shutil.rmtree(tmp_path / "a")


def test_a_new_folder_is_free_or_empty_and_not_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for free in (tmp_path / "empty", tmp_path / "not" / "yet", Path("nowhere-yet")):
        require_new_folder(free)
    for taken, message in (("file", "is a file"), ("file/below/it", "is a file"), (".", "is not empty")):
        with pytest.raises(UsageError, match=message):
            require_new_folder(tmp_path / taken)
