"""The first pass: every row is checked against the contract and becomes a line of columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.console import Console
from holdfast.core.records import decode_example
from holdfast.core.shards import Piece, Range, cut, read_lines, run_shards
from holdfast.dataset.columns import store_columns
from holdfast.dataset.table import Collector, Reading, Stratum, Table
from holdfast.dataset.validate import SHOWN, Counted, Violation, validate_example

if TYPE_CHECKING:
    from holdfast.dataset.columns import Rows


class ScanJob(NamedTuple):
    """One shard of examples.jsonl and how its rows are looked at."""

    path: Path
    part: Range
    reading: Reading


@dataclass(frozen=True)
class Scanned:
    """The table, where the shards begin (in rows), the first violations and how many there are."""

    table: Table
    parts: list[Range]
    firsts: list[int]
    violations: list[Violation]
    counted: Counted


def scan(path: Path, reading: Reading, folder: Path, console: Console) -> Scanned:
    """Read a file once. Nothing is raised for violations: they are all counted, and the first are named.

    Raises IntegrityError for a row that holdfast did not write.
    """
    parts = cut(path)
    facts: list[dict[str, Any]] = []
    violations: list[Violation] = []
    firsts: list[int] = []
    begin = 0
    jobs = [ScanJob(path, part, reading) for part in parts]

    def tables() -> "Iterator[Rows]":
        nonlocal begin, violations
        for piece in run_shards(scan_shard, jobs, folder, console, "contract"):
            facts.append(piece.facts)
            violations += [Violation(*found) for found in piece.facts.pop("violations")][: SHOWN - len(violations)]
            firsts.append(begin)
            begin += len(piece.arrays["rows"])
            yield piece.arrays["rows"]

    # Many rows are kept in files; their columns are read again from the shards when a kill came in between.
    rows = next(tables()) if len(jobs) == 1 else store_columns(folder / "columns", tables())
    strata = {int(key): Stratum(*value) for own in facts for key, value in own["strata"].items()}
    prompts = list(dict.fromkeys(prompt for own in facts for prompt in own["system_prompts"]))[:2]
    counts = Counted(*(sum(own["counted"][n] for own in facts) for n in (0, 1)))
    return Scanned(Table(rows, strata, tuple(prompts)), parts, firsts, violations, counts)


def scan_shard(job: ScanJob) -> Piece:
    """The columns of one shard (`rows`), the names of its strata, and its violations."""
    lines = read_lines(job.path, job.part)
    collector = Collector(job.reading)
    contract = job.reading.contract
    violations: list[Violation] = []
    total = broken = 0
    offset = job.part.begin
    for line in lines:
        # Line numbers within a shard are not those of the file: a damaged line is found again by its byte.
        example = decode_example(line, job.path, offset) if job.part.begin else decode_example(
            line, job.path, len(collector.rows) + 1)  # fmt: skip
        found = validate_example(example, contract) if contract else ()
        if found:
            total, broken = total + len(found), broken + 1
            violations += found[: SHOWN - len(violations)]
        collector.add(example, offset, len(line))
        offset += len(line) + 1
    facts = {
        "strata": {str(key): value for key, value in collector.strata.items()},
        "system_prompts": list(collector.system_prompts),
        "violations": violations,
        "counted": [total, broken],
    }
    return Piece({"rows": collector.array()}, facts)


def names_of(table: Table, numbers: Sequence[int]) -> list[Stratum]:
    """What the numbers of strata mean."""
    return [table.strata[int(number)] for number in numbers]
