"""READERS and TREES: a source becomes examples and defects, one at a time. Defects are reported, never repaired.

READERS turn one row into turns; the checks that hold for every conversation come after them, in one place. TREES read
sources in which many files make one thing, for example rules and their runbooks.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from holdfast.core.errors import ContractError, UsageError
from holdfast.core.records import Example
from holdfast.core.source_config import Format, Source
from holdfast.sources import detect, knowledge, prometheus, runbooks
from holdfast.sources.conversation import Split, build_example
from holdfast.sources.conversation import check_turns as check_turns
from holdfast.sources.defects import SHOWN, Defect, FileReport, FirstDefects, Problem, SourceReport, Turns
from holdfast.sources.defects import defects_error as defects_error
from holdfast.sources.files import Files, find_files, kind_of, open_data
from holdfast.sources.formats import (
    read_instruction,
    read_messages,
    read_preference,
    read_prompt_completion,
    read_sharegpt,
)
from holdfast.sources.jsonrows import Rows
from holdfast.sources.telemetry import read_event, read_table_event
from holdfast.sources.tickets import read_ticket

Result = Iterator[Example | Defect]
# Another way of reading a large file; None when it does not take the file.
Large = Callable[[Path, Source, FileReport], Iterator[Any] | None]

READERS: dict[str, Callable[[dict[str, Any]], Turns]] = {
    "messages": read_messages,
    "sharegpt": read_sharegpt,
    "instruction": read_instruction,
    "prompt_completion": read_prompt_completion,
    "preference": read_preference,
}
# Each takes the source, its files by display name and the account to fill.
TREES: dict[str, Callable[[Source, Sequence[tuple[Path, str]], FileReport], Result]] = {
    "runbooks": runbooks.read_runbooks,
    "prometheus_rules": prometheus.read_rules,
    "knowledge": knowledge.read_facts,
    "prolog": knowledge.read_facts,
}


class Reading(NamedTuple):
    """A source, read as a whole. `ignored` counts the rows in which a key without a plain value was left out."""

    examples: list[Example]
    defects: list[Defect]
    format: str
    ignored: dict[str, int]


def read_source(
    source: Source, name: str, report: SourceReport | None = None, names: Sequence[str] = (), large: Large | None = None
) -> Iterator[Any]:
    """Yield the examples and defects of a source in the order of its files and rows, holding one row at a time.

    name: how the source is called; rows are `<file>:<line>`. report: filled while reading. names: how each file is
    called, when the caller has named the files of all sources together. large: asked first for a file of JSON lines;
    what it returns is yielded instead of examples and defects. Raises UsageError when nothing is there,
    ContractError when a file cannot be read at all, its format cannot be told or it holds no rows.
    """
    report = SourceReport() if report is None else report
    found = find_files(source.path)
    report.left_out = [str(path) for path in found.left_out]
    named = list(zip(found.files, names or _names_below(found, name), strict=True))
    form = _tree_format(source, named, name)
    if form is None:
        others = [path for path, _ in named if found.base == Path(source.path) and kind_of(path) != "rows"]
        report.left_out += map(str, others)
        unreadable: list[ContractError] = []
        for path, file_name in named:
            if path in others:
                continue
            try:
                yield from _read_rows(path, file_name, source, report, large)
            except ContractError as error:
                unreadable.append(error)
        if unreadable:
            raise _as_one(unreadable)
        return
    detected = source.format == "auto"
    reason = "told from the names and contents of its files" if detected else "as configured"
    account = FileReport(name, form, detected, reason)
    report.files.append(account)
    broken = ""
    for item in TREES[form](source, named, account):
        if isinstance(item, Example):
            account.rows += 1
            yield item if source.split == "auto" else _fixed(item, source.split)
        else:
            account.defective += item.source != broken
            broken = item.source
            yield item
    if not report.rows:
        raise ContractError(f"{name} holds nothing to learn from", hint="; ".join(account.notes) or "look at its files")


def _as_one(errors: Sequence[ContractError]) -> ContractError:
    """All files that cannot be read, in one error."""
    if len(errors) == 1:
        return errors[0]
    lines = [error.message for error in errors[:SHOWN]]
    more = [f"… and {len(errors) - SHOWN} more"] if len(errors) > SHOWN else []
    hints = dict.fromkeys(error.hint for error in errors)
    what = f"{len(errors)} files cannot be read:\n  " + "\n  ".join([*lines, *more])
    return ContractError(what, hint="\n        ".join(hints))


def _fixed(example: Example, split: Split) -> Example:
    return Example(
        messages=example.messages, source=example.source, split=split, tags=example.tags, rejected=example.rejected
    )


def _names_below(found: Files, name: str) -> list[str]:
    if found.base is None:
        return [name]
    return [path.relative_to(found.base).as_posix() for path in found.files]


def _tree_format(source: Source, named: Sequence[tuple[Path, str]], name: str) -> str | None:
    """The format when many files make one thing; None when every file holds rows of its own."""
    if source.format in READERS or source.format in ("tickets", "telemetry") or source.tickets:
        return None
    if source.format != "auto":
        if source.format not in TREES:
            raise UsageError(f"{name}: format {source.format} cannot be read", hint="holdfast config-schema")
        return source.format
    kinds = sorted({kind_of(path) for path, _ in named if path.stem not in runbooks.INDEX_PAGES} - {""})
    kinds = kinds or sorted({kind_of(path) for path, _ in named} - {""}) or ["rows"]
    if kinds == ["rows"]:
        return None
    if kinds == ["runbooks"]:
        return "runbooks"
    if kinds in (["yaml"], ["runbooks", "yaml"]) and prometheus.looks_like_rules([p for p, _ in named]):
        return "prometheus_rules"
    if kinds in (["yaml"], ["prolog"]):
        return "knowledge" if kinds == ["yaml"] else "prolog"
    raise ContractError(
        f"the format of {name} cannot be told: it holds files of {len(kinds)} kinds ({', '.join(kinds)})",
        hint="say which one is meant: `format: prometheus_rules`, `format: runbooks`, `format: knowledge`, or point "
        "the path at the files of one kind, for example DIR/**/*.jsonl",
    )


def form_of(source: Source) -> str:
    """The format that the configuration names, or `auto`."""
    return "tickets" if source.format == "auto" and source.tickets else source.format


def reader_of(form: str, source: Source, *, csv: bool = False) -> Callable[[dict[str, Any]], Turns]:
    """The function that reads one row of a format. csv: every value of the row is a text."""
    if form == "tickets" and source.tickets is not None:
        return partial(read_ticket, options=source.tickets)
    if form == "telemetry":
        return partial(read_table_event if csv else read_event, options=source.telemetry)
    return READERS[form]


def _read_rows(path: Path, name: str, source: Source, report: SourceReport, large: Large | None) -> Iterator[Any]:
    """Yield what one file of rows holds."""
    account = FileReport(name)
    report.files.append(account)
    done = report.position()
    try:
        with path.open("rb") as raw, path.open("rb") as first:
            report.position = lambda: done + (raw.tell() if not raw.closed else size)
            size = path.stat().st_size
            wrapping = detect.find_wrapping(open_data(first, path).read(detect.HEAD), path)
            csv = wrapping.name == "CSV"
            report.position = lambda: done + (size if raw.closed else raw.tell())
            blocks = large(path, source, account) if large is not None and wrapping.name == "JSONL" else None
            if blocks is not None:
                for block in blocks:
                    report.position = partial(int, done + block.end)
                    yield block
            else:
                yield from _convert(wrapping.rows(open_data(raw, path), name), account, source, wrapping.name)
    except (OSError, EOFError, zlib.error) as error:
        reason = str(error) or type(error).__name__
        raise ContractError(
            f"{path} cannot be read after row {account.rows + account.defective}: {reason}", hint="copy the file again"
        ) from None
    report.position = lambda: done + size
    if not account.rows and not account.defective:
        what = (
            "is empty: it holds no rows" if not size else "has a header and holds no rows" if csv else "holds no rows"
        )
        raise ContractError(f"{path} {what}", hint="one JSON object a line is expected, or a table with a header")


def _convert(rows: Rows, account: FileReport, source: Source, wrapping: str) -> Result:
    """Tell the format, turn each row into an example or defects, and keep the account."""
    split: Split | None = None if source.split == "auto" else source.split
    asked, csv = form_of(source), wrapping == "CSV"
    account.reason = f"{wrapping}, as configured"
    read: Callable[[dict[str, Any]], Turns] | None = None
    if asked != "auto":
        account.format, read = asked, reader_of(asked, source, csv=csv)
    detector = detect.Detector(account.name, table=csv) if read is None else None
    name, ignored = account.name, account.ignored
    left_out: list[str] = []
    for item in rows:
        if len(item) != 2:
            account.defective += 1
            yield item
            continue
        line, row = item
        if detector is not None:
            detector.check(line, row)
            if read is None:
                account.format, account.detected = detector.format, True
                account.reason = f"{wrapping}, {detector.reason}"
                read = reader_of(detector.format, source, csv=csv)
        found = build_example(row, read, f"{name}:{line}", split, left_out)  # type: ignore[arg-type]
        if left_out:
            ignored.update(left_out)
            left_out.clear()
        if type(found) is not list:
            account.rows += 1
            yield found  # type: ignore[misc]
        else:
            account.defective += 1
            yield from _defects(found, f"{name}:{line}")


def _defects(problems: Sequence[Problem], source: str) -> Iterator[Defect]:
    return (Defect(problem.rule, source, problem.message, problem.value) for problem in problems)


def read_whole(source: Source, name: str, report: SourceReport) -> list[Example]:
    """All examples of a source, where it is known to be small. Raises ContractError with its defects, too."""
    examples: list[Example] = []
    defects = FirstDefects()
    for item in read_source(source, name, report):
        if isinstance(item, Example):
            examples.append(item)
        else:
            defects.add(item)
    if defects.found:
        raise defects_error(defects.kept, report.rows, defects.found, defects.broken)
    return examples


def read_file(path: Path, name: str, asked: Format | Literal["auto"] = "auto", split: Split | None = None) -> Reading:
    """Read a file, folder or glob as a whole. Defects are returned, not raised. Raises what `read_source` raises."""
    report = SourceReport()
    source = Source(path=str(path), format=asked, split=split or "auto")
    items = list(read_source(source, name, report))
    ignored: Counter[str] = sum((file.ignored for file in report.files), start=Counter())
    return Reading(
        [item for item in items if isinstance(item, Example)],
        [item for item in items if isinstance(item, Defect)],
        report.files[0].format,
        dict(ignored),
    )
