"""Tickets: a table with columns for the question and columns for the answer."""

import json
import math
from typing import Any

from holdfast.core.source_config import TicketOptions
from holdfast.sources.defects import Problem, Turns, broken_text, is_unicode, names_of, short


def read_ticket(row: dict[str, Any], options: TicketOptions) -> Turns:
    """One ticket. Input columns may be empty, but not all of them; every output column must hold a value."""
    columns = options.columns
    used = frozenset((*columns.input, *columns.output))
    problems = [
        Problem("missing_column", f"there is no column {short(name)}", names_of(row))
        for name in dict.fromkeys((*columns.input, *columns.output))
        if name not in row
    ]
    if problems:
        return Turns([], used, problems)
    for name in (*columns.input, *columns.output):
        problems += _check_value(name, row[name])
    asked = [(name, _text(row[name])) for name in columns.input]
    if not problems and not any(text.strip() for _, text in asked):
        problems.append(Problem("empty", "all input columns are empty", names_of(columns.input)))
    for name in columns.output:
        if not problems and not _text(row[name]).strip():
            problems.append(Problem("empty", f"the output column {short(name)} is empty", short(row[name])))
    if problems:
        return Turns([], used, problems)
    lines = [f"{name}: {text}" for name, text in asked if text.strip()]
    question = asked[0][1] if len(asked) == 1 else "\n".join(lines)
    if options.answer == "text":
        answer = _text(row[columns.output[0]])
    else:
        answer = json.dumps({name: row[name] for name in columns.output}, ensure_ascii=False)
    return Turns([("user", f"{options.instruction}\n\n{question}"), ("assistant", answer)], used)


def _check_value(name: str, value: Any) -> list[Problem]:
    if value is not None and not isinstance(value, str | int | float):
        return [Problem("content_type", f"the column {short(name)} must hold a plain value", short(value))]
    if isinstance(value, float) and not math.isfinite(value):
        return [Problem("number", f"the column {short(name)} is not a finite number", short(value))]
    if isinstance(value, int) and value.bit_length() > 64:
        return [Problem("number", f"the column {short(name)} does not fit into 64 bits", short(value))]
    if isinstance(value, str) and not is_unicode(value):
        return [broken_text(f"the column {short(name)}", value)]
    return []


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
