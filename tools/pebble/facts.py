"""Questions over facts given in the prompt: extraction, tables, counting, comparison, templates."""

from __future__ import annotations

import slots
from pick import Rng, between, chance, pick, sample
from wording import Message, assistant, compact, system, user

Chat = list[Message]
# field -> (values or slot template, question, sentence)
FIELDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "city": ("{city}", ("Where is {x}?", "In which city is {x}?"), ("{x} is in {v}.", "{x} sits in {v}.")),
    "owner": (
        "{name}",
        ("Who looks after {x}?", "Who owns {x}?"),
        ("{v} looks after {x}.", "The owner of {x} is {v}."),
    ),
    "team": (
        "{team}",
        ("Which team runs {x}?", "Whose is {x}?"),
        ("The {v} team runs {x}.", "{x} belongs to the {v} team."),
    ),
    "version": (
        "{version}",
        ("Which version does {x} run?", "What version is {x} on?"),
        ("{x} runs {v}.", "{x} is on {v}."),
    ),
    "disk": ("{dd} GB", ("How much disk does {x} have?",), ("{x} has {v} of disk.", "The disk of {x} holds {v}.")),
    "load": ("{pct}", ("How high is the load of {x}?",), ("The load of {x} is {v}.", "{x} is at {v} load.")),
    "restart": (
        "{clock}",
        ("When was {x} restarted?", "At what time did {x} restart?"),
        ("{x} was restarted at {v}.", "{x} restarted at {v}."),
    ),
    "port": ("{many}", ("On which port does {x} listen?",), ("{x} listens on port {v}.", "The port of {x} is {v}.")),
    "day": (
        "{day}",
        ("On which day is {x} backed up?",),
        ("{x} is backed up on {v}.", "The backup of {x} runs on {v}."),
    ),
    "address": ("{ip}", ("What is the address of {x}?",), ("The address of {x} is {v}.", "{x} has the address {v}.")),
    "status": (
        "{status}",
        ("What is the status of {x}?", "How is {x} doing?"),
        ("{x} is {v}.", "The status of {x} is {v}."),
    ),
}
STATUS = ("healthy", "degraded", "stopped", "starting", "idle", "busy", "unreachable", "frozen", "paused", "overloaded")
GOODS = (
    "apples",
    "bolts",
    "chairs",
    "lamps",
    "pens",
    "boxes",
    "cables",
    "masks",
    "plates",
    "tyres",
    "books",
    "tickets",
    "pumps",
    "towels",
    "batteries",
    "screws",
    "cups",
    "fans",
    "maps",
    "gloves",
    "tents",
    "ropes",
    "bricks",
    "jars",
)
slots.FILL["status"] = lambda rng: pick(rng, STATUS)
ONLY = (" Answer with the value only.", " Just the value.", "", "", " Short answer.")


def one(ask: str, answer: str) -> Chat:
    """A chat of one turn."""
    return [user(ask), assistant(answer)]


def subject(rng: Rng) -> str:
    """Something that has facts."""
    return pick(rng, (slots.host, slots.service))(rng)


