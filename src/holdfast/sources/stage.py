"""collect: read every source into examples that know where they came from, one row at a time."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from holdfast.core.config import Source
from holdfast.core.console import Bar
from holdfast.core.context import StageContext
from holdfast.core.knowledge import KNOWLEDGE_FILE, merge_knowledge
from holdfast.core.records import Example, decode_example, encode_example, examples_bytes
from holdfast.sources.conversation import with_system_prompt
from holdfast.sources.defects import Defect, FileReport, FirstDefects, SourceReport, defects_error, describe_files
from holdfast.sources.files import display_names, find_files

if TYPE_CHECKING:
    from holdfast.redact.redactor import Redactor
    from holdfast.sources.blocks import Block

CHUNK = 1000


def run(context: StageContext) -> None:
    """Write `examples.jsonl`, `collect.json` and what knowledge bases say, `knowledge.json`.

    Raises ContractError with the defects of all sources at once.

    Memory does not grow with the rows: they are written in chunks to a file that gets its name only when all are sound.
    """
    from holdfast.redact.digests import DIGESTS_FILE
    from holdfast.redact.redactor import Redactor
    from holdfast.sources.blocks import Treatment, read_large
    from holdfast.sources.readers import read_source

    config = context.config.collect
    found = [find_files(source.path) for source in config.sources]
    names = iter(display_names([path for files in found for path in files.files]))
    bases = display_names([source.path for source in config.sources])
    progress = _Progress(context, sum(path.stat().st_size for files in found for path in files.files))
    defects = FirstDefects()
    redactor = Redactor(context.config.redact, forbidden=context.run_dir.path, remember=True)
    treatment = Treatment(config.system_prompt, context.config.redact)
    reports: list[SourceReport] = []
    with context.out.writing("examples.jsonl") as path, path.open("wb") as out:
        for source, files, base in zip(config.sources, found, bases, strict=True):
            report = SourceReport()
            own = [next(names) for _ in files.files]
            items = read_source(source, base, report, own, partial(read_large, treatment=treatment))
            _write(progress.watch(items, report), config.system_prompt, out, defects, redactor)
            _announce(context, source, base, report)
            reports.append(report)
        if defects.found:
            raise defects_error(defects.kept, sum(r.rows for r in reports), defects.found, defects.broken)
    entries = [
        _entry(source, file) for source, report in zip(config.sources, reports, strict=True) for file in report.files
    ]
    facts = [(file.name, file.facts) for report in reports for file in report.files if file.facts is not None]
    if merged := merge_knowledge(facts):
        context.out.write_json(KNOWLEDGE_FILE, redactor.mask_document(merged.model_dump(mode="json")))
    context.out.write_json("redaction.json", redactor.report())
    if redactor.memory is not None:
        with context.out.writing(DIGESTS_FILE) as path:
            path.write_bytes(redactor.memory.encode())
    context.console.say(f"  {redactor.describe()}")
    masked = {"rows_changed": redactor.changed, "masked": sum(redactor.by_type.values())}
    rows_read = sum(entry["rows"] for entry in entries)
    context.out.write_json("collect.json", {"rows": rows_read, "sources": entries, "redaction": masked})


def _write(
    items: Iterator[Any], system_prompt: str, out: IO[bytes], defects: FirstDefects, redactor: "Redactor"
) -> None:
    """Mask and write examples in chunks; after the first defect they are only counted, for nothing will be kept."""
    chunk: list[Example] = []
    for item in items:
        if isinstance(item, Defect):
            defects.add(item)
        elif not isinstance(item, Example):
            out.write(examples_bytes(redactor.mask_examples(chunk)))
            chunk.clear()
            defects.add_counted(item.defects, item.found, item.broken)
            if not defects.found:
                out.writelines(_masked(item, redactor))
        elif not defects.found:
            chunk.append(with_system_prompt(item, system_prompt))
            if len(chunk) >= CHUNK:
                out.write(examples_bytes(redactor.mask_examples(chunk)))
                chunk.clear()
    out.write(examples_bytes(redactor.mask_examples(chunk)))


def _masked(block: "Block", redactor: "Redactor") -> list[bytes]:
    """The lines of a block with what was left open masked."""
    lines = block.lines
    redactor.rows += len(lines) - len(block.open)
    for begin in range(0, len(block.open), CHUNK):
        places = block.open[begin : begin + CHUNK]
        examples = [decode_example(lines[place], Path("examples.jsonl"), place) for place in places]
        for place, example in zip(places, redactor.mask_examples(examples), strict=True):
            lines[place] = encode_example(example)
    return lines


class _Progress:
    """Rows, rate and time left, for input that takes more than a moment. Bytes of the files are what is measured."""

    def __init__(self, context: StageContext, total_bytes: int) -> None:
        self.context = context
        self.total_bytes = max(total_bytes, 1)
        self.before = 0
        self.rows = 0
        self.started = time.monotonic()

    def watch(self, items: Iterator[Any], report: SourceReport) -> Iterator[Any]:
        """Pass examples, defects and blocks on; say now and then how far it is."""
        said = 0
        with self.context.console.progress("MiB", self.total_bytes >> 20) as bar:
            for item in items:
                yield item
                self.rows += 1 if isinstance(item, Example | Defect) else item.rows
                if self.rows - said >= CHUNK:
                    said = self.rows
                    self._say(bar, self.before + report.position())
        self.before += report.position()

    def _say(self, bar: Bar, position: int) -> None:
        seconds = max(time.monotonic() - self.started, 1e-6)
        left = seconds / max(position, 1) * (self.total_bytes - position)
        note = f"read: {self.rows:,} rows, {self.rows / seconds:,.0f} rows/s, {max(left, 0):,.0f} s left,"
        bar.advance(max((position >> 20) - bar.done, 0), note)


def _entry(source: Source, file: FileReport) -> dict[str, Any]:
    return {
        "path": source.path,
        "name": file.name,
        "format": file.format,
        "detected": file.detected,
        "reason": file.reason,
        "split": source.split,
        "rows": file.rows,
        "ignored_keys": dict(file.ignored),
        "notes": file.notes,
    }


def _announce(context: StageContext, source: Source, base: str, report: SourceReport) -> None:
    for line in describe_files(report, source.split):
        context.console.say(f"  {line}")
    for file in report.files:
        for key, count in file.ignored.items():
            context.console.warn(f"{file.name}: `{key}` holds no plain value in {count} rows and is not kept")
    if report.left_out:
        first = Path(report.left_out[0]).name
        context.console.warn(
            f"{base}: {len(report.left_out)} files and linked folders that no reader knows are left out, first {first}"
        )
