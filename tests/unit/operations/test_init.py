"""`init` writes a whole start or nothing."""

import errno
import shutil
from pathlib import Path

import pytest

from holdfast.core.config import load_config
from holdfast.core.console import Console
from holdfast.core.errors import UsageError, disk_full_error
from holdfast.operations.demo import init


def test_a_disk_that_fills_up_leaves_nothing_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copyfile
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("the user's")

    def copy_until_full(source: Path, to: Path) -> None:
        copy(source, to)
        if source.name == "train.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(to))

    monkeypatch.setattr(shutil, "copyfile", copy_until_full)
    with pytest.raises(OSError, match="No space") as caught:
        init(folder, Console(quiet=True))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    full = disk_full_error(caught.value)
    assert full is not None and f"left in {folder} " in full.message


@pytest.mark.parametrize(("folder", "name"), [
    ("mytask", "mytask"), ("My Team's tickets", "my-team-s-tickets"), ("2026", "2026"), ("on", "on"), ("1e3", "1e3"),
    ("Störung", "st-rung"), ("...", "mine"), ("x" * 99, "x" * 63), ("_.hidden", "hidden"), ("triage", "my-triage"),
])  # fmt: skip
def test_the_run_is_named_after_the_folder(folder: str, name: str, tmp_path: Path) -> None:
    """With the example's name it would work in the demo's run folder."""
    where = tmp_path / folder if folder != "..." else tmp_path / "日本"
    assert init(where, Console(quiet=True)) == 0
    assert load_config(where / "holdfast.yaml").name == name
    assert (where / "holdfast.yaml").read_text().count("\nname: ") == 1


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holdfast.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"already has holdfast\.yaml"):
        init(tmp_path / "mine", Console(quiet=True))
    assert not (tmp_path / "elsewhere").exists()
