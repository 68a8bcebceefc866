"""A large JSONL file, read block by block in a process for each core, with the outcome of a reading row by row.

A worker turns the rows of its block into lines of examples.jsonl. Rows that hold something to be masked come back as
they are: the one that reads the blocks in order masks them, so that placeholders are numbered as ever.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from holdfast.core.records import Example, encode_example
from holdfast.core.redact_config import RedactConfig
from holdfast.core.shards import Range, in_order
from holdfast.core.source_config import Source
from holdfast.sources import detect, jsonrows
from holdfast.sources.conversation import build_example, with_system_prompt
from holdfast.sources.defects import KEPT, Defect, FileReport
from holdfast.sources.files import GZIP, ZSTD
from holdfast.sources.readers import form_of, reader_of

if TYPE_CHECKING:
    from holdfast.redact.redactor import Redactor

LARGE_BYTES = 32 << 20
BLOCK_BYTES = 4 << 20
SCREEN_ROWS = 1000


class Treatment(NamedTuple):
    """What is done with every row once it is read."""

    system_prompt: str
    redact: RedactConfig


class BlockJob(NamedTuple):
    """One block: whole lines of a file, the first of which is `line` (from 1).

    first: the line that told the format of the file, 0 when it was configured.
    """

    path: Path
    part: Range
    line: int
    name: str
    form: str
    first: int
    source: Source
    treatment: Treatment


@dataclass
class Block:
    """What came of one block of `rows` sound rows, up to byte `end`. lines: for examples.jsonl; those at `open` are
    still to be masked.

    defects: the first ones; found, broken: how many there are, in how many rows.
    """

    end: int = 0
    rows: int = 0
    lines: list[bytes] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    found: int = 0
    broken: int = 0
    ignored: Counter[str] = field(default_factory=Counter)


def read_large(path: Path, source: Source, account: FileReport, *, treatment: Treatment) -> Iterator[Block] | None:
    """The blocks of a file of JSON lines, in order; None when it is better read row by row.

    `account` is filled while they are read. Raises ContractError when a row does not tell its format, or another one
    than the rows before.
    """
    with path.open("rb") as file:
        if path.stat().st_size < LARGE_BYTES or file.read(4).startswith((GZIP, ZSTD)):
            return None
        file.seek(0)
        item = next(jsonrows.read_lines(file, account.name), None)
    if item is None or len(item) != 2:
        return None
    first = 0
    account.format, account.reason = form_of(source), "JSONL, as configured"
    if account.format == "auto":
        detector = detect.Detector(account.name)
        detector.check(*item)
        first, account.format, account.detected = item[0], detector.format, True
        account.reason = f"JSONL, {detector.reason}"
    return _read(path, source, account, treatment, first)


def _read(path: Path, source: Source, account: FileReport, treatment: Treatment, first: int) -> Iterator[Block]:
    for block in in_order(read_block, _jobs(path, source, account, treatment, first)):
        account.rows += block.rows
        account.defective += block.broken
        account.ignored.update(block.ignored)
        yield block


def _jobs(path: Path, source: Source, account: FileReport, treatment: Treatment, first: int) -> Iterator[BlockJob]:
    line, begin, size = 1, 0, path.stat().st_size
    with path.open("rb") as file:
        while begin < size:
            data = file.read(BLOCK_BYTES)
            lines = data.count(b"\n")
            while data and not data.endswith(b"\n"):  # to the end of the line, however long, without keeping it
                data = file.readline(BLOCK_BYTES)
                lines += data.endswith(b"\n")
            end = file.tell()
            yield BlockJob(path, Range(begin, end), line, account.name, account.format, first, source, treatment)
            line, begin = line + lines, end


def read_block(job: BlockJob) -> Block:
    """Read, check and screen the rows of one block."""
    read = reader_of(job.form, job.source)
    split = None if job.source.split == "auto" else job.source.split
    detector = detect.Detector.after(job.name, job.form, job.first) if job.first else None
    block, left_out, examples = Block(job.part.end), list[str](), list[Example]()
    with job.path.open("rb") as raw:
        raw.seek(job.part.begin)
        file = cast(BinaryIO, _Part(raw, job.part.end - job.part.begin))
        for item in jsonrows.read_lines(file, job.name, job.line):
            if len(item) != 2:
                _note(block, [item])
                continue
            line, row = item
            if detector is not None:
                detector.check(line, row)
            found = build_example(row, read, f"{job.name}:{line}", split, left_out)
            block.ignored.update(left_out)
            left_out.clear()
            if isinstance(found, list):
                _note(block, [Defect(p.rule, f"{job.name}:{line}", p.message, p.value) for p in found])
                continue
            block.rows += 1
            if not block.found:  # after a defect nothing is kept
                examples.append(with_system_prompt(found, job.treatment.system_prompt))
                if len(examples) >= SCREEN_ROWS:
                    _add(block, examples, job.treatment.redact)
    _add(block, examples, job.treatment.redact)
    return block


class _Part:
    """The next bytes of a file, and no more."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.read_on: Callable[[int], bytes] = file.read
        self.left = size

    def read(self, size: int) -> bytes:
        data = self.read_on(min(size, self.left))
        self.left -= len(data)
        return data


def _note(block: Block, defects: list[Defect]) -> None:
    block.defects += defects[: KEPT - len(block.defects)]
    block.found += len(defects)
    block.broken += 1


def _add(block: Block, examples: list[Example], redact: RedactConfig) -> None:
    if redact.enabled and examples:
        from holdfast.redact.screen import screen

        found = screen(_redactor(redact.model_dump_json()), examples)
        block.open += (len(block.lines) + at for at in found)
    block.lines += map(encode_example, examples)
    examples.clear()


@lru_cache(maxsize=1)
def _redactor(redact: str) -> "Redactor":
    from holdfast.redact.redactor import Redactor

    return Redactor(RedactConfig.model_validate_json(redact))
