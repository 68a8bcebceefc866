"""The run folder: the only place that opens, syncs and renames the files that stages make.

runs/<name>/  run.yaml  journal.jsonl  .lock  01-collect/ … 09-decide/  (each: intent.json, products, manifest.json)
"""

import fcntl
import io
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from holdfast.core.config import RunConfig
from holdfast.core.errors import IntegrityError, LockedError, UsageError
from holdfast.core.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    atomic_write,
    require_folder,
    sweep_temporaries,
    sync_tree,
)
from holdfast.core.manifest import INTENT, MANIFEST, read_intent_key, write_intent
from holdfast.core.records import Example, encode_example, jsonl_bytes

STAGE_NAMES = (
    "collect", "prepare", "plan", "baseline", "train", "evaluate", "export", "verify", "decide", "seal",
)  # fmt: skip


def utc_now() -> str:
    """Time for records: UTC, whole seconds, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class StageFolder:
    """Where one stage puts its products. Every write is atomic; `path` is for reading and for resumable work."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON document, indented for people."""
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        atomic_write(self.path / name, text.encode())

    def write_jsonl(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows, one JSON object a line."""
        atomic_write(self.path / name, jsonl_bytes(rows))

    def write_examples(self, name: str, examples: Iterable[Example]) -> None:
        """Write examples as JSONL, one at a time."""
        with self.writing(name) as temporary, temporary.open("wb") as file:
            file.writelines(map(encode_example, examples))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        atomic_write(self.path / name, text.encode())

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path (for a file or a folder) that becomes `name` when the block ends well."""
        with atomic_path(self.path / name) as temporary:
            yield temporary

    def begin(self, key: str) -> bool:
        """Make the folder ready for a stage with `key`; True when unfinished work of the same key is resumed.

        Work of another key, and a finished stage that is to be redone, are removed.
        """
        resumed = read_intent_key(self.path) == key and not (self.path / MANIFEST).exists()
        if resumed:
            sweep_temporaries(self.path)
        else:
            self.clear()
            self.path.mkdir(parents=True)
            write_intent(self.path, key)
        return resumed

    def clear(self) -> None:
        """Remove the folder. Intent and manifest go first: the rest must look neither resumable nor finished."""
        (self.path / INTENT).unlink(missing_ok=True)
        (self.path / MANIFEST).unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)

    def sync(self) -> None:
        """Bring everything that libraries wrote here to the disk."""
        sync_tree(self.path)


class RunDir:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str) -> StageFolder:
        """Folder of a stage, for example `05-train`."""
        return StageFolder(self.path / f"{STAGE_NAMES.index(name) + 1:02d}-{name}")

    def write_config(self, config: RunConfig) -> None:
        """Keep the resolved configuration as `run.yaml`."""
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        atomic_write(self.path / "run.yaml", text.encode())

    def read_config(self) -> RunConfig:
        """The configuration this run was made with. Raises UsageError when this is no run folder, IntegrityError for a
        damaged one."""
        if not (self.path / "run.yaml").is_file():
            raise UsageError(f"{self.path} is not a run folder (no run.yaml)", hint="holdfast run -c FILE makes one")
        try:
            return RunConfig.model_validate(yaml.safe_load((self.path / "run.yaml").read_text(encoding="utf-8")))
        except (ValidationError, yaml.YAMLError, ValueError) as error:
            hint = "holdfast run -c FILE --run-dir DIR writes it again"
            raise IntegrityError(f"{self.path / 'run.yaml'} is damaged: {_first_problem(error)}", hint) from None

    def journal(self, event: str, **values: Any) -> None:
        """Append one event to `journal.jsonl`. After a line torn by a full disk or a kill it starts on a new line."""
        line = json.dumps({"time": utc_now(), "pid": os.getpid(), "event": event, **values}) + "\n"
        with (self.path / "journal.jsonl").open("a+b") as file:
            if file.seek(0, io.SEEK_END):
                file.seek(-1, io.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process, and sweep what a killed one left; the kernel frees the lock at any end.

        Raises LockedError when another process has it, UsageError when there is a file in its place.
        """
        require_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise LockedError(
                    f"{self.path} is in use by process {owner}",
                    hint=f"wait for it, or look at it with: ps -p {owner}",
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self._sweep()
            yield

    def owner(self) -> str | None:
        """The process that works in the folder now (its number, or `unknown`); None when none does."""
        try:
            with (self.path / ".lock").open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return file.read().strip() or "unknown"
        except OSError:  # no run was ever begun here, or the file may not be read: nothing is known
            return None
        return None

    def _sweep(self) -> None:
        # Only what is surely ours: the user may have put the run folder beside files of their own.
        for name in STAGE_NAMES:
            sweep_temporaries(self.stage(name).path)
        for left in self.path.glob(f"{TEMPORARY_PREFIX}*/run.yaml"):
            left.unlink()
        for folder in self.path.glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(OSError):
                folder.rmdir()


def _first_problem(error: Exception) -> str:
    """What is wrong with a run.yaml, in one line: someone edited it, or a holdfast with other keys wrote it. Its text
    is not shown: it may hold words that are to stay secret (redact.deny)."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    first, more = error.errors()[0], error.error_count() - 1
    where = ".".join(map(str, first["loc"]))
    return f"{where + ': ' if where else ''}{first['msg']}" + (f" (and {more} more)" if more else "")
