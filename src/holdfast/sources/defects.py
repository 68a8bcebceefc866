"""What readers find: turns, defects, and the account of a source. A defect has file, line, rule and value."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.core.knowledge import Knowledge

SHOWN = 50
KEPT = 1000
SHOWN_FILES = 10
Tags = dict[str, str | int | float | bool]


class Problem(NamedTuple):
    """What is wrong with a row, before it is known where the row stands."""

    rule: str
    message: str
    value: str


class Defect(NamedTuple):
    """One broken rule of one row. `source` is `<file name>:<line>`."""

    rule: str
    source: str
    message: str
    value: str


class Turns(NamedTuple):
    """What a reader found in a row.

    turns: raw (role, content) pairs. used: the keys it read. problems: what keeps the turns from being built.
    rejected: the worse answer of a preference pair. tags: what the reader adds to the tags.
    """

    turns: Sequence[tuple[Any, Any]]
    used: frozenset[str]
    problems: Sequence[Problem] = ()
    rejected: Any = None
    tags: Tags = {}


@dataclass
class FileReport:
    """The account of one file (of one source, where many files make one thing). Filled while it is read."""

    name: str
    format: str = ""
    detected: bool = False
    reason: str = ""
    rows: int = 0
    defective: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    """Rows in which a key with a list, an object or null was left out, by key."""
    notes: list[str] = field(default_factory=list)
    """What else the user should know, for example alerts without a runbook."""
    facts: Knowledge | None = None
    """What a knowledge base says, for the scorers."""


@dataclass
class SourceReport:
    """The account of one source. `position` says how many bytes of its files are read by now."""

    files: list[FileReport] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Files of a folder that no reader knows."""
    position: Callable[[], int] = lambda: 0

    @property
    def rows(self) -> int:
        """Rows read, sound and defective."""
        return sum(file.rows + file.defective for file in self.files)


class FirstDefects:
    """The first defects, and how many there are: memory stays flat however broken a file is."""

    def __init__(self) -> None:
        self.kept: list[Defect] = []
        self.found = 0
        self.broken = 0
        self._last = ""

    def add(self, defect: Defect) -> None:
        """Count a defect, keep it when it is among the first."""
        self.found += 1
        self.broken += defect.source != self._last
        self._last = defect.source
        if len(self.kept) < KEPT:
            self.kept.append(defect)

    def add_counted(self, defects: Sequence[Defect], found: int, broken: int) -> None:
        """Add the first defects of a part that has more of them."""
        self.kept += defects[: KEPT - len(self.kept)]
        self.found += found
        self.broken += broken


def describe_files(report: SourceReport, split: str = "") -> list[str]:
    """One line a file (ten at most) with what was detected and why, and what else the user should know."""
    lines: list[str] = []
    for file in report.files[:SHOWN_FILES]:
        how = f"detected: {file.reason}" if file.detected else file.reason
        rows = file.rows + file.defective
        lines.append(f"{file.name}: {rows} rows, format {file.format} ({how})" + (f", split {split}" if split else ""))
        lines += (f"  {note}" for note in file.notes)
    if len(report.files) > SHOWN_FILES:
        lines.append(f"… and {len(report.files) - SHOWN_FILES} more files, {report.rows} rows in all")
    return lines


def short(value: Any) -> str:
    """A value as it is shown in a message: at most 80 characters, always printable, whatever its size."""
    if isinstance(value, str):
        value = value[:200]
        text = repr(value) if is_unicode(value) else ascii(value)
    elif isinstance(value, list | dict) and len(value) > 40:
        text = f"{type(value).__name__} of {len(value)} items"
    elif isinstance(value, int) and value.bit_length() > 1000:
        text = f"a whole number of {value.bit_length()} bits"
    else:
        try:
            text = repr(value)
        except RecursionError:
            text = f"{type(value).__name__}, nested too deeply"
        text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else text[:79] + "…"


def names_of(names: Iterable[Any]) -> str:
    """Several names in one value of a message, cut like `short`."""
    text = ", ".join(map(short, names))
    return text if len(text) <= 80 else text[:79] + "…"


def is_unicode(text: str) -> bool:
    """False when the text holds half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def broken_text(where: str, text: str) -> Problem:
    """The problem of text that is not Unicode: half a surrogate pair, or bytes that are not UTF-8."""
    bad = next(character for character in text if "\ud800" <= character <= "\udfff")
    if "\udc80" <= bad <= "\udcff":
        message = f"{where}: not UTF-8: byte {ord(bad) - 0xDC00:#04x}"
    else:
        message = f"{where}: half of a surrogate pair, not valid Unicode"
    return Problem("unicode", message, ascii(text[:70])[:80])


def defects_error(defects: Sequence[Defect], rows: int, found: int = 0, broken: int = 0) -> ContractError:
    """One error for all defects: up to 50 shown, all counted.

    rows: how many rows were read. found, broken: defects and defective rows where `defects` holds only the first.
    """
    lines = [f"{d.source}: {d.rule}: {d.message}; found {d.value}" for d in defects[:SHOWN]]
    found = max(found, len(defects))
    if found > len(lines):
        lines.append(f"… and {found - len(lines)} more")
    broken = broken or len({d.source for d in defects})
    return ContractError(
        f"{broken} of {rows} rows {'is' if broken == 1 else 'are'} defective "
        f"({found} defect{'' if found == 1 else 's'}; nothing is repaired):\n  " + "\n  ".join(lines),
        hint="correct the lines, then repeat the same command; holdfast validate DATA reads them without a run",
    )
