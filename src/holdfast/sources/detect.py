"""What a file is, told from its content: how rows are wrapped, and which format the rows have."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.sources import jsonrows, tablerows
from holdfast.sources.defects import short
from holdfast.sources.files import ROW_SUFFIXES, inner_suffix
from holdfast.sources.formats import ANSWERS, QUESTIONS

HEAD = 1 << 16
ZIP = b"PK\x03\x04"
KNOWN = (
    '{"messages": […]}, {"conversations": […]}, {"instruction", "input", "output" (or "expected")}, '
    '{"prompt", "completion"}, {"prompt", "chosen", "rejected"}, {"service", "signal", "value", "baseline"}; '
    "a table of tickets needs `format: tickets` and `tickets:`"
)


class Wrapping(NamedTuple):
    """How the rows of a file are wrapped: its name for people and the function that yields them."""

    name: str
    rows: Callable[[BinaryIO, str], jsonrows.Rows]


def find_wrapping(head: bytes, path: Path) -> Wrapping:
    """Look at the first bytes (decompressed), then at the suffix. Raises ContractError when neither tells."""
    if head.startswith(b"PAR1"):
        return Wrapping("Parquet", lambda file, name: tablerows.read_parquet(file, path, name))
    _refuse_what_is_no_text(head, path)
    suffix = inner_suffix(path)
    if suffix == ".parquet":
        raise ContractError(f"{path} is not a Parquet file: it begins with {head[:8]!r}", hint="correct its name")
    if suffix in (".csv", ".tsv"):
        return Wrapping("CSV", tablerows.read_csv)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        return Wrapping("JSON array", jsonrows.read_array)
    if suffix in (".jsonl", ".ndjson"):
        return Wrapping("JSONL", jsonrows.read_lines)
    if start.startswith(b"{"):
        return Wrapping("JSONL", jsonrows.read_lines) if _is_lines(start) else Wrapping("JSON object", _document)
    if not start or suffix in ROW_SUFFIXES:
        return Wrapping("JSONL", jsonrows.read_lines)
    known = ", ".join(sorted(ROW_SUFFIXES))
    raise ContractError(
        f"it cannot be told what {path} is: it begins with {short(start[:20].decode('utf-8', 'backslashreplace'))}",
        hint=f"end its name in one of {known}",
    )


def _refuse_what_is_no_text(head: bytes, path: Path) -> None:
    if head and not head.strip(b"\0"):
        what = f"{path} begins with {len(head)} zero bytes and nothing else"
        raise ContractError(what, hint="such a file was never written out: copy it again")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head[:1] == b"\0" or head[1:2] == b"\0":
        kind = "UTF-16" if head[0] > 127 else "UTF-16BE" if head[:1] == b"\0" else "UTF-16LE"
        raise ContractError(f"{path} is {kind}", hint=f"save it as UTF-8: iconv -f {kind} -t UTF-8 {path}")
    if head.startswith(ZIP):
        raise ContractError(
            f"{path} is a ZIP archive, as spreadsheets are too, whatever its name says",
            hint="unzip it, or save the table as CSV; .gz and .zst are read as they are",
        )


def _is_lines(start: bytes) -> bool:
    """Whether the first line is an object by itself and another line follows."""
    line, newline, rest = start.partition(b"\n")
    if not newline or not rest.strip():
        return False
    try:
        return isinstance(jsonrows.decode(line), dict)
    except ValueError:
        return not line.strip().startswith(b'{"') and line.strip() != b"{" or rest.lstrip().startswith(b"{")


def _document(file: BinaryIO, name: str) -> jsonrows.Rows:
    return jsonrows.read_document(file, name)


def find_formats(row: dict[str, Any]) -> Iterator[str]:
    """The formats whose keys a row has. None: unknown; more than one: the user must say which is meant."""
    pair = "chosen" in row and "rejected" in row
    if "messages" in row:
        yield "messages"
    elif "conversations" in row and not pair:
        yield "messages" if _has_roles(row["conversations"]) else "sharegpt"
    single = "instruction" in row or "messages" not in row and _asks_and_answers(row)
    if single and not pair:
        yield "instruction"
    if pair or "prompt" in row and "completion" not in row and ("chosen" in row or "rejected" in row):
        yield "preference"
    elif "prompt" in row and "completion" in row:
        yield "prompt_completion"
    if "service" in row and "signal" in row and "value" in row and "messages" not in row:
        yield "telemetry"


def _has_roles(conversation: Any) -> bool:
    first = conversation[0] if isinstance(conversation, list) and conversation else None
    return isinstance(first, dict) and "role" in first and "from" not in first


def _asks_and_answers(row: dict[str, Any]) -> bool:
    if "output" in row or "expected" in row:
        return True
    return any(name in row for name in QUESTIONS) and any(name in row for name in ANSWERS)


class Detector:
    """Tells the one format of a file, row by row; every row must agree with the first one.

    `format` is empty until the first row.
    """

    def __init__(self, name: str, *, table: bool = False) -> None:
        self.name, self.table = name, table
        self.format = ""
        self.reason = ""
        self._first = 0
        self._same: set[tuple[str, ...]] = set()

    @classmethod
    def after(cls, name: str, form: str, first: int) -> "Detector":
        """One that goes on where the row at line `first` has told the format."""
        detector = cls(name)
        detector.format, detector._first = form, first
        return detector

    def check(self, line: int, row: dict[str, Any]) -> None:
        """Raises ContractError when the row's format is unknown, ambiguous or not that of the rows before."""
        keys = tuple(row)
        if keys in self._same:
            return
        found = list(find_formats(row))
        if not self.format and len(found) == 1:
            self.format, self._first = found[0], line
            self.reason = f"rows have {_shown_keys(row)}"
        elif not self.format or len(found) > 1:
            raise self._unknown(line, row, found)
        elif found and found != [self.format]:
            raise _undecided(
                self.name,
                f"{self.name} mixes two formats",
                f"rows of {self.format}, first {self.name}:{self._first}; rows of {found[0]}, first {self.name}:{line}",
                [self.format, found[0]],
            )
        if "conversations" not in row and len(self._same) < 1000:
            self._same.add(keys)

    def _unknown(self, line: int, row: dict[str, Any], found: list[str]) -> ContractError:
        where = f"{self.name}:{line}"
        if found:
            both = "both " if len(found) == 2 else ""
            return _undecided(self.name, f"{where} has {both}the keys of {' and '.join(found)}", "", found)
        keys = ", ".join(sorted(map(str, row)))
        what = f"{where} has no known key ({short(keys)[1:-1] or 'none at all'})"
        return _undecided(self.name, what, "", ["tickets"] if self.table else [])


def _shown_keys(row: dict[str, Any]) -> str:
    return ", ".join(f"`{short(key)[1:-1]}`" for key in list(row)[:6]) + (" …" if len(row) > 6 else "")


def _undecided(name: str, what: str, rows: str, formats: list[str]) -> ContractError:
    either = " or ".join(f"`format: {form}`" for form in formats) or "for example `format: messages`"
    if formats == ["tickets"]:
        either = "`format: tickets` with `tickets: {instruction: …, columns: {input: […], output: […]}}` in a -c FILE"
    return ContractError(
        f"the format of {name} cannot be told: {what}. Known: {KNOWN}." + (f" Found: {rows}" if rows else ""),
        hint="keep one format in a file, or say which one is meant (on the source, or holdfast validate --format): "
        + either,
    )
