"""CSV and Parquet, read row by row into objects of column and value."""

import csv
import io
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from holdfast.core.errors import ContractError
from holdfast.sources.defects import Defect, is_unicode, short
from holdfast.sources.jsonrows import ROW_LIMIT, Rows

EXCEL = re.compile(r'"?sep=([,;|\t])"?')  # a first line that Excel writes and reads: what stands between the fields
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
BATCH = 1024


def read_csv(file: BinaryIO, name: str) -> Rows:
    """Yield (line, {column: text}) of a table with a header; `line` is where the row begins.

    Blank lines before the header and a line `sep=;` are passed over. A row with more or fewer fields than the header, a
    stray quote or bytes that are not UTF-8 are defects. Raises ContractError when the header is no header.
    """
    csv.field_size_limit(min(ROW_LIMIT, sys.maxsize))
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _limited(text, name)
    head = _head(lines)
    delimiter = find_delimiter(head[-1]) if head else ","
    if head and (named := EXCEL.fullmatch(head[-1].strip(" \r\n"))):
        delimiter, head[-1] = named[1], "\n"  # an empty line, so that the others keep their numbers
    reader = csv.reader(chain(head, lines), delimiter=delimiter, strict=True)
    header = _read_header(reader, name)
    if header is None:
        return
    width = len(header)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Defect("csv", f"{name}:{line}", f"not a CSV row: {error}", f"after line {reader.line_num}")
            continue
        if len(values) == width:
            yield line, dict(zip(header, values, strict=True))
        elif values:
            what = f"the header has {width} fields ({DELIMITERS[delimiter]} between them), this row {len(values)}"
            yield Defect("fields", f"{name}:{line}", what, short(delimiter.join(values)[:200]))


def _limited(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    while line := text.readline(ROW_LIMIT):
        if len(line) >= ROW_LIMIT:
            raise ContractError(
                f"{name} has a line of more than {ROW_LIMIT >> 20} MiB", hint="is it really a CSV file?"
            )
        yield line


def _head(lines: Iterator[str]) -> list[str]:
    """Lines up to and with the first that is not blank."""
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    return head


def find_delimiter(header: str) -> str:
    """The delimiter that stands most often between the names of the header, outside quotes; a comma when none does."""
    outside = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def _read_header(reader: Any, name: str) -> list[str] | None:
    try:
        header = next((row for row in reader if row), None)
    except csv.Error as error:
        raise ContractError(f"{name}:1: the header is no CSV row: {error}", hint="correct the first line") from None
    if header is None:
        return None
    header = [column.strip() for column in header]
    if not all(map(is_unicode, header)):
        raise ContractError(f"{name}:1: the header is not UTF-8", hint="save the file as UTF-8")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice or "" in header:
        what = f"names {short(twice[0])} twice" if twice and twice[0] else "has a column without a name"
        raise ContractError(f"{name}:1: the header {what}: {short(header)}", hint="give every column a name of its own")
    return header


def read_parquet(raw: BinaryIO, path: Path, name: str) -> Rows:
    """Yield (row number from 1, {column: value}) of a Parquet file, a batch at a time.

    Raises ContractError when the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        table = pq.ParquetFile(pa.PythonFile(raw, mode="r"))
        for batch in table.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ContractError(
            f"{path} cannot be read as Parquet after row {number}: {reason[:200]}", hint="write the file again"
        ) from None
