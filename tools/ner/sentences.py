"""Sentences with their entities: templates, other texts with entities spliced in, and noise over both; seeded."""

from __future__ import annotations

import ast
import os
import random
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import fillers
from people import Names, plain, rows

sys.path.append(str(Path(__file__).resolve().parents[1] / "pebble"))  # its modules import each other by bare name

Rng = random.Random
Entity = tuple[int, int, str]
Sentence = tuple[str, list[Entity]]
LABELS = {"P": "PERSON", "F": "PERSON", "N": "PERSON", "O": "ORG", "L": "LOC"}
SLOT = re.compile(r"\{([A-Za-z]\w*)\}")
CHOICE = re.compile(r"<([^<>]*\|[^<>]*)>")
# Words that lead to an entity, and words that follow one, for splicing into any sentence.
LEADS = {kind: fillers.WORDS[f"lead {kind}"] for kind in "POL"}
TAILS = {kind: fillers.WORDS[f"tail {kind}"] for kind in "POL"}


@lru_cache(maxsize=2)
def docstrings(folder: str) -> tuple[str, ...]:
    """Sentences of the docstrings of the standard library of this Python."""
    found: dict[str, None] = {}
    for path in sorted(Path(folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="ignore"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = (ast.get_docstring(node) or "").replace("\n\n", "\0").replace("\n", " ")
                parts = re.split(r"(?<=[.!?])\s+|\0", text)
                found |= dict.fromkeys(" ".join(p.split()) for p in parts if 15 < len(p) < 160 and "{" not in p)
    return tuple(found)


@lru_cache(maxsize=2)
def code_lines(folder: str) -> tuple[str, ...]:
    """Lines of code of some modules of the standard library."""
    names = (
        "argparse",
        "logging/__init__",
        "socket",
        "subprocess",
        "shutil",
        "threading",
        "json/decoder",
        "http/client",
    )
    text = "\n".join((Path(folder) / f"{name}.py").read_text(encoding="utf-8") for name in names)
    return tuple(line.strip() for line in text.splitlines() if 12 < len(line.strip()) < 120 and "{" not in line)


@lru_cache(maxsize=2)
def pebble_texts(count: int, seed: int) -> tuple[str, ...]:
    """Lines of pebble's corpus, with {F} and {L} where it names a person or a city."""
    import corpus
    import slots

    names, cities = slots.NAMES, slots.CITIES
    known = {**dict.fromkeys(names, "{F}"), **dict.fromkeys(cities, "{L}")}
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, sorted(known, key=len, reverse=True))) + r")\b")
    lines: dict[str, None] = {}
    for document in corpus.documents(seed, count):
        for line in corpus.flat(document).splitlines():
            if 12 < len(line) < 400 and "{" not in line:
                lines[pattern.sub(lambda m: known[m[1]], line)] = None
    return tuple(lines)


def title(words: str) -> str:
    """Every word with a capital."""
    return " ".join(word[:1].upper() + word[1:] for word in words.split())


