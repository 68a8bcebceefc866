"""READERS: one function for each kind of row. A defect is reported with file, line, rule and value, never repaired.

A reader turns one JSON object into turns. The checks that hold for every conversation come after it, in one place.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from holdfast.core.errors import ContractError, UsageError
from holdfast.core.records import Example, Message, read_jsonl

Format = Literal["messages", "instruction"]
SourceFormat = Literal["messages", "instruction", "knowledge", "prolog"]
Split = Literal["train", "valid", "test"]
ROLES = ("system", "user", "assistant")
SHOWN = 50
# These keys change what the model should see; leaving them out without a word would train something else.
MEANINGFUL_KEYS = frozenset({"tools", "functions", "history", "chosen", "rejected"})
KNOWN = '{"messages": […]} or {"instruction", "input", "output" (or "expected")}'


class Problem(NamedTuple):
    """What is wrong with a row, before it is known where the row stands."""

    rule: str
    message: str
    value: str


class Defect(NamedTuple):
    """One broken rule of one row. `source` is `<file name>:<line>`."""

    rule: str
    source: str
    message: str
    value: str


class Turns(NamedTuple):
    """What a reader found in a row: raw turns, the keys it used, and problems that keep the turns from being built."""

    turns: list[tuple[Any, Any]]
    used: frozenset[str]
    problems: list[Problem]


class Reading(NamedTuple):
    """A file, read. `ignored` counts the rows in which a key with a list, an object or null was left out."""

    examples: list[Example]
    defects: list[Defect]
    format: SourceFormat
    ignored: dict[str, int]


def read_messages(row: dict[str, Any]) -> Turns:
    """`{"messages": [{"role", "content"}, …]}`: the OpenAI chat format."""
    used = frozenset({"messages"})
    messages = row.get("messages")
    if not isinstance(messages, list):
        return Turns([], used, [Problem("messages", "`messages` must be a list of turns", _short(messages))])
    turns: list[tuple[Any, Any]] = []
    problems: list[Problem] = []
    for number, turn in enumerate(messages, 1):
        if not isinstance(turn, dict):
            problems.append(Problem("turn", f"turn {number} must be an object with role and content", _short(turn)))
            continue
        extra = sorted(set(turn) - {"role", "content"})
        if extra:
            problems.append(Problem("turn_keys", f"turn {number} has keys that would be lost", ", ".join(extra)))
        turns.append((turn.get("role"), turn.get("content")))
    return Turns(turns, used, problems)


def read_instruction(row: dict[str, Any]) -> Turns:
    """`{"instruction", "input"?, "output" | "expected", "system"?}`: the Alpaca format and its evaluation twin."""
    used = frozenset({"instruction", "input", "output", "expected", "system"})
    problems: list[Problem] = []
    for key in ("instruction", "input", "system"):
        if key in row and row[key] is not None and not isinstance(row[key], str):
            problems.append(Problem("content_type", f"`{key}` must be text", _short(row[key])))
    if not isinstance(row.get("instruction"), str) or not row["instruction"].strip():
        problems.append(Problem("instruction", "`instruction` is missing or empty", _short(row.get("instruction"))))
    answers = [row[key] for key in ("output", "expected") if row.get(key) is not None]
    if not answers:
        problems.append(Problem("no_answer", "`output` (or `expected`) is missing", ", ".join(sorted(row))))
    elif len(answers) == 2 and answers[0] != answers[1]:
        problems.append(Problem("two_answers", "`output` and `expected` differ: which one counts?", _short(answers)))
    if problems:
        return Turns([], used, problems)
    given = row.get("input") or ""
    asked = f"{row['instruction']}\n\n{given}" if given.strip() else row["instruction"]
    turns = [("system", row["system"])] if row.get("system") else []
    return Turns([*turns, ("user", asked), ("assistant", answers[0])], used, problems)


READERS: dict[Format, Callable[[dict[str, Any]], Turns]] = {
    "messages": read_messages,
    "instruction": read_instruction,
}


def read_file(path: Path, name: str, asked: Format | Literal["auto"] = "auto", split: Split | None = None) -> Reading:
    """Read one JSONL file; `name` is what sources are called after (`<name>:<line>`), `split` is fixed on every row.

    Defects are returned, not raised. Raises ContractError when a line is not JSON, the file is empty or its format
    cannot be told, UsageError when there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint="correct the path")
    rows = list(read_jsonl(path))
    if not rows:
        raise ContractError(f"{path} holds no rows", hint="one JSON object a line is expected")
    form = detect_format(rows, name) if asked == "auto" else asked
    examples: list[Example] = []
    defects: list[Defect] = []
    ignored: Counter[str] = Counter()
    for line, row in rows:
        source = f"{name}:{line}"
        found = READERS[form](row)
        tags, tag_problems, left_out = _read_tags(row, found.used)
        problems = [*found.problems, *tag_problems]
        if not found.problems:
            problems += check_turns(found.turns)
        ignored.update(left_out)
        if problems:
            defects += [Defect(p.rule, source, p.message, p.value) for p in problems]
            continue
        messages = tuple(Message(role=role, content=content) for role, content in found.turns)
        examples.append(Example(messages=messages, source=source, split=split, tags=tags))
    return Reading(examples, defects, form, dict(ignored))


