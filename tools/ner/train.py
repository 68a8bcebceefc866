"""Generate text, train the bundled name finder, measure it, write it with its card.

Run:  python tools/ner/train.py [OUT src/holdfast/redact/names_model] [--set KEY=VALUE …]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import score  # noqa: E402
from model import Shape, build  # noqa: E402
from people import TRAIN_LOCALES, Names, pool, rows  # noqa: E402
from sentences import Sentence, Writer, noisy  # noqa: E402
from spacy.language import Language  # noqa: E402
from spacy.training import Example  # noqa: E402

SHARES = {"template": 0.22, "pair": 0.05, "negative": 0.15, "docstring": 0.30, "pebble": 0.22, "code": 0.06}
warnings.filterwarnings("ignore", message=".*could not be aligned.*")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out."""

    sentences: int = 160_000
    seed: int = 7
    batch_words: int = 1500
    rate: float = 0.001
    dropout: float = 0.1
    coined: float = 0.35
    noise: float = 0.25
    average: bool = True
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    shape: Shape = field(default_factory=Shape)


def place_split(seed: int) -> tuple[list[str], list[str]]:
    """Own places for training, and the fifth that is held out."""
    places = sorted(set(";".join(rows("places.txt")).split(";")))
    random.Random(seed).shuffle(places)
    return places[len(places) // 5 :], places[: len(places) // 5]


def examples(nlp: Language, recipe: Recipe, count: int, seed: int) -> Iterator[Example]:
    """Training examples, all different."""
    rng, places = random.Random(seed), place_split(recipe.seed)[0]
    names = Names(pool(TRAIN_LOCALES, recipe.seed, places), recipe.coined)
    writer = Writer(names, rows("templates.txt"), recipe.seed)
    for _ in range(count):
        yield example(nlp, noisy(writer.sentence(rng, recipe.shares), rng, recipe.noise))


def example(nlp: Language, sentence: Sentence) -> Example:
    """A sentence as spaCy trains on it; what does not meet token borders is widened to them."""
    doc = nlp.make_doc(sentence[0])
    spans = [doc.char_span(start, end, label, alignment_mode="expand") for start, end, label in sentence[1]]
    return Example.from_dict(doc, {"entities": [(s.start_char, s.end_char, s.label_) for s in spans if s]})


def batches(stream: Iterator[Example], words: int) -> Iterator[list[Example]]:
    """Batches of about that many words."""
    batch: list[Example] = []
    size = 0
    for item in stream:
        batch.append(item)
        size += len(item)
        if size >= words:
            yield batch
            batch, size = [], 0


def train(recipe: Recipe) -> tuple[Language, dict[str, Any]]:
    """A trained pipeline and how it went."""
    start = time.time()
    nlp = build(recipe.shape, recipe.seed)
    optimizer = nlp.initialize(lambda: examples(nlp, recipe, 300, recipe.seed + 1))
    done, step = 0, 0
    losses: dict[str, float] = {}
    for batch in batches(examples(nlp, recipe, recipe.sentences, recipe.seed + 2), recipe.batch_words):
        done, step = done + len(batch), step + 1
        optimizer.learn_rate = recipe.rate * min(1.0, step / 50) * max(0.02, 1 - done / recipe.sentences)
        nlp.update(batch, sgd=optimizer, losses=losses, drop=recipe.dropout)
        if step % 300 == 0:
            print(f"{done:8d} sentences  loss {losses['ner'] / 300:8.1f}  {time.time() - start:5.0f} s", flush=True)
            losses = {}
    if recipe.average:
        with nlp.use_params(optimizer.averages):
            nlp.from_bytes(nlp.to_bytes(exclude=["vocab"]), exclude=["vocab"])
    return nlp, {"seconds": round(time.time() - start), "steps": step}


def finder(nlp: Language) -> score.Finder:
    """The pipeline as a function from texts to spans."""
    return lambda texts: [
        [(e.start_char, e.end_char, e.label_) for e in doc.ents] for doc in nlp.pipe(texts, batch_size=256)
    ]


def save(nlp: Language, out: Path) -> int:
    """Write the pipeline without the strings it met in training; returns bytes."""
    shutil.rmtree(out, ignore_errors=True)
    nlp.to_disk(out, exclude=["vocab"])
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with KEY=VALUE changes (JSON values; `shape.` and `shares.` for the nested ones)."""
    for setting in settings:
        key, value = setting.split("=", 1)
        key, _, inner = key.partition(".")
        if key not in {f.name for f in fields(Recipe)}:
            raise SystemExit(f"no such setting: {key}")
        data = json.loads(value)
        data = tuple(data) if isinstance(data, list) else data
        if key == "shape":
            data = replace(recipe.shape, **{inner: data})
        elif key == "shares":
            data = recipe.shares | {inner: data}
        recipe = replace(recipe, **{key: data})
    return recipe


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("src/holdfast/redact/names_model"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--trial", action="store_true", help="leave the hand-written test set alone")
    options = parser.parse_args()
    recipe = with_settings(Recipe(), options.set)
    nlp, record = train(recipe)
    find = finder(nlp)
    train_places, held_places = place_split(recipe.seed)
    for name, sentences in score.sets(train_places, held_places):
        if options.trial and name == "hand-written, test":
            continue
        got = score.score(find, sentences)
        print(f"{name:40s}", {k: v for k, v in got.items() if k != "by_type"}, {k: v["f"] for k, v in got["by_type"].items()}, flush=True)
    print(score.false_masks(find))
    print(record, save(nlp, options.out), "bytes")


if __name__ == "__main__":
    main()
