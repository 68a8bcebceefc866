"""Precision, recall and F1 of a pipeline on the test sets, exact spans, by type; and masks on text without names."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from people import HELD_LOCALES, TRAIN_LOCALES, Names, pool, rows
from sentences import Entity, Sentence, Writer

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"\[([^\]]+)\]\((P|O|L)\)")
LONG = {"P": "PERSON", "O": "ORG", "L": "LOC"}
Finder = Callable[[Sequence[str]], Iterable[Sequence[Entity]]]


def fix_hashing() -> None:
    """Start this program again with a fixed hash seed: one of Faker's locales draws from a set."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})


def handwritten(name: str) -> list[Sentence]:
    """The sentences of a hand-written file, their marks taken out."""
    found = []
    for line in rows(name):
        text, entities, at = "", [], 0
        for match in MARK.finditer(line):
            text += line[at : match.start()]
            entities.append((len(text), len(text) + len(match[1]), LONG[match[2]]))
            text, at = text + match[1], match.end()
        found.append((text + line[at:], entities))
    return found


def generated(
    templates: Sequence[str], locales: Sequence[str], count: int, seed: int, places: Sequence[str]
) -> list[Sentence]:
    """Sentences from templates and locales, without coined words."""
    rng, writer = random.Random(seed), Writer(Names(pool(locales, seed, places), coined=0.0), templates, seed)
    return [writer.fill(rng.choice(templates), rng) for _ in range(count)]


def sets(places: Sequence[str], held_places: Sequence[str], count: int = 1000) -> Iterator[tuple[str, list[Sentence]]]:
    """Name and sentences of every test set."""
    seen, held = rows("templates.txt") + rows("templates_negative.txt"), rows("templates_held.txt")
    yield "seen templates, training locales", generated(seen, TRAIN_LOCALES, count, 101, places)
    yield "held-out templates, training locales", generated(held, TRAIN_LOCALES, count, 102, held_places)
    yield "six reference templates, its locales", generated(held[:6], TRAIN_LOCALES[:6], count, 103, ())
    yield "held-out templates, held-out locales", generated(held, HELD_LOCALES, count, 104, held_places)
    for locale in HELD_LOCALES:
        yield f"held-out templates, {locale}", generated(held, (locale,), count // 2, 105, ())
    yield "hand-written, development", handwritten("hand_dev.txt")
    yield "hand-written, test", handwritten("hand_test.txt")


def ratio(part: int, whole: int) -> float:
    """part / whole to three decimals; 0 for an empty whole."""
    return round(part / whole, 3) if whole else 0.0


def figures(right: int, found: int, wanted: int) -> dict[str, float]:
    """Precision, recall, F1."""
    return {"p": ratio(right, found), "r": ratio(right, wanted), "f": ratio(2 * right, found + wanted)}


def score(find: Finder, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """Figures over all types, by type, and the share of letters of names that any mask covers."""
    right, found, wanted = Counter[str](), Counter[str](), Counter[str]()
    covered = letters = 0
    for (text, gold), got in zip(sentences, find([text for text, _ in sentences]), strict=True):
        hidden = {i for start, end, _ in got for i in range(start, end)}
        for start, end, label in gold:
            wanted[label] += 1
            places = [i for i in range(start, end) if text[i].isalpha()]
            letters, covered = letters + len(places), covered + sum(i in hidden for i in places)
        for span in got:
            found[span[2]] += 1
            right[span[2]] += tuple(span) in set(gold)
    result: dict[str, Any] = figures(right.total(), found.total(), wanted.total())
    result |= {"n": len(sentences), "entities": wanted.total(), "letters_covered": ratio(covered, letters)}
    result["by_type"] = {label: figures(right[label], found[label], wanted[label]) for label in LONG.values()}
    return result


def false_masks(find: Finder) -> dict[str, Any]:
    """Masks on the tickets of examples/triage, which name no person and hardly any organisation."""
    texts = []
    for path in sorted((ROOT / "examples" / "triage").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts += (
                [row["input"]] if "input" in row else [m["content"] for m in row["messages"] if m["role"] == "user"]
            )
    words, kinds, samples = sum(len(text.split()) for text in texts), Counter[str](), Counter[str]()
    for text, got in zip(texts, find(texts), strict=True):
        kinds.update(label for _, _, label in got)
        samples.update(text[start:end] for start, end, _ in got)
    rate = round(1000 * kinds.total() / words, 2)
    return {
        "texts": len(texts),
        "words": words,
        "masks": dict(kinds),
        "per_1000_words": rate,
        "samples": samples.most_common(25),
    }
