"""Is an answer true to the knowledge base? Facts are checked, not how alike two texts are.

A runbook answer is right when its three sections stand in order and hold text; its commands are exactly those of the
condition's runbook for the node; every threshold of the condition is stated, and no figure that the runbook does not
hold; node, rack and switch are the item's own; no name is made up; and no command changes anything. An answer about
places names exactly the nodes, racks and switches that the reference names, all of them true.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from holdfast.core.knowledge import SECTIONS, Knowledge
from holdfast.evaluate.commands import changes_state

COMMAND = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*$", re.MULTILINE)
STEP = re.compile(r"^\s*\d+[.)]\s+\S", re.MULTILINE)
COMPARISON = re.compile(r"([A-Za-z][\w ]*?)?\s*(>=|<=|==|=|>|<|≥|≤)\s*(\d+(?:\.\d+)?)\s*(%|[A-Za-zµ]+)?")
FIGURE = re.compile(r"(?<![\w.-])(\d+(?:\.\d+)?)\s*(%|[A-Za-zµ]+)?")
WORD = re.compile(r"[A-Za-z][\w-]*")
IDENTIFIER = re.compile(r"(?<![\w/.-])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w/-])")
UNITS_WORDS = """
% ms s us µs ns seconds minutes min hours h days gb mb kb tb gib mib kib gbps mbps iops w c
"""
UNITS = frozenset(UNITS_WORDS.split())
SAME = {"≥": ">=", "≤": "<=", "==": "="}
KINDS = ("runbook", "topology")


class Asked(NamedTuple):
    """What an item is about. `condition` is empty for a question about places."""

    kind: str
    condition: str
    node: str


class Runbook(NamedTuple):
    """A runbook taken apart: headings, text by heading, commands in the actions and anywhere."""

    headings: tuple[str, ...]
    bodies: dict[str, str]
    actions: tuple[str, ...]
    commands: tuple[str, ...]
    prose: str


def asked_of(tags: Mapping[str, Any], facts: Knowledge) -> Asked | None:
    """What the item's tags ask; None when they name nothing that the knowledge base knows."""
    asked = Asked(str(tags.get("kind", "")), str(tags.get("condition", "")), str(tags.get("node", "")))
    if asked.kind not in KINDS or asked.node not in facts.nodes:
        return None
    return asked if asked.kind == "topology" or asked.condition in facts.conditions else None


