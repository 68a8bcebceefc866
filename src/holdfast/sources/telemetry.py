"""Telemetry anomalies: service, signal, value, baseline and context become a question and its interpretation.

The interpretation is computed from the facts of the event, the same for the same event; one that a person wrote
into the event is kept as it is.
"""

import math
import re
from typing import Any, TypeGuard

from holdfast.core.source_config import TelemetryOptions
from holdfast.core.template import fill
from holdfast.sources.defects import Problem, Turns, is_unicode, names_of, short

USED = frozenset({"service", "signal", "value", "baseline", "unit", "context", "interpretation", "timestamp"})


NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def read_table_event(row: dict[str, Any], options: TelemetryOptions) -> Turns:
    """As `read_event` for a row of CSV, where numbers are text and what is not there is empty."""
    read = {key: text for key, text in row.items() if text != "" or key in ("service", "signal", "value", "baseline")}
    for key in ("value", "baseline"):
        text = row.get(key)
        if isinstance(text, str) and NUMBER.fullmatch(text.strip()):
            read[key] = float(text)
    return read_event(read, options)


def read_event(row: dict[str, Any], options: TelemetryOptions) -> Turns:
    """`{"service", "signal", "value", "baseline", "unit"?, "context"?, "timestamp"?, "interpretation"?}`.

    `baseline` is a number, or an object with `mean` and `stddev`; `context` is an object of plain values.
    """
    problems: list[Problem] = []
    for key in ("service", "signal"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            problems.append(Problem("event", f"`{key}` must be a text", short(row.get(key))))
    for key in ("unit", "interpretation"):
        if row.get(key) is not None and not isinstance(row[key], str):
            problems.append(Problem("event", f"`{key}` must be a text", short(row[key])))
    value = row.get("value")
    if not _is_number(value):
        problems.append(Problem("event", "`value` must be a finite number", short(value)))
    mean, spread = _baseline(row.get("baseline"), problems)
    context = _context(row.get("context"), problems)
    texts = (row.get(key) for key in ("service", "signal", "unit", "timestamp"))
    if not all(is_unicode(text) for text in texts if isinstance(text, str)) or not is_unicode(context):
        problems.append(Problem("unicode", "a text of the event is not valid Unicode", short(context)))
    if problems:
        return Turns([], USED, problems)
    facts = describe_event(row, mean, spread, context)
    answer = row.get("interpretation") or fill(options.answer, facts)
    turns = [("user", fill(options.prompt, facts)), ("assistant", answer)]
    tags = {"service": row["service"], "signal": row["signal"]}
    return Turns(turns, USED, (), None, tags)


def describe_event(row: dict[str, Any], mean: float, spread: float | None, context: str) -> dict[str, str]:
    """The words for the facts of an event, by the names that templates use."""
    value, unit = row["value"], row.get("unit") or ""
    gap = value - mean
    if gap == 0:
        change = "no change"
    elif mean == 0:
        change = f"{number(abs(gap))}{unit} {'more' if gap > 0 else 'less'} than none"
    else:
        change = (
            f"{number(value / mean)} times the baseline ({'+' if gap > 0 else '-'}{number(abs(gap / mean) * 100)} %)"
        )
    deviation = ""
    if spread:
        deviation = f"{number(abs(gap) / spread)} standard deviations {'above' if gap >= 0 else 'below'} the mean"
    timestamp = row.get("timestamp")
    return {
        "service": row["service"], "signal": row["signal"], "value": number(value), "unit": unit,
        "baseline": f"{number(mean)}{unit}", "direction": "above" if gap > 0 else "below" if gap < 0 else "at",
        "change": change, "deviation": deviation, "context": context,
        "timestamp": timestamp if isinstance(timestamp, str) else number(timestamp) if _is_number(timestamp) else "",
    }  # fmt: skip


def number(value: float) -> str:
    """A number with six digits at most, never in exponent form between a millionth and a billion."""
    if isinstance(value, int) and abs(value) < 10**9:
        return str(value)
    rounded = float(f"{value:.6g}")
    if rounded.is_integer() and abs(rounded) < 10**9:
        return str(int(rounded))
    return f"{rounded:.12f}".rstrip("0") if 1e-6 <= abs(rounded) < 10**9 else f"{rounded:g}"


def _is_number(value: Any) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 10**300 and math.isfinite(value)


def _baseline(value: Any, problems: list[Problem]) -> tuple[float, float | None]:
    mean, spread = (value.get("mean"), value.get("stddev")) if isinstance(value, dict) else (value, None)
    if not _is_number(mean):
        what = "`baseline` must be a finite number, or an object with `mean` and `stddev`"
        problems.append(Problem("event", what, short(value)))
        return 0.0, None
    if spread is not None and (not _is_number(spread) or spread < 0):
        problems.append(Problem("event", "`baseline.stddev` must be a number from 0", short(spread)))
        return mean, None
    if isinstance(value, dict) and (more := sorted(map(str, value.keys() - {"mean", "stddev"}))):
        problems.append(Problem("event", "`baseline` has keys that would be lost; known: mean, stddev", names_of(more)))
    return mean, spread


def _context(value: Any, problems: list[Problem]) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if not isinstance(value, dict):
        problems.append(Problem("event", "`context` must be an object of plain values", short(value)))
        return ""
    parts = []
    for key, item in value.items():
        if isinstance(item, bool):
            parts.append(f"{key} {'yes' if item else 'no'}")
        elif isinstance(item, str):
            parts.append(f"{key} {item}")
        elif _is_number(item):
            parts.append(f"{key} {number(item)}")
        elif item is not None:
            problems.append(Problem("event", f"`context` must hold plain values, {short(key)} does not", short(item)))
    return ", ".join(parts)
