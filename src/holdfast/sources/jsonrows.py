"""JSON in its three wrappings - one object a line, one array, an object with a list - read row by row.

The fast decoder (msgspec) cannot see a key that is given twice; counting the colons behind quotes can. Whatever looks
odd goes to the slow decoder of the standard library, which says exactly what is wrong.
"""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from holdfast.core.errors import ContractError
from holdfast.sources.defects import Defect, short

BLOCK = 1 << 20
ROW_LIMIT = 16 << 20
DOCUMENT_LIMIT = 512 << 20
BLANK = " \t\r\n"
SPACED = re.compile(rb'"[ \t\r\n]+:')

_fast = msgspec.json.Decoder()
Rows = Iterator[tuple[int, dict[str, Any]] | Defect]


def read_lines(file: BinaryIO, name: str, first: int = 1) -> Rows:
    """Yield (line, object) of JSONL; a line that is no object is a Defect. Blank lines are skipped.

    first: number of the first line, where `file` is a later part of a file.
    """
    for number, line in _split_lines(file, first):
        if line is None:
            size = f"a row may have {ROW_LIMIT >> 20} MiB"
            yield Defect("row_size", f"{name}:{number}", size, f"a longer line in {name}")
            continue
        if not line or line.isspace():
            continue
        try:
            row = decode(line)
        except ValueError as error:
            yield Defect("json", f"{name}:{number}", str(error), short(line[:200].decode("utf-8", "backslashreplace")))
            continue
        if type(row) is dict:
            yield number, row
        else:
            yield _no_object(f"{name}:{number}", row)


def _no_object(source: str, row: Any) -> Defect:
    return Defect("object", source, f"a row must be an object {{…}}, this is {type(row).__name__}", short(row))


def _split_lines(file: BinaryIO, start: int = 1) -> Iterator[tuple[int, bytes | None]]:
    """Yield (line number, bytes without the newline); None for a line beyond the limit. A byte-order mark goes."""
    number, rest, too_long, first = start - 1, b"", False, start == 1
    while block := file.read(BLOCK):
        if first:
            block, first = block.removeprefix(codecs.BOM_UTF8), False
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        for line in lines:
            number += 1
            yield number, None if too_long or len(line) > ROW_LIMIT else line
            too_long = False
        if len(rest) > ROW_LIMIT:
            rest, too_long = b"", True
    if rest or too_long:
        yield number + 1, None if too_long else rest


def decode(data: bytes) -> Any:
    """One JSON value as RFC 8259 means it. Raises ValueError with the reason, also for a key that is given twice."""
    try:
        value = _fast.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return decode_strictly(data)
    if data.count(b'":') != _count_keys(value):
        return decode_strictly(data)
    if (b'" ' in data or b'"\t' in data or b'"\r' in data or b'"\n' in data) and SPACED.search(data):
        return decode_strictly(data)
    return value


def _count_keys(value: Any) -> int:
    total = 0
    pending = [value]
    for item in pending:
        if type(item) is dict:
            total += len(item)
            item = item.values()
        elif type(item) is not list:
            continue
        for inner in item:
            if type(inner) is dict or type(inner) is list:
                pending.append(inner)
    return total


def decode_strictly(data: bytes) -> Any:
    """As `decode`, slowly and with an exact reason."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {data[error.start]:#04x} at column {error.start + 1}") from None
    try:
        value, end = STRICT.raw_decode(text, _skip(text, 0))
        if _skip(text, end) < len(text):
            raise json.JSONDecodeError("something follows the value", text, _skip(text, end))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {explain(error)} at column {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def explain(error: json.JSONDecodeError) -> str:
    """The decoder's message; a comma before a closing bracket, the most frequent slip, by its name."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if before.endswith(",") and after[:1] in ("]", "}"):
        return f"a comma before the closing {after[0]}"
    return error.msg.removesuffix(" at")  # "Unterminated string starting at": the caller says where


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"key {short(twice)} is given twice in one object")
    return row


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value")


STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in BLANK:
        position += 1
    return position


