"""A data set as columns: what duplicates, split and sampling need to know of each row."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from holdfast.core.records import SPLITS, Example, decode_example
from holdfast.dataset.columns import COLUMNS, read_value
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.similarity import normalise
from holdfast.dataset.validate import label_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from holdfast.dataset.columns import Columns, Rows


class Stratum(NamedTuple):
    """What the split is balanced by: the value of the domain tag, and the label."""

    domain: str
    label: str


@dataclass(frozen=True)
class Reading:
    """How rows are looked at. fact, domain: names of tags."""

    contract: DatasetContract | None
    fact: str | None = "fact"
    domain: str = "domain"


class Lookup(Protocol):
    """Examples by position."""

    def __getitem__(self, row: int) -> Example: ...


@dataclass(frozen=True)
class Table:
    """Columns of all rows, what the numbers of strata mean, and the system prompts (at most two are kept)."""

    rows: "Columns"
    strata: dict[int, Stratum]
    system_prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)


class Collector:
    """Fills the columns row by row."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.rows: list[tuple[int, ...]] = []
        self.strata: dict[int, Stratum] = {}
        self._numbers: dict[Stratum, int] = {}
        self.system_prompts: dict[str, None] = {}

    def add(self, example: Example, offset: int = 0, size: int = 0) -> None:
        """Note one row that lies at `offset`."""
        reading, tags = self.reading, example.tags
        prompt = prompt_digest(example)
        fact = tags.get(reading.fact) if reading.fact else None
        lead = 0 if reading.contract and reading.contract.instruction else number(lead_of(example.prompt_text)[0])
        domain = tags.get(reading.domain)
        stratum = Stratum("" if domain is None else str(domain), label_in(example.answer, reading.contract))
        key = self._numbers.get(stratum)
        if key is None:
            key = self._numbers[stratum] = number(f"{stratum.domain}\x1f{stratum.label}")
            self.strata[key] = stratum
        if len(self.system_prompts) < 2:
            first = example.messages[0]
            self.system_prompts[first.content if first.role == "system" else ""] = None
        self.rows.append((
            offset, size, int.from_bytes(prompt[:8], "little"), int.from_bytes(prompt[8:], "little"),
            number(" ".join(example.answer.split())), int(example.id, 16), number(example.source) & 0xFFFFFFFF,
            0 if fact is None else number(str(fact)), lead, key,
            0 if example.split is None else 1 + SPLITS.index(example.split),
        ))  # fmt: skip

    def array(self) -> "Rows":
        """The columns so far."""
        import numpy as np

        return np.array(self.rows, dtype=COLUMNS)

    def table(self) -> Table:
        """The columns so far, and what their numbers mean."""
        return Table(self.array(), self.strata, tuple(self.system_prompts))


def prompt_digest(example: Example) -> bytes:
    """16 bytes for what is asked: the same for prompts that differ in case, white space or Unicode form."""
    parts = [f"{m.role}\x1f{normalise(m.content)}" for m in example.messages[:-1]]
    if example.rejected is not None:
        # Pairs of answers to one prompt are duplicates only when both answers are the same.
        parts += [normalise(example.answer), normalise(example.rejected)]
    return hashlib.blake2b("\x1e".join(parts).encode(), digest_size=16).digest()


def number(text: str) -> int:
    """A 64-bit digest of a text, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


def table_of(examples: Sequence[Example], reading: Reading) -> Table:
    """The columns of examples in memory."""
    collector = Collector(reading)
    for example in examples:
        collector.add(example)
    return collector.table()


def lead_of(text: str) -> tuple[str, str]:
    """The first paragraph and the rest."""
    lead, _, rest = text.partition("\n\n")
    return lead, rest.strip()


class FileRows:
    """Rows of examples.jsonl by position, read when they are asked for."""

    def __init__(self, path: Path, rows: "Columns", descriptor: int) -> None:
        self.path, self.rows, self.descriptor = path, rows, descriptor

    def __getitem__(self, row: int) -> Example:
        offset, size = read_value(self.rows, "offset", row), read_value(self.rows, "size", row)
        return decode_example(os.pread(self.descriptor, size, offset), self.path, row + 1)


@contextmanager
def open_rows(path: Path, rows: "Columns") -> Iterator[FileRows]:
    """Rows of a file by position while the block runs."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield FileRows(path, rows, descriptor)
    finally:
        os.close(descriptor)


def group_starts(*columns: "NDArray[Any]") -> "NDArray[np.int64]":
    """For sorted columns: the position where the run of equal rows begins, for each row."""
    import numpy as np

    count = len(columns[0])
    changed = np.zeros(count, dtype=bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return np.asarray(np.maximum.accumulate(np.where(changed, np.arange(count), 0)), dtype=np.int64)
