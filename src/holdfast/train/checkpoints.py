"""Checkpoints that can be trusted: a mark with digests is written last; what has no valid mark is thrown away."""

import json
import re
import shutil
from pathlib import Path

from holdfast.core.digest import canonical_json, digest_tree
from holdfast.core.files import atomic_write, sync_tree

MARK = "complete.json"


def mark_complete(checkpoint: Path) -> None:
    """Sync a checkpoint that the trainer has written and mark it as whole."""
    sync_tree(checkpoint)
    atomic_write(checkpoint / MARK, canonical_json(digest_tree(checkpoint, skip=(MARK,))))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has its mark and every file is what the mark says."""
    try:
        wanted = json.loads((checkpoint / MARK).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(wanted == digest_tree(checkpoint, skip=(MARK,)))


def whole_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that are what their marks say, newest first; nothing is removed."""
    return [checkpoint for checkpoint in _newest_first(folder) if is_whole(checkpoint)]


def keep_newest(folder: Path, count: int, best: int | None = None) -> None:
    """Remove marked checkpoints beyond the newest `count`, but only once the newest of all is whole.

    best: the step of a checkpoint that stays whatever its age.
    """
    marked = [checkpoint for checkpoint in _newest_first(folder) if (checkpoint / MARK).is_file()]
    if marked and is_whole(marked[0]):
        for checkpoint in marked[count:]:
            if checkpoint.name != f"checkpoint-{best}":
                shutil.rmtree(checkpoint)


def _newest_first(folder: Path) -> list[Path]:
    found = [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted(found, key=lambda p: int(p.name.split("-")[1]), reverse=True)


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from; half-written and damaged ones are removed on the way."""
    for checkpoint in _newest_first(folder):
        if is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None