def facts(rng: Rng, count: int, things: int = 1) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Sentences, and (thing, field, value) of each, shuffled."""
    rows, said = [], []
    for _ in range(things):
        thing = subject(rng)
        for field in sample(rng, list(FIELDS), count):
            template, _, sentences = FIELDS[field]
            value = slots.fill(rng, template)
            rows.append((thing, field, value))
            said.append(pick(rng, sentences).format(x=thing, v=value))
    rng.shuffle(said)
    return said, rows


def ask_fact(rng: Rng) -> Chat:
    """One or two questions about stated facts."""
    said, rows = facts(rng, between(rng, 2, 4), between(rng, 1, 2))
    chosen = sample(rng, rows, 1 if chance(rng, 0.7) else 2)
    chat: Chat = []
    for number, (thing, field, value) in enumerate(chosen):
        ask, only = pick(rng, FIELDS[field][1]).format(x=thing), pick(rng, ONLY)
        ask += only
        answer = value if only or chance(rng, 0.4) else pick(rng, FIELDS[field][2]).format(x=thing, v=value)
        if not number:
            ask = f"{' '.join(said)}\n{ask}" if chance(rng, 0.7) else f"{ask}\nFacts: {' '.join(said)}"
        chat += one(ask, answer)
    return chat


def unknown(rng: Rng) -> Chat:
    """A question that the facts do not answer."""
    said, rows = facts(rng, 3)
    thing = rows[0][0]
    field = pick(rng, [f for f in FIELDS if f not in [r[1] for r in rows]])
    say = pick(rng, ("not stated", "The text does not say.", "unknown"))
    ask = pick(rng, FIELDS[field][1]).format(x=thing)
    return one(f"{' '.join(said)}\n{ask} If the text does not say, answer '{say}'", say)


def yes_no(rng: Rng) -> Chat:
    """Is a statement true by the facts?"""
    said, rows = facts(rng, between(rng, 2, 4))
    thing, field, value = pick(rng, rows)
    truth = chance(rng, 0.5)
    shown = value if truth else slots.fill(rng, FIELDS[field][0])
    claim = pick(rng, FIELDS[field][2]).format(x=thing, v=shown)
    ask = pick(
        rng,
        (
            "True or false? {}",
            "Is this right: {}",
            "By the facts, is it true? {}",
            "Check this claim: {} True or false?",
        ),
    )
    truth = shown == value
    answer = ("true" if truth else "false") if "rue or false" in ask else ("yes" if truth else "no")
    if not truth and chance(rng, 0.3):
        answer += f", {pick(rng, FIELDS[field][2]).format(x=thing, v=value)}"
    return one(f"{' '.join(said)}\n{ask.format(claim)}", answer)


def extract(rng: Rng) -> Chat:
    """Facts to JSON with the keys of the prompt."""
    said, rows = facts(rng, between(rng, 2, 5))
    wanted = sample(rng, rows, between(rng, 2, len(rows)))
    alias = {
        "city": ("city", "place", "site", "location"),
        "owner": ("owner", "person", "keeper", "contact"),
        "team": ("team", "group", "unit"),
        "version": ("version", "release", "v"),
        "disk": ("disk", "storage", "space"),
        "load": ("load", "usage", "busy"),
        "restart": ("restart", "restarted_at", "time"),
        "port": ("port", "tcp_port"),
        "day": ("backup_day", "day"),
        "address": ("address", "ip", "addr"),
        "status": ("status", "state", "health"),
    }
    fields = {pick(rng, alias[field]): value for _, field, value in wanted}
    if chance(rng, 0.5):
        fields = {pick(rng, ("name", "host", "machine", "service", "id")): rows[0][0], **fields}
    keys = ", ".join(fields)
    ask = pick(
        rng,
        (
            "Extract {} as JSON.",
            "Return JSON with the keys {}.",
            "Give me one line of JSON with {}.",
            "Keys: {}. JSON only.",
            "Turn this into a JSON object with {}.",
        ),
    ).format(keys)
    if chance(rng, 0.3):
        return [system(ask), user(" ".join(said)), assistant(compact(fields))]
    return one(f"{ask}\n{' '.join(said)}" if chance(rng, 0.5) else f"{' '.join(said)}\n{ask}", compact(fields))


def table(rng: Rng, count: int) -> tuple[str, list[str], list[list[str]]]:
    """A table as text in one of some styles; its columns; its rows."""
    columns = sample(rng, list(FIELDS), between(rng, 2, 3))
    rows = [[subject(rng), *(slots.fill(rng, FIELDS[c][0]) for c in columns)] for _ in range(count)]
    head = ["name", *columns]
    style = between(rng, 0, 3)
    if style == 0:
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    elif style == 1:
        lines = [",".join(row) for row in [head, *rows]]
    elif style == 2:
        lines = ["; ".join(f"{h}={v}" for h, v in zip(head, row, strict=False)) for row in rows]
    else:
        lines = [compact(dict(zip(head, row, strict=False))) for row in rows]
    return "\n".join(lines), columns, rows


def look_up(rng: Rng) -> Chat:
    """A cell of a table, or the row with a value, or the number of rows."""
    text, columns, rows = table(rng, between(rng, 2, 5))
    row, spot = pick(rng, rows), between(rng, 1, len(columns))
    roll = rng.random()
    if roll < 0.5:
        ask, answer = pick(rng, ("What is the {c} of {n}?", "Look up {c} for {n}.", "{c} of {n}?")), row[spot]
    elif roll < 0.8 and [r[spot] for r in rows].count(row[spot]) == 1:
        ask, answer = pick(rng, ("Which one has {c} {v}?", "Whose {c} is {v}?")), row[0]
    else:
        ask, answer = pick(rng, ("How many rows are there?", "How many entries are listed?")), str(len(rows))
    return one(f"{text}\n{ask.format(c=columns[spot - 1], n=row[0], v=row[spot])}", answer)


def stock(rng: Rng) -> Chat:
    """Counts of goods: the most, the fewest, the total, more than, a difference."""
    goods = sample(rng, GOODS, between(rng, 2, 5))
    counts = rng.sample(range(2, 120), len(goods))
    owned = dict(zip(goods, counts, strict=False))
    text = pick(rng, ("In stock: {}.", "We have {}.", "The shelf holds {}.", pick(rng, slots.NAMES) + " has {}."))
    text = text.format(", ".join(f"{n} {g}" for g, n in owned.items()))
    first, second = goods[0], goods[1]
    limit = between(rng, 20, 90)
    over = [g for g in goods if owned[g] > limit]
    ask, answer = pick(
        rng,
        (
            ("Of what is there most?", max(goods, key=owned.__getitem__)),
            ("Of what is there least?", min(goods, key=owned.__getitem__)),
            (f"How many {first} are there?", str(owned[first])),
            (f"How many {first} and {second} together?", str(owned[first] + owned[second])),
            (f"Are there more {first} than {second}?", "yes" if owned[first] > owned[second] else "no"),
            (f"Which goods number more than {limit}?", ", ".join(over) or "none"),
            ("How many kinds of goods are listed?", str(len(goods))),
            ("Sort the goods by number, largest first.", ", ".join(sorted(goods, key=lambda g: -owned[g]))),
            ("As JSON, goods to number.", compact(owned)),
            (f"How many {first} remain after one is sold?", str(owned[first] - 1)),
            (f"What is the difference between {first} and {second}?", str(abs(owned[first] - owned[second]))),
        ),
    )
    return one(f"{text} {ask}" if chance(rng, 0.5) else f"{text}\n{ask}", answer)


def template(rng: Rng) -> Chat:
    """Fill a template from data."""
    said, rows = facts(rng, 3)
    thing = rows[0][0]
    parts = [f"{field}: <{field}>" for _, field, _ in rows]
    glue = pick(rng, (" | ", "; ", "\n", ", "))
    form = glue.join([f"{pick(rng, ('Name', 'Machine', 'Item', 'Unit'))}: <name>", *parts])
    answer = form.replace("<name>", thing)
    for _, field, value in rows:
        answer = answer.replace(f"<{field}>", value)
    return one(f"Fill in the template from the facts.\nTemplate: {form}\nFacts: {' '.join(said)}", answer)


def describe(rng: Rng) -> Chat:
    """JSON to sentences."""
    _, rows = facts(rng, between(rng, 1, 3))
    thing = rows[0][0]
    data = {"name": thing, **{field: value for _, field, value in rows}}
    answer = " ".join(FIELDS[field][2][0].format(x=thing, v=value) for _, field, value in rows)
    return one(
        pick(rng, ("Write this as plain sentences.", "Put the data into words.", "Say this in English."))
        + f"\n{compact(data)}",
        answer,
    )


def compare(rng: Rng) -> Chat:
    """Which of some machines has more of a measure?"""
    things = list(dict.fromkeys(subject(rng) for _ in range(between(rng, 2, 4))))
    values = rng.sample(range(3, 99), len(things))
    unit, more, less = pick(
        rng,
        (
            ("% load", "busiest", "least busy"),
            (" GB free", "roomiest", "fullest"),
            (" ms delay", "slowest", "fastest"),
            (" errors", "one with most errors", "one with fewest errors"),
            (" days uptime", "longest running", "shortest running"),
            (" degrees", "hottest", "coolest"),
            (" requests", "one with most requests", "one with fewest requests"),
        ),
    )
    top = chance(rng, 0.5)
    best = (max if top else min)(zip(values, things, strict=False))[1]
    text = "; ".join(f"{t}: {v}{unit}" for t, v in zip(things, values, strict=False))
    return one(f"{text}\nWhich is the {more if top else less}?", best)


def story(rng: Rng) -> str:
    """Plain text: facts with questions and answers."""
    said, rows = facts(rng, between(rng, 2, 4), between(rng, 1, 2))
    asked = sample(rng, rows, 2)
    tail = "\n".join(f"Q: {pick(rng, FIELDS[f][1]).format(x=t)}\nA: {v}" for t, f, v in asked)
    return " ".join(said) + ("\n" + tail if chance(rng, 0.5) else "")


def listing(rng: Rng) -> str:
    """Plain text: a table."""
    return table(rng, between(rng, 3, 6))[0]


TASKS = (ask_fact, ask_fact, unknown, yes_no, extract, extract, look_up, look_up, stock, template, describe, compare)


def fact_chat(rng: Rng) -> Chat:
    """Any task over given facts."""
    return pick(rng, TASKS)(rng)


__all__ = ["fact_chat", "story", "listing"]