def problems_of(answer: str, asked: Asked, prompt: str, reference: str, facts: Knowledge) -> list[str]:
    """Every way in which the answer is not true, as `check: what was found`; empty = right."""
    if asked.kind == "topology":
        return [
            *_places(answer, asked, facts, reference),
            *_figures(COMMAND.sub(" ", answer), reference + "\n" + prompt),
            *_changing(answer),
            *_invented_names(answer, prompt, facts),
        ]
    own = take_apart(facts.runbook(asked.condition, asked.node))
    found = take_apart(answer)
    return [
        *_sections(found),
        *_commands(found, own),
        *_changing(answer),
        *_thresholds(found, own, asked, facts),
        *_figures(found.prose, own.prose + "\n" + prompt),
        *_places(answer, asked, facts, facts.runbook(asked.condition, asked.node)),
        *_invented_names(found.prose, prompt + own.prose, facts),
        *(f"conditions: {name} is another one" for name in facts.conditions if name != asked.condition
          and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", found.prose)),
    ]  # fmt: skip


def take_apart(text: str) -> Runbook:
    """Sections, commands and prose of a runbook in Markdown."""
    marks = list(HEADING.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    bodies = {mark[1]: text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)}
    actions = tuple(_plain(c) for c in COMMAND.findall(bodies.get(SECTIONS[1], "")))
    commands = tuple(_plain(c) for c in COMMAND.findall(text))
    return Runbook(tuple(mark[1] for mark in marks), bodies, actions, commands, COMMAND.sub(" ", text))


def _plain(command: str) -> str:
    return " ".join(command.split())


def _sections(found: Runbook) -> Iterator[str]:
    if found.headings != SECTIONS:
        yield f"sections: {', '.join(found.headings) or 'none'}"
    yield from (f"sections: {name} is empty" for name in SECTIONS if name in found.bodies and not found.bodies[name])
    steps = len(STEP.findall(found.bodies.get(SECTIONS[1], "")))
    if found.actions and steps != len(found.actions):
        yield f"sections: {steps} numbered steps hold {len(found.actions)} commands"


def _commands(found: Runbook, own: Runbook) -> Iterator[str]:
    yield from (f"commands: {c} is missing" for c in own.actions if c not in found.actions)
    yield from (f"commands: {c} is not this condition's" for c in found.commands if c not in own.commands)
    yield from (f"commands: {c} comes twice" for c in dict.fromkeys(found.actions)
                if found.actions.count(c) > own.actions.count(c) > 0)  # fmt: skip


def _changing(answer: str) -> Iterator[str]:
    for command in COMMAND.findall(answer):
        if why := changes_state(command):
            yield f"changes state: {_plain(command)}: {why}"


def _thresholds(found: Runbook, own: Runbook, asked: Asked, facts: Knowledge) -> Iterator[str]:
    """All thresholds of the condition are stated, with their metric where the runbook names it; no other is."""
    limits = facts.conditions[asked.condition].thresholds
    metrics = {_words(t.metric): t.metric for c in facts.conditions.values() for t in c.thresholds}

    def stated(text: str) -> set[tuple[str, str, float, str]]:
        named = ((next((m for w, m in metrics.items() if _words(words).endswith(w)), ""), o, float(v), u)
                 for words, o, v, u in comparisons(text))  # fmt: skip
        return set(named)

    said, known = stated(found.prose), stated(own.prose)
    for limit in limits:
        plain = (SAME.get(limit.operator, limit.operator), float(limit.value), limit.unit)
        named = (limit.metric, *plain)
        if named not in said and (named in known or plain not in {one[1:] for one in said}):
            yield f"thresholds: {limit} is not stated"
    true = known | {(t.metric, SAME.get(t.operator, t.operator), float(t.value), t.unit) for t in limits}
    for metric, operator, value, unit in sorted(said - true):
        if metric:
            yield f"thresholds: {metric} {operator} {value:g} {unit} is not this condition's"


def comparisons(text: str) -> list[tuple[str, str, str, str]]:
    """(words before, operator, number, unit) of every comparison such as `cpu_steal >= 40 %`."""
    return [(w, SAME.get(o, o), v, u) for w, o, v, u in COMPARISON.findall(text)]


def _words(text: str) -> str:
    return " ".join(text.replace("_", " ").lower().split())


def _figures(text: str, known_text: str) -> Iterator[str]:
    """Numbers with their units that the known text does not hold; a step's own number is none."""
    known = set(_numbers(known_text))
    prose = re.sub(r"^\s*\d+[.)]\s", "", text, flags=re.MULTILINE)
    for number, unit in dict.fromkeys(_numbers(prose)):
        if (number, unit) not in known:
            yield f"figures: {number:g} {unit}".rstrip() + " is in neither runbook nor question"


def _numbers(text: str) -> list[tuple[float, str]]:
    return [(float(n), u.lower() if u.lower() in UNITS else "") for n, u in FIGURE.findall(text)]


def _places(answer: str, asked: Asked, facts: Knowledge, reference: str) -> Iterator[str]:
    """Nodes, racks and switches of the answer: all that the reference names, and no other."""
    true = {asked.node, facts.rack_of(asked.node), facts.switch_of(asked.node)}
    if asked.kind == "topology":
        true |= set(facts.racks[facts.rack_of(asked.node)].nodes if facts.rack_of(asked.node) else ())
    wanted, given = _named(reference, facts), _named(answer, facts)
    yield from (f"places: {name} is not named" for name in sorted(wanted - given))
    yield from (f"places: {name} is not right here" for name in sorted(given - wanted if wanted else given - true))
    yield from (f"places: {name} is not true of {asked.node}" for name in sorted((given & wanted) - true))


def _named(text: str, facts: Knowledge) -> set[str]:
    return set(WORD.findall(text)) & all_places(facts)


def all_places(facts: Knowledge) -> set[str]:
    """Names of all nodes, racks and switches."""
    return {*facts.nodes, *facts.racks, *(rack.switch for rack in facts.racks.values() if rack.switch)}


def _invented_names(text: str, known_text: str, facts: Knowledge) -> Iterator[str]:
    """Words that look like a node, rack, switch or metric and are none."""
    places = all_places(facts)
    shapes = {_shape(name) for name in places}
    patterns = [re.compile(shape) for shape in sorted(shapes) if shape]
    known = places | set(facts.conditions) | {t.metric for c in facts.conditions.values() for t in c.thresholds}
    known |= set(IDENTIFIER.findall(known_text))
    words = dict.fromkeys((*WORD.findall(text), *IDENTIFIER.findall(text)))
    for word in words:
        looks_like_place = any(pattern.fullmatch(word) for pattern in patterns)
        if word not in known and (looks_like_place or IDENTIFIER.fullmatch(word)):
            yield f"invented: there is no {word}"


def _shape(name: str) -> str:
    """A pattern for names like this one: `pve7` → pve and digits, `rack_a` → rack_ and a short ending."""
    if found := re.fullmatch(r"(.*?\D)\d+", name):
        return re.escape(found[1]) + r"\d+"
    if found := re.fullmatch(r"(.*[_-])[A-Za-z0-9]{1,3}", name):
        return re.escape(found[1]) + r"[A-Za-z0-9]{1,3}"
    return ""
