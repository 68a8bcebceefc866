"""Fillers for slots without a label: hosts, services, products, alerts, commands, times, headings."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from people import lists, rows

Rng = random.Random
WORDS = lists()
DAYS, MONTHS = WORDS["day"], WORDS["month"]


@lru_cache(maxsize=1)
def products() -> tuple[str, ...]:
    """All product names."""
    return tuple(rows("products.txt")[0].split(";"))


def host(rng: Rng) -> str:
    """A host name."""
    name = f"{rng.choice(WORDS['kind'])}{rng.choice(('-', '', '0', '-prd-'))}{rng.randint(1, 40)}"
    return name + rng.choice(("", "", "", ".internal", ".example.net", "-eu", ".corp.local"))


def alert(rng: Rng) -> str:
    """An alert name as rules have them."""
    return "".join(rng.sample(WORDS["alert"], rng.randint(2, 4)))


def stamp(rng: Rng) -> str:
    """A time stamp of a log line."""
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}"
    day = f"20{rng.randint(18, 29)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    return rng.choice(
        (
            f"{day}T{clock}Z",
            f"{day} {clock},{rng.randint(0, 999):03d}",
            f"{rng.choice(MONTHS)[:3]} {rng.randint(1, 28)} {clock}",
        )
    )


def date(rng: Rng) -> str:
    """A date in one of several notations."""
    d, m, y = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2018, 2029)
    name = MONTHS[m - 1]
    return rng.choice(
        (f"{y}-{m:02d}-{d:02d}", f"{d}.{m}.{y}", f"{m}/{d}/{y}", f"{d} {name}", f"{name} {d}, {y}", f"{d} {name[:3]}")
    )


def ticket(rng: Rng) -> str:
    """A ticket number."""
    return rng.choice(("INC", "CHG", "OPS-", "REQ", "SRV-", "#", "HELP-", "PRB", "JIRA-", "CS")) + str(
        rng.randint(100, 999999)
    )


def command(rng: Rng) -> str:
    """A shell command."""
    text = rng.choice(WORDS["command"])
    for slot in ("host", "svc", "n", "d", "ip"):
        text = text.replace("{" + slot + "}", FILLERS[slot](rng))
    return text


FILLERS: dict[str, Callable[[Rng], str]] = {
    "host": host,
    "svc": lambda rng: rng.choice(WORDS["service"]),
    "prod": lambda rng: rng.choice(products()),
    "role": lambda rng: rng.choice(WORDS["role"]),
    "team": lambda rng: rng.choice(WORDS["team"]),
    "alert": alert,
    "camel": alert,
    "cmd": command,
    "stamp": stamp,
    "date": date,
    "tkt": ticket,
    "day": lambda rng: rng.choice(DAYS),
    "month": lambda rng: rng.choice(MONTHS),
    "user": lambda rng: rng.choice(WORDS["user"]),
    "n": lambda rng: str(rng.randint(1, 9999)),
    "d": lambda rng: str(rng.randint(1, 9)),
    "pct": lambda rng: f"{rng.randint(1, 100)}%",
    "ver": lambda rng: f"{rng.randint(0, 15)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}",
    "clock": lambda rng: f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
    "dur": lambda rng: f"{rng.randint(2, 90)} {rng.choice(('s', 'min', 'minutes', 'hours', 'seconds'))}",
    "ip": lambda rng: f"10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
}
