"""Generate text, train the bundled name finder, measure it, write it with its card.

Run:  python tools/ner/train.py [OUT src/holdfast/redact/names_model] [--set KEY=VALUE …]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import spacy  # noqa: E402
from spacy.language import Language  # noqa: E402
from spacy.training import Example  # noqa: E402

import card  # noqa: E402
import gazetteer  # noqa: E402
import score  # noqa: E402
from holdfast.core.digest import digest_tree  # noqa: E402
from holdfast.redact.names import RECORD, find_names  # noqa: E402
from model import Shape, build  # noqa: E402
from people import TRAIN_LOCALES, Names, pool, rows  # noqa: E402
from sentences import Sentence, Writer, noisy, pebble_texts  # noqa: E402

SHARES = {"template": 0.22, "pair": 0.05, "negative": 0.15, "docstring": 0.30, "pebble": 0.22, "code": 0.06}
warnings.filterwarnings("ignore", message=".*could not be aligned.*")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out."""

    sentences: int = 110_000
    seed: int = 7
    batch_words: int = 200
    rate: float = 0.002
    dropout: float = 0.1
    coined: float = 0.35
    noise: float = 0.25
    average: bool = True
    gazetteer: bool = True
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    shape: Shape = field(default_factory=Shape)


def place_split(seed: int) -> tuple[list[str], list[str]]:
    """Own places for training, and the fifth that is held out."""
    places = sorted(set(";".join(rows("places.txt")).split(";")))
    random.Random(seed).shuffle(places)
    return places[len(places) // 5 :], places[: len(places) // 5]


def writer_of(recipe: Recipe) -> Writer:
    """What writes the training text."""
    names = Names(pool(TRAIN_LOCALES, recipe.seed, place_split(recipe.seed)[0]), recipe.coined)
    return Writer(names, rows("templates.txt"), recipe.seed)


def examples(nlp: Language, recipe: Recipe, writer: Writer, count: int, seed: int) -> Iterator[Example]:
    """Training examples, all different."""
    rng = random.Random(seed)
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
    writer = writer_of(recipe)
    table = {}
    if recipe.gazetteer:
        common = gazetteer.common_words(writer.plain + pebble_texts(6000, recipe.seed))
        table = gazetteer.known(writer.names.source, writer.names, common)
    nlp = build(recipe.shape, recipe.seed, table)
    optimizer = nlp.initialize(lambda: examples(nlp, recipe, writer, 300, recipe.seed + 1))
    done, step = 0, 0
    losses: dict[str, float] = {}
    for batch in batches(examples(nlp, recipe, writer, recipe.sentences, recipe.seed + 2), recipe.batch_words):
        done, step = done + len(batch), step + 1
        optimizer.learn_rate = recipe.rate * min(1.0, step / 50) * max(0.02, 1 - done / recipe.sentences)
        nlp.update(batch, sgd=optimizer, losses=losses, drop=recipe.dropout)
        if step % 300 == 0:
            print(f"{done:8d} sentences  loss {losses['ner'] / 300:8.1f}  {time.time() - start:5.0f} s", flush=True)
            losses = {}
    if recipe.average:
        with nlp.use_params(optimizer.averages):
            nlp.from_bytes(nlp.to_bytes(exclude=["vocab"]), exclude=["vocab"])
    return nlp, {
        "seconds": round(time.time() - start),
        "cpu_seconds": round(time.process_time()),
        "steps": step,
        "known_words": len(table),
    }


def finder(model: str) -> score.Finder:
    """What holdfast finds with the pipeline in that folder, as the scorer wants it."""
    labels = {"PLACE": "LOC"}

    def find(texts: Sequence[str]) -> list[list[tuple[int, int, str]]]:
        return [[(s.start, s.end, labels.get(s.type, s.type)) for s in row] for row in find_names(texts, model)]

    return find


def save(nlp: Language, out: Path) -> None:
    """Write the pipeline without the strings that it met in training."""
    shutil.rmtree(out, ignore_errors=True)
    nlp.to_disk(out, exclude=["vocab"])
    vocab = spacy.blank("xx").vocab
    vocab.lookups = nlp.vocab.lookups
    vocab.to_disk(out / "vocab", exclude=["vectors"])


def finish(out: Path, recipe: Recipe, record: dict[str, Any]) -> None:
    """Write the record, with a digest of every file of the pipeline, and the card."""
    files = digest_tree(out, skip=(RECORD, "README.md"))
    versions = {name: version(name) for name in ("spacy", "thinc", "Faker")} | {"python": platform.python_version()}
    size = sum((out / name).stat().st_size for name in files)
    record = {"recipe": asdict(recipe), "versions": versions, **record, "bytes": size, "files": files}
    (out / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card.render(record, len(rows("templates_held.txt"))), encoding="utf-8")


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
    parser.add_argument("--measure", action="store_true", help="train nothing: measure the pipeline in OUT again")
    options = parser.parse_args()
    score.fix_hashing()
    recipe = with_settings(Recipe(), options.set)
    if options.measure:
        record = json.loads((options.out / RECORD).read_text(encoding="utf-8"))
    else:
        nlp, record = train(recipe)
        save(nlp, options.out)
    find = finder(str(options.out))
    record["sets"] = {}
    for name, sentences in score.sets(*place_split(recipe.seed)):
        if options.trial and name == "hand-written, test":
            continue
        got = score.score(find, sentences)
        record["sets"][name] = got
        print(f"{name:40s}", json.dumps(got), flush=True)
    record["false_masks"] = score.false_masks(find)
    print(json.dumps(record["false_masks"], ensure_ascii=False))
    if not options.trial:
        finish(options.out, recipe, record)


if __name__ == "__main__":
    main()
