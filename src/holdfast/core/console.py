"""What a person sees: progress on stderr through rich, results on stdout, nothing else."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich takes longer to load than everything else that `holdfast --help` needs
    from rich.console import Console as RichConsole
    from rich.progress import Progress


class Console:
    """Progress and remarks go to stderr; `result` is the only thing that ever reaches stdout."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.answered = False  # whether `result` was printed

    @cached_property
    def rich(self) -> "RichConsole":
        """Rich's console on stderr, made when the first line is written."""
        from rich.console import Console as RichConsole

        return RichConsole(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line of progress. Square brackets are shown as they are."""
        if not self.quiet:
            self.rich.print(text, markup=False)

    def warn(self, text: str) -> None:
        """A remark that the user must not miss; shown also when quiet."""
        self.rich.print(f"warning: {text}", markup=False, style="yellow")

    @contextmanager
    def progress(self, label: str, total: int, unit: str = "") -> Iterator["Bar"]:
        """A progress bar with rate and time left; in a log file (no terminal) one line every ten seconds instead."""
        if self.quiet or not self.rich.is_terminal:
            yield Bar(self, label, total, None, unit)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.rich, transient=True) as progress:
            yield Bar(self, label, total, progress, unit)

    def result(self, document: dict[str, Any], text: str) -> None:
        """The command's answer: `document` with --json, else `text`."""
        self.answered = True
        print(json.dumps(document) if self.as_json else text, file=sys.stdout, flush=True)


class Bar:
    """One running bar; made by `Console.progress`."""

    def __init__(self, console: Console, label: str, total: int, progress: "Progress | None", unit: str = "") -> None:
        self.console, self.label, self.total, self.unit, self.done = console, label, total, unit, 0
        self.progress = progress
        self.task = progress.add_task(label, total=total, rate="") if progress else None
        self.skipped = 0
        self.started = self.last_line = time.monotonic()

    def skip(self, count: int) -> None:
        """`count` were done before (a resumed run): they count, but not for the rate."""
        self.done += count
        self.skipped += count
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=self.done)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Move on by `count`; `note` (for example the loss) is shown behind the label."""
        self.done += count
        label = f"{self.label} {note}" if note else self.label
        now = time.monotonic()
        rate = (self.done - self.skipped) / max(1e-9, now - self.started)
        shown = f"{rate:,.1f} {self.unit}/s" if self.unit else ""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, advance=count, description=label, rate=shown)
        elif now - self.last_line > 10:
            self.last_line = now
            left = f"{(self.total - self.done) / rate:.0f} s left" if rate else ""
            more = ", ".join(part for part in (shown, left) if part)
            self.console.say(f"  {label} {self.done}/{self.total}" + (f" ({more})" if more else ""))