def detect_format(rows: Sequence[tuple[int, dict[str, Any]]], name: str) -> Format:
    """The one format of all rows, told from their keys.

    Raises ContractError when rows disagree or a row has no known key, naming lines and the `format:` key.
    """
    lines: dict[str, list[int]] = {"messages": [], "instruction": [], "both": [], "unknown": []}
    for line, row in rows:
        chat = "messages" in row
        single = "instruction" in row or not chat and ("output" in row or "expected" in row)
        lines[("both" if single else "messages") if chat else ("instruction" if single else "unknown")].append(line)
    present: list[Format] = [form for form in READERS if lines[form]]
    if len(present) == 1 and not lines["both"] and not lines["unknown"]:
        return present[0]
    parts = [f"{len(found)} rows {kind}, first {name}:{found[0]}" for kind, found in lines.items() if found]
    if lines["unknown"]:
        keys = sorted(dict(rows)[lines["unknown"][0]])
        what = f"{name}:{lines['unknown'][0]} has no known key ({', '.join(keys) or 'none at all'})"
    elif lines["both"]:
        what = f"{name}:{lines['both'][0]} has both `messages` and `instruction`"
    else:
        what = f"{name} mixes two formats"
    raise ContractError(
        f"the format of {name} cannot be told: {what}. Known: {KNOWN}. Found: {'; '.join(parts)}",
        hint="keep one format in a file, or say which one is meant on the source: `format: messages` "
        "or `format: instruction`",
    )


def check_turns(turns: Sequence[tuple[Any, Any]]) -> list[Problem]:
    """Every broken rule of a conversation: known roles in turn, text in each, the answer at the end."""
    problems: list[Problem] = []
    previous: Any = None
    for number, (role, content) in enumerate(turns, 1):
        if role not in ROLES:
            known = "`tool` turns are not supported yet" if role == "tool" else f"known roles: {', '.join(ROLES)}"
            problems.append(Problem("role", f"turn {number} has an unknown role; {known}", _short(role)))
        elif role == "system" and number > 1:
            problems.append(Problem("system_first", f"turn {number} is a system turn; only the first may be", role))
        if role is not None and role == previous:
            problems.append(
                Problem("doubled_role", f"turns {number - 1} and {number} have the same role", _short(role))
            )
        previous = role
        problems += _check_content(number, content)
    roles = [role for role, _ in turns]
    if "user" not in roles:
        problems.append(Problem("no_user", "there is no user turn", _short(roles)))
    elif next(role for role in roles if role != "system") == "assistant":
        problems.append(Problem("first_turn", "the first turn after the system's must be the user's", "assistant"))
    if "assistant" not in roles:
        problems.append(Problem("no_answer", "there is no assistant turn: nothing to learn", _short(roles)))
    elif roles[-1] != "assistant":
        problems.append(Problem("last_turn", "the last turn must be the assistant's", _short(roles[-1])))
    return problems


def _check_content(number: int, content: Any) -> list[Problem]:
    if not isinstance(content, str):
        return [Problem("content_type", f"turn {number}: content must be text", _short(content))]
    if not content.strip():
        return [Problem("empty", f"turn {number}: content is empty", _short(content))]
    return [] if _is_unicode(content) else [_broken_text(f"turn {number}", content)]


def _read_tags(
    row: dict[str, Any], used: frozenset[str]
) -> tuple[dict[str, str | int | float | bool], list[Problem], list[str]]:
    """Scalar keys beside the conversation become tags; (tags, problems, keys left out)."""
    tags: dict[str, str | int | float | bool] = {}
    problems: list[Problem] = []
    ignored: list[str] = []
    for key, value in row.items():
        if key in used:
            continue
        if key in MEANINGFUL_KEYS and value:
            problems.append(Problem("meaningful_key", f"`{key}` is not supported and would be lost", _short(value)))
        elif not _is_unicode(key) or isinstance(value, str) and not _is_unicode(value):
            problems.append(_broken_text("a key beside the conversation", f"{key}: {value}"))
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem("number", f"`{key}` is not a finite number", _short(value)))
        elif isinstance(value, str | int | float):
            tags[key] = value
        else:
            ignored.append(key)
    return tags, problems, ignored


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _broken_text(where: str, text: str) -> Problem:
    return Problem("unicode", f"{where}: half of a surrogate pair, not valid Unicode", ascii(text)[:80])


def _short(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) and not _is_unicode(value) else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else text[:79] + "…"


def defects_error(defects: Sequence[Defect], rows: int) -> ContractError:
    """One error for all defects: up to 50 shown, all counted. `rows` is how many rows were read."""
    lines = [f"{d.source}: {d.rule}: {d.message}; found {d.value}" for d in defects[:SHOWN]]
    if len(defects) > SHOWN:
        lines.append(f"… and {len(defects) - SHOWN} more")
    broken = len({d.source for d in defects})
    return ContractError(
        f"{broken} of {rows} rows are defective ({len(defects)} defects; nothing is repaired):\n  "
        + "\n  ".join(lines),
        hint="correct the lines, then repeat the same command",
    )
