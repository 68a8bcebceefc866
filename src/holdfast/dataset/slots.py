"""Slot grammars: named lists of values, nested, filled in from a seed.

A text may hold `{name}` or `{name.field}`. A name stands for one value throughout a row: `{node}` in the question is
`{node}` in the answer. Only what an operator wrote is filled in; text taken from rows is inserted as it is.
"""

import hashlib
import random
import re
from collections.abc import Mapping, Sequence

# A JSON object never looks like this: its keys stand in quotes.
SLOT = re.compile(r"\{([a-z][a-z0-9_]*)(?:\.([a-z][a-z0-9_]*))?\}")

Value = str | Mapping[str, str]
Slots = Mapping[str, Sequence[Value]]


def seeded(*parts: object) -> random.Random:
    """A generator that depends on nothing but `parts`: not on the order of files, not on the Python version's hash."""
    text = "\x1f".join(map(str, parts))
    return random.Random(int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16], "big"))


def names_in(text: str) -> list[str]:
    """The slots that a text names, in order; fields are left out."""
    return [match[1] for match in SLOT.finditer(text)]


def fill(text: str, slots: Slots, given: Mapping[str, str], rng: random.Random) -> str:
    """`text` with every slot replaced. `given`: values that are inserted as they are and win over slots.

    One call = one row: join the parts of a row (see `fill_all`) when they share values.
    """
    return fill_all((text,), slots, given, rng)[0]


def fill_all(texts: Sequence[str], slots: Slots, given: Mapping[str, str], rng: random.Random) -> list[str]:
    """Several texts of one row: a name has the same value in all of them. Slots must be free of cycles."""
    chosen: dict[str, Value] = {}

    def value(match: re.Match[str]) -> str:
        name, field = match[1], match[2]
        if field is None and name in given:
            return given[name]
        if name not in chosen:
            drawn = rng.choice(slots[name])
            chosen[name] = expand(drawn) if isinstance(drawn, str) else {k: expand(v) for k, v in drawn.items()}
        drawn = chosen[name]
        if isinstance(drawn, str):
            return drawn
        return drawn[field or "text"]

    def expand(text: str) -> str:
        return SLOT.sub(value, text)

    return [expand(text) for text in texts]


def find_faults(texts: Mapping[str, Sequence[str]], slots: Slots, given: Mapping[str, Sequence[str]]) -> list[str]:
    """Why rules cannot be filled in: unknown names, missing fields, slots that hold themselves.

    texts: rule → its texts. given: rule → names that it provides itself.
    """
    faults = [f"slot {name!r} has no values" for name, values in slots.items() if not values]
    for name, values in slots.items():
        for value in values:
            texts_of = [value] if isinstance(value, str) else list(value.values())
            faults += _unknown(f"slot {name!r}", texts_of, slots, ())
    for rule, parts in texts.items():
        faults += _unknown(f"rule {rule!r}", parts, slots, given.get(rule, ()))
    faults += [f"slot {name!r} holds itself: {' → '.join(way)}" for name in slots if (way := _cycle(name, slots))]
    return list(dict.fromkeys(faults))


def _unknown(where: str, texts: Sequence[str], slots: Slots, given: Sequence[str]) -> list[str]:
    faults = []
    for match in (match for text in texts for match in SLOT.finditer(text)):
        name, field = match[1], match[2]
        if field is None and name in given:
            continue
        if name not in slots:
            known = ", ".join(sorted({*slots, *given})) or "none"
            faults.append(f"{where} names {match[0]}, which is not a slot; known: {known}")
            continue
        for value in slots[name]:
            if isinstance(value, str) and field is not None:
                faults.append(f"{where} names {match[0]}, but a value of slot {name!r} is plain text: {value!r}")
            elif not isinstance(value, str) and (field or "text") not in value:
                faults.append(f"{where} names {match[0]}, but a value of slot {name!r} has only {', '.join(value)}")
    return faults


def _cycle(start: str, slots: Slots) -> list[str]:
    """The way from a slot back to itself; empty when there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for value in slots.get(way[-1], ()):
            for text in [value] if isinstance(value, str) else list(value.values()):
                for name in names_in(text):
                    if name == start:
                        return [*way, start]
                    if name not in seen:
                        seen.add(name)
                        ways.append([*way, name])
    return []
