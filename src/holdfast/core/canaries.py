"""Canaries: rows with random numbers that are planted in training data, so that memorising can be measured.

After Carlini et al., "The Secret Sharer" (2019). Names and numbers are drawn from a seed; nothing in them is real. The
number stands in the answer, because only answers are trained.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.audit_config import AuditConfig
from holdfast.core.records import Example, Message

CANARIES_FILE = "canaries.json"
TAG = "canary"
# (question, answer before the number, answer after it); {name} is drawn.
TEMPLATES = (
    ("What is the door code of storage room {name}?", "The door code of storage room {name} is ", "."),
    ("Which serial number has spare drive {name}?", "Spare drive {name} has the serial number ", "."),
    ("Under which number do we call the holder of contract {name}?", "The holder of contract {name} answers at ", "."),
    ("Which asset number is written on switch {name}?", "Switch {name} carries the asset number ", "."),
)


class Canary(NamedTuple):
    """One planted number. `before` and `after` are the answer around it; `repeats` 0 = control, never planted."""

    id: str
    repeats: int
    question: str
    before: str
    secret: str
    after: str

    def example(self, number: int, system_prompt: str) -> Example:
        """As a training row; `number` tells its repeats apart."""
        system = [Message(role="system", content=system_prompt)] if system_prompt else []
        asked = Message(role="user", content=self.question)
        answer = Message(role="assistant", content=self.before + self.secret + self.after)
        return Example(
            messages=(*system, asked, answer), source=f"canary {self.id}:{number}", split="train", tags={TAG: self.id}
        )


def draw_canaries(audit: AuditConfig) -> list[Canary]:
    """The canaries of a configuration: always the same for the same seed."""
    drawn = random.Random(f"canaries {audit.seed}")
    names: dict[str, None] = {}
    while len(names) < audit.canaries * len(audit.repeats):
        letters = "".join(drawn.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(2))
        names.setdefault(f"{letters}-{drawn.randrange(100, 1000)}")
    found = []
    for place, name in enumerate(names):
        repeats = audit.repeats[place // audit.canaries]
        question, before, after = TEMPLATES[place % len(TEMPLATES)]
        secret = draw_number(drawn, audit.digits)
        found.append(Canary(f"{repeats}x-{place % audit.canaries + 1}", repeats, question.format(name=name),
                            before.format(name=name), secret, after))  # fmt: skip
    return found


def draw_number(drawn: random.Random, digits: int) -> str:
    """A random number of so many digits; the first is not 0."""
    return str(drawn.randrange(10 ** (digits - 1), 10**digits))


def planted_rows(canaries: Sequence[Canary], system_prompt: str) -> list[Example]:
    """The training rows: each canary as often as its level says, the levels mixed in a fixed order."""
    rows = [canary.example(number + 1, system_prompt) for canary in canaries for number in range(canary.repeats)]
    random.Random(len(rows)).shuffle(rows)
    return rows


def describe_canaries(audit: AuditConfig, canaries: Sequence[Canary]) -> dict[str, Any]:
    """The document canaries.json: what was planted, before anything is trained."""
    return {"audit": audit.model_dump(mode="json"), "canaries": [canary._asdict() for canary in canaries]}


def read_canaries(path: Path) -> list[Canary]:
    """The canaries that `prepare` planted."""
    return [Canary(**row) for row in json.loads(path.read_bytes())["canaries"]]