def read_array(file: BinaryIO, name: str, line: int = 1, *, inside: bool = False) -> Rows:
    """Yield (line, object) of one JSON array, holding no more of it than the row that is read.

    line: where the array begins. inside: it is part of something larger, so that more may follow.
    """
    text = _Text(file, line)
    if text.peek() != "[":
        yield Defect("json", f"{name}:{text.line}", "expected [ at the beginning", short(text.peek()))
        return
    text.take()
    if text.peek() == "]":
        text.take()
    else:
        while True:
            text.peek()
            line = text.line
            try:
                row = text.value()
            except ValueError as error:
                yield Defect("json", f"{name}:{line}", f"{error}; the rest of the array is not read", text.shown())
                return
            yield (line, row) if type(row) is dict else _no_object(f"{name}:{line}", row)
            mark = text.peek()
            if mark == "]":
                text.take()
                break
            if mark != ",":
                what = "expected , or ] after the row; the rest of the array is not read"
                yield Defect("json", f"{name}:{text.line}", what, text.shown())
                return
            text.take()
            if text.peek() == "]":
                yield Defect("json", f"{name}:{text.line}", "a comma before the closing ]", text.shown())
                return
    if not inside and text.peek():
        yield Defect("json", f"{name}:{text.line}", "something follows the array", text.shown())


class _Text:
    """A window on a text file that grows only as far as the value at its beginning needs."""

    def __init__(self, file: BinaryIO, line: int) -> None:
        self.file = file
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self.window, self.at, self.line, self.ended = "", 0, line, False

    def grow(self, size: int = BLOCK) -> bool:
        """Read on; False at the end of the file."""
        if self.ended:
            return False
        block = self.file.read(size)
        self.ended = not block
        self.window = self.window[self.at :] + self.decoder.decode(block, final=self.ended)
        self.at = 0
        return True

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            after = _skip(self.window, self.at)
            self.line += self.window.count("\n", self.at, after)
            self.window, self.at = (self.window, after) if after < BLOCK else (self.window[after:], 0)
            if self.at < len(self.window):
                return self.window[self.at]
            if not self.grow():
                return ""

    def take(self) -> None:
        """Step over one character."""
        self.at += 1

    def shown(self) -> str:
        """The text from here on, cut for a message."""
        return short(self.window[self.at : self.at + 60])

    def value(self) -> Any:
        """The value that begins here. Raises ValueError with the reason and the line."""
        while True:
            try:
                found, end = STRICT.raw_decode(self.window, self.at)
            except json.JSONDecodeError as error:
                # Cut off or wrong? Only what happens well before the end of the window is surely wrong.
                if len(self.window) - error.pos < 64 or error.msg.startswith("Unterminated"):
                    if len(self.window) - self.at > ROW_LIMIT:
                        raise ValueError(f"a row may have {ROW_LIMIT >> 20} MiB") from None
                    if self.grow(max(BLOCK, len(self.window))):
                        continue
                line = self.line + self.window.count("\n", self.at, error.pos)
                raise ValueError(f"not JSON: {explain(error)} on line {line}") from None
            except RecursionError:
                raise ValueError("nested too deeply") from None
            if end >= len(self.window) and self.grow():
                continue  # a number may go on in the next block
            self.line += self.window.count("\n", self.at, end)
            self.at = end
            return found


def read_document(file: BinaryIO, name: str) -> Rows:
    """Yield (line, object) of an object that holds one list of rows, or of an object that is itself the only row.

    Raises ContractError when two lists could be meant, or the document is too large to be read whole.
    """
    data = file.read(DOCUMENT_LIMIT + 1)
    if len(data) > DOCUMENT_LIMIT:
        raise ContractError(
            f"{name} is one JSON object of more than {DOCUMENT_LIMIT >> 20} MiB",
            hint="write its rows one a line: jq -c '.NAME[]' FILE > rows.jsonl",
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        document = decode_strictly(data)
    except ValueError as error:
        yield Defect("json", f"{name}:1", str(error), short(data[:200].decode("utf-8", "backslashreplace")))
        return
    if not isinstance(document, dict):
        yield _no_object(f"{name}:1", document)
        return
    lists = [key for key, value in document.items() if _holds_rows(value)]
    if len(lists) > 1:
        raise ContractError(
            f"{name} holds {len(lists)} lists of rows ({', '.join(map(short, lists))}): which one is meant?",
            hint="keep one in the file: jq '.NAME' FILE > rows.json",
        )
    if not lists or lists[0] in ("messages", "conversations", "prompt", "completion", "chosen", "rejected"):
        yield 1, document
        return
    text = data.decode()
    start = _find_value(text, lists[0])
    line = text.count("\n", 0, start) + 1
    yield from read_array(io.BytesIO(text[start:].encode()), name, line, inside=True)


def _find_value(text: str, wanted: str) -> int:
    """Where the value of a key of the outermost object begins. The text is known to be sound."""
    at = _skip(text, 0) + 1
    while True:
        key, at = STRICT.raw_decode(text, _skip(text, at))
        at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if key == wanted:
            return at
        _, at = STRICT.raw_decode(text, at)
        at = _skip(text, at) + 1  # behind the comma


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
