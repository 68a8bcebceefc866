"""Hand-written operations knowledge of the folder ops: alert conditions, log lines, configurations and prose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "ops"


@dataclass(frozen=True)
class Condition:
    """Something that an alert is about, with its usual causes and first actions."""

    name: str
    metric: str
    unit: str
    low: int
    high: int
    causes: tuple[str, ...]
    actions: tuple[str, ...]
    escalate: str
    plane: str


def _c(row: str) -> Condition:
    """A condition from one row: name; metric; unit; low; high; causes; actions; escalation; plane."""
    name, metric, unit, low, high, causes, actions, escalate, plane = (part.strip() for part in row.split(";"))
    return Condition(
        name,
        metric,
        unit,
        int(low),
        int(high),
        tuple(causes.split(" / ")),
        tuple(actions.split(" / ")),
        escalate,
        plane,
    )


def _rows(name: str) -> tuple[str, ...]:
    """The lines of a file, less comments."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("# name;"))


CONDITIONS = tuple(map(_c, _rows("conditions.txt")))
LOGS = _rows("logs.txt")
PROSE = _rows("prose.txt")
CONFIGS = tuple((FOLDER / "configs.txt").read_text(encoding="utf-8").rstrip("\n").split("\n%%\n"))
USERS = (
    "admin",
    "backup",
    "deploy",
    "guest",
    "oracle",
    "test",
    "web",
    "git",
    "alice",
    "svc",
    "report",
    "orders",
    "items",
    "carts",
    "files",
)
LEVELS = ("info", "warn", "error", "debug", "notice")
