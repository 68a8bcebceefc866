"""`init` writes a whole start or nothing."""

import errno
import shutil
from pathlib import Path

import pytest

from holdfast.core.console import Console
from holdfast.core.errors import disk_full_error
from holdfast.operations.demo import init


def test_a_disk_that_fills_up_leaves_nothing_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copyfile
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("the user's")

    def copy_until_full(source: Path, to: Path) -> None:
        copy(source, to)
        if source.name == "holdfast.yaml":
            raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(to))

    monkeypatch.setattr(shutil, "copyfile", copy_until_full)
    with pytest.raises(OSError, match="No space") as caught:
        init(folder, Console(quiet=True))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    full = disk_full_error(caught.value)
    assert full is not None and f"left in {folder} " in full.message
