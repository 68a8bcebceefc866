"""The nouns of a data set, and JSONL with line numbers."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from holdfast.core.digest import digest_document
from holdfast.core.errors import ContractError

Role = Literal["system", "user", "assistant"]
SPLITS = ("train", "valid", "test")


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    content: str


class Example(BaseModel):
    """One row of a data set: a conversation that ends with the wanted answer, and where it came from.

    `source` is `<file name>:<line>`. `split` is set when the user fixed it. `tags` holds free values for slices
    (label, domain, borderline). `rejected` is the worse answer to the same prompt in a preference pair.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    messages: tuple[Message, ...]
    source: str
    split: Literal["train", "valid", "test"] | None = None
    tags: dict[str, str | int | float | bool] = {}
    rejected: str | None = None

    @property
    def id(self) -> str:
        """Short stable name: digest of the conversation."""
        return digest_document([m.model_dump() for m in self.messages])[7:19]

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
        return "\n".join(m.content for m in self.prompt if m.role == "user")


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file; blank lines are skipped.

    Raises ContractError that names every broken line (up to 20), not only the first. A key given twice is broken too.
    """
    problems: list[str] = []
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ContractError(f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_without_duplicates)
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{number}: not JSON: {error.msg} at column {error.colno}")
            continue
        except RecursionError:
            problems.append(f"{path}:{number}: nested too deeply")
            continue
        except ValueError as error:  # also an integer of more than 4300 digits
            problems.append(f"{path}:{number}: {error}")
            continue
        if not isinstance(row, dict):
            problems.append(f"{path}:{number}: a row must be an object {{…}}, this is {type(row).__name__}")
            continue
        rows.append((number, row))
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  … and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise ContractError(
            f"{len(problems)} of {len(rows) + len(problems)} rows cannot be read:\n  {shown}",
            hint=f"correct the lines, then: holdfast validate {path}",
        )
    yield from rows


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


def read_examples(path: Path) -> list[Example]:
    """Read a file that holdfast itself wrote (`examples.jsonl`, `train.jsonl` …)."""
    return [Example.model_validate(row) for _, row in read_jsonl(path)]


def examples_bytes(examples: Iterable[Example]) -> bytes:
    """Examples as JSONL bytes, the counterpart of `read_examples`."""
    return jsonl_bytes(example.model_dump() for example in examples)