class Writer:
    """Writes sentences from names and texts."""

    def __init__(self, names: Names, templates: Sequence[str], seed: int) -> None:
        self.names, self.templates = names, templates
        self.plain = docstrings(str(Path(os.__file__).parent))
        self.code = code_lines(str(Path(os.__file__).parent))
        self.seed = seed

    def entity(self, kind: str, rng: Rng) -> str:
        """A value for a labelled slot."""
        make = {"P": self.names.person, "F": self.names.first, "N": self.names.last, "O": self.names.company}
        return make.get(kind, self.names.place)(rng)

    def filler(self, slot: str, rng: Rng) -> str:
        """A value for a slot without a label."""
        words = rng.choice(self.plain).rstrip(".").split()
        some = words[: rng.randint(2, 9)]
        lengthy = [word for word in words if word.isalpha() and len(word) > 2] or ["Check"]
        made = {
            "lower": " ".join(some).lower(), "upper": " ".join(some).upper(), "title": title(" ".join(some[:5])),
            "upper1": rng.choice(lengthy).upper(), "word": title(rng.choice(lengthy).lower()),
            "trade": rng.choice(self.names.parts["trade"]),
        }  # fmt: skip
        return made[slot] if slot in made else fillers.FILLERS[slot](rng)

    def fill(self, template: str, rng: Rng) -> Sentence:
        """The template with its choices made and its slots filled."""
        while CHOICE.search(template):
            template = CHOICE.sub(lambda m: rng.choice(m[1].split("|")), template)
        text, entities, at = "", [], 0
        for match in SLOT.finditer(template):
            text += template[at : match.start()].replace("\\n", "\n")
            slot, at = match[1], match.end()
            value = self.entity(slot, rng) if slot in LABELS else self.filler(slot, rng)
            if slot in LABELS:
                entities.append((len(text), len(text) + len(value), LABELS[slot]))
            text += value
        return text + template[at:].replace("\\n", "\n"), entities

    def splice(self, text: str, rng: Rng) -> str:
        """A template made of any sentence: an entity slot put somewhere in, or none."""
        words, chance, kind = text.split(), rng.random(), rng.choice("PPPFNOOOOLLL")
        slot, group = "{" + kind + "}", "P" if kind in "FN" else kind
        if chance < 0.2 or not words:
            if rng.random() < 0.5 and words:
                words[rng.randrange(len(words))] = rng.choice(("{prod}", "{prod}", "{trade}"))
            return " ".join(words)
        if chance < 0.55:
            at, lead = rng.randint(0, len(words)), rng.choice(LEADS[group])
            words.insert(at, (lead if at else lead[:1].upper() + lead[1:]) + " " + slot)
        elif chance < 0.60:
            words[rng.randrange(len(words))] = slot
        elif chance < 0.80:
            tail = rng.choice(TAILS[group])
            first = words[0] if "{" in words[0] or words[0].isupper() else words[0].lower()
            words = [slot + tail if tail in "'s:," else f"{slot} {tail}", first, *words[1:]]
        elif chance < 0.90:
            words.append(rng.choice((f"({slot})", f"- {slot}", f"/ {slot}", f", {slot}", f"[{slot}]", slot)))
        else:
            other = "{" + rng.choice("PFOL") + "}"
            at = rng.randint(0, len(words))
            words[at:at] = [
                rng.choice(LEADS[group]),
                slot,
                rng.choice(("and", "of", "in", "from", "(", "at", ",", "/")),
                other,
            ]
        return " ".join(words)

    def sentence(self, rng: Rng, shares: dict[str, float]) -> Sentence:
        """A sentence of one kind, before noise."""
        kind = rng.choices(list(shares), list(shares.values()))[0]
        if kind == "template":
            return self.fill(rng.choice(self.templates), rng)
        if kind == "negative":
            return self.fill(rng.choice(negatives()), rng)
        if kind == "pair":
            a, b = (self.fill(rng.choice(self.templates), rng) for _ in "ab")
            joint = rng.choice((" ", "\n", " ", "; ", " - "))
            move = len(a[0]) + len(joint)
            return a[0] + joint + b[0], a[1] + [(s + move, e + move, x) for s, e, x in b[1]]
        if kind == "code":
            return rng.choice(self.code), []
        source = self.plain if kind == "docstring" else pebble_texts(6000, self.seed)
        return self.fill(self.splice(rng.choice(source), rng), rng)


@lru_cache(maxsize=1)
def negatives() -> tuple[str, ...]:
    """Templates without entities."""
    return tuple(rows("templates_negative.txt"))


def noisy(sentence: Sentence, rng: Rng, share: float) -> Sentence:
    """The sentence as people and machines spoil it, with probability `share`; entities keep their places."""
    text, entities = sentence
    chance = rng.random() / share if share else 1.0
    if chance < 0.25:
        low = text.lower()
        return (low, entities) if len(low) == len(text) else sentence
    if chance < 0.38:
        high = text.upper()
        return (high, entities) if len(high) == len(text) else sentence
    if chance < 0.60:
        return remade(text, entities, plain)
    if chance < 0.70:
        return remade(text, entities, lambda part: part.rstrip(".") if part.endswith(".") else part)
    if chance < 0.85:
        head = rng.choice(
            ("> ", "- ", "* ", "[{clock}] ", "{stamp} ", "{tkt}: ", "{tkt} ", "1. ", "**", "FYI: ", "update: ")
        )
        head = SLOT.sub(lambda m: fillers.FILLERS[m[1]](rng), head)
        return head + text, [(s + len(head), e + len(head), label) for s, e, label in entities]
    if chance < 1.0:
        at = rng.randrange(len(text)) if text else 0
        outside = all(not s <= at < e for s, e, _ in entities)
        if outside and text[at : at + 1].isalpha():
            text = text[:at] + rng.choice("aeinrst") + text[at + 1 :]
    return text, entities


def remade(text: str, entities: list[Entity], change: object) -> Sentence:
    """The parts of the text changed one by one, so that entities can be found again."""
    assert callable(change)
    out, moved, at = "", [], 0
    for start, end, label in entities:
        out += change(text[at:start]) if at != start else ""
        value = change(text[start:end])
        moved.append((len(out), len(out) + len(value), label))
        out, at = out + value, end
    return out + (change(text[at:]) if at < len(text) else ""), moved
