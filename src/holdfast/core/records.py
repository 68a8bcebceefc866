"""The nouns of a data set, and JSONL with line numbers. Nothing here holds a whole file in memory."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from holdfast.core.errors import ContractError, IntegrityError

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
SHOWN = 20


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One row of a data set: a conversation that ends with the wanted answer, and where it came from.

    `source` is `<file name>:<line>`. `split` is set when the user fixed it. `tags` holds free values for slices
    (label, domain, borderline). `rejected` is the answer that is not wanted, in preference rows. Types are checked when
    a file is read, not when a row is built. To change a row: `msgspec.structs.replace(row, source=…)`.
    """

    messages: tuple[Message, ...]
    source: str
    split: Split | None = None
    tags: dict[str, str | int | float | bool] = {}
    rejected: str | None = None

    @property
    def id(self) -> str:
        """Short stable name: digest of the conversation as canonical JSON (`core.digest.digest_document`)."""
        return hashlib.sha256(_CANONICAL.encode(self.messages)).hexdigest()[:12]

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The last message's content: the reference answer."""
        return self.messages[-1].content

    @property
    def prompt_text(self) -> str:
        """The user's words in one string, for duplicates and display."""
        return "\n".join(m.content for m in self.messages[:-1] if m.role == "user")


_CANONICAL = msgspec.json.Encoder(order="sorted")
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Example)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file; blank lines are skipped.

    Raises ContractError after the last row, naming every broken line (up to 20), not only the first; at once when the
    file is not UTF-8. A key given twice is broken too.
    """
    problems: list[str] = []
    broken = good = 0
    for number, line in _text_lines(path):
        if not line.strip():
            continue
        problem = ""
        row: Any = None
        try:
            row = json.loads(line, object_pairs_hook=_without_duplicates)
            if not isinstance(row, dict):
                problem = f"a row must be an object {{…}}, this is {type(row).__name__}"
        except json.JSONDecodeError as error:
            problem = f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        except RecursionError:
            problem = "nested too deeply"
        except ValueError as error:  # also an integer of more than 4300 digits
            problem = str(error)
        if not problem:
            good += 1
            yield number, row
            continue
        broken += 1
        if broken <= SHOWN:
            problems.append(f"{path}:{number}: {problem}")
    if broken:
        shown = "\n  ".join(problems) + (f"\n  … and {broken - SHOWN} more" if broken > SHOWN else "")
        raise ContractError(
            f"{broken} of {good + broken} rows cannot be read:\n  {shown}",
            hint=f"correct the lines, then: holdfast validate {path}",
        )


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    position = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            begin = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
            try:
                yield number, line[begin:].decode()
            except UnicodeDecodeError as error:
                place = position + begin + error.start
                raise ContractError(f"{path} is not UTF-8: byte {place} is {error.object[error.start]:#04x}") from None
            position += len(line)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is given twice in one object")
    return row


def jsonl_bytes(rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows as JSONL bytes: UTF-8, one compact object a line."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def iter_examples(path: Path) -> Iterator[Example]:
    """Read a file that holdfast itself wrote (`examples.jsonl`, `train.jsonl` …), row by row.

    Raises IntegrityError for a row that is not as holdfast writes it, and when the file is gone.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield decode_example(line, path, number)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is gone", hint=_REPAIR) from None


_REPAIR = "holdfast check RUN names every damaged file; holdfast run -c FILE makes them again"


def decode_example(line: bytes, path: Path, number: int) -> Example:
    """One line of a file that holdfast wrote; `path` and `number` (from 1) are for the IntegrityError."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise IntegrityError(f"{path}:{number} is not a row that holdfast wrote: {error}", hint=_REPAIR) from None


def read_examples(path: Path) -> list[Example]:
    """All rows of a file that holdfast itself wrote. Raises what `iter_examples` raises."""
    return list(iter_examples(path))


def encode_example(example: Example) -> bytes:
    """One row as a JSON line; absent keys have their default (`split` null, no `tags`, no `rejected`)."""
    return _ENCODER.encode(example) + b"\n"


def examples_bytes(examples: Iterable[Example]) -> bytes:
    """Examples as JSONL bytes, the counterpart of `read_examples`."""
    return b"".join(map(encode_example, examples))
