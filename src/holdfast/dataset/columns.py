"""Columns of many rows in files, read part by part: memory does not grow with the rows.

The files are read, not mapped: mapped pages would count as memory of the process. Small data sets keep their columns in
memory; both are read by the same functions.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    IntArray = NDArray[np.int64]
    Rows = NDArray[np.void]
    Columns: TypeAlias = "Rows | StoredColumns"

# offset, size: where the line is. prompt, prompt2: digest of the normalised prompt. answer: digest of the answer.
# id: Example.id. source, fact, lead, stratum: digests of those texts (0 = none). fixed: 0 free, else 1 + its place in
# SPLITS.
COLUMNS = [
    ("offset", "u8"), ("size", "u4"), ("prompt", "u8"), ("prompt2", "u8"), ("answer", "u8"), ("id", "u8"),
    ("source", "u4"), ("fact", "u8"), ("lead", "u8"), ("stratum", "u8"), ("fixed", "i1"),
]  # fmt: skip
DTYPES = dict(COLUMNS)
PART_ROWS = 1 << 17
BUCKET_ROWS = 1 << 18
ID_BITS = 48


class StoredColumns:
    """One file a column in `folder`."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, name: str) -> "Array":
        """A whole column."""
        return self.part(name, 0, self.count)

    def part(self, name: str, begin: int, end: int) -> "Array":
        """Rows begin ≤ x < end of a column."""
        import numpy as np

        dtype = np.dtype(DTYPES[name])
        with (self.folder / f"{name}.column").open("rb") as file:
            file.seek(begin * dtype.itemsize)
            return np.fromfile(file, dtype, max(0, min(end, self.count) - begin))


def store_columns(folder: Path, tables: "Iterable[Rows]") -> StoredColumns:
    """Write the columns of consecutive parts of a data set."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.column").open("wb")) for name in DTYPES}
        for table in tables:
            count += len(table)
            for name, file in files.items():
                np.ascontiguousarray(table[name]).tofile(file)
    return StoredColumns(folder, count)


def read_value(columns: "Columns", name: str, row: int) -> int:
    """One value of a column."""
    return int(part_of(columns, name, row, row + 1)[0])


def part_of(columns: "Columns", name: str, begin: int, end: int) -> "Array":
    """Rows begin ≤ x < end of a column."""
    return columns.part(name, begin, end) if isinstance(columns, StoredColumns) else columns[name][begin:end]


def parts(columns: "Columns", *names: str) -> "Iterator[tuple[slice, tuple[Array, ...]]]":
    """The named columns, part by part, each with its place."""
    for begin in range(0, len(columns), PART_ROWS):
        end = min(begin + PART_ROWS, len(columns))
        yield slice(begin, end), tuple(part_of(columns, name, begin, end) for name in names)


def take(columns: "Columns", name: str, rows: "IntArray") -> "Array":
    """The values of a column at `rows`, which ascend."""
    import numpy as np

    found = np.empty(len(rows), dtype=DTYPES[name])
    borders = np.searchsorted(rows, range(0, len(columns) + PART_ROWS, PART_ROWS))
    for number, (first, last) in enumerate(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)):
        if first < last:
            begin = number * PART_ROWS
            found[first:last] = part_of(columns, name, begin, begin + PART_ROWS)[rows[first:last] - begin]
    return found


def buckets(columns: "Columns", name: str) -> "Iterator[IntArray]":
    """Row numbers, so that rows of equal value in a column of digests come together; about BUCKET_ROWS at a time."""
    import numpy as np

    number = -(-len(columns) // BUCKET_ROWS)
    for bucket in range(number):
        if number == 1:
            yield np.arange(len(columns))
            return
        found = [np.flatnonzero(values % np.uint64(number) == bucket) + place.start
                 for place, (values,) in parts(columns, name)]  # fmt: skip
        yield np.concatenate(found)


def in_order_of_id(columns: "Columns", splits: "NDArray[np.int8]") -> "Iterator[tuple[Array, NDArray[np.int8]]]":
    """(ids, splits) of the rows that have a split, sorted by both, part by part."""
    import numpy as np

    number = max(1, -(-len(columns) // BUCKET_ROWS))
    width = (1 << ID_BITS) // number + 1
    for bucket in range(number):
        ids: list[Array] = []
        own: list[NDArray[np.int8]] = []
        for place, (values,) in parts(columns, "id"):
            here = (splits[place] >= 0) & (values // np.uint64(width) == bucket)
            ids.append(values[here])
            own.append(splits[place][here])
        if ids:
            names, where = np.concatenate(ids), np.concatenate(own)
            order = np.lexsort((where, names))
            yield names[order], where[order]


def any_value(columns: "Columns", name: str) -> bool:
    """Whether a column holds anything but 0."""
    return any(values.any() for _, (values,) in parts(columns, name))
