"""The card of the bundled name finder, rendered from its record so that no figure is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from people import HELD_LOCALES, TRAIN_LOCALES

CARD = """<!-- Rendered by tools/ner/card.py; edit that, not this. -->

# Name finder

A spaCy pipeline that finds people (PERSON), organisations (ORG) and places (LOC) in text of operations: tickets, logs,
runbooks, chat. It was trained from scratch on text that `tools/ner` makes; no real person's data was used.

    python tools/ner/train.py          # makes this folder again: {seconds} s ({cpu_seconds} s of processor time)
    python bench/ner.py               # speed and F1, one JSON line

**It misses names, and it masks words that are none.** The line to read is "hand-written, test". For names that
must never get out, add them to the operator's own list; the pipeline is a net under that list, not a promise.

## Figures

Exact span and type: precision, recall, F1. "Letters" is the share of the letters of names that some mask covers,
whatever its type and borders: what a reader of the masked text no longer sees.

{sets}

By type, F1 ({main}: precision / recall / F1):

{types}

- *Seen templates*: sentences of the training templates, other names of the training locales. The easy set.
- *Held-out templates*: {held_templates} templates that training never saw, a fifth of the place names held out too.
- *Held-out locales*: Faker locales that training never saw ({held}).
- *Hand-written*: sentences in `tools/ner/text/hand_test.txt` and `hand_dev.txt`, written before the templates, never
  trained on. Choices were made by the development file; the test file was only measured. Their author also wrote the
  templates, so they are no substitute for your own tickets.
- The user messages of `examples/triage` hold hardly a name (some cities, no people). On their {words:,} words it set
  {masks} masks: **{rate} per 1,000 words**, cities included.
  The most frequent: {samples}.

## Data

{sentences:,} sentences, seed {seed}: templates, and entity slots spliced into docstrings of the standard library of
Python {python} and into the corpus of `tools/pebble`; a quarter of them spoilt (lower case, upper case, accents lost,
log heads, typing errors). Names: Faker {faker}
({train}),
{coined:.0%} of the words coined letter by letter,
organisations composed, places and well-known organisations from own lists. Without a label: products, hosts, alerts,
headings, commands, code, placeholders.

Products and cloud services (Kafka, AWS, Slack) are not organisations here; log-in names, streets inside longer
addresses and teams are not names. Latin letters only; sentences are mostly English.

## Network

spaCy {spacy}, language `xx`, own tokenizer (spaces and marks). Hashed embeddings of {attributes} with {rows} rows,
width {width}, {depth} convolutions, transition-based tagger.
{known}{parameters}

## Licence

Under the repository's licence. spaCy and Faker are MIT-licensed; Faker's lists are the source of names in the training
text{tail}.
"""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows))


def render(record: dict[str, Any], held_templates: int) -> str:
    """The card of a training record."""
    sets, recipe, false = record["sets"], record["recipe"], record["false_masks"]
    lines = [
        (
            name,
            str(s["n"]),
            str(s["entities"]),
            *(f"{s[k]:.3f}" for k in ("p", "r", "f")),
            f"{s['letters_covered']:.3f}",
        )
        for name, s in sets.items()
    ]
    main = "hand-written, test"
    kinds = ("PERSON", "ORG", "LOC")
    types = [(name, *(f"{s['by_type'][k]['f']:.3f}" for k in kinds)) for name, s in sets.items() if name != main] + [
        (main, *(" / ".join(f"{sets[main]['by_type'][k][x]:.3f}" for x in "prf") for k in kinds))
    ]
    shape = recipe["shape"]
    known = record["known_words"]
    return CARD.format(
        seconds=record["seconds"], cpu_seconds=record["cpu_seconds"],
        sets=table(("set", "sentences", "names", "P", "R", "F1", "letters"), lines),
        types=table(("set", *kinds), types),
        main=main, held_templates=held_templates, held=", ".join(HELD_LOCALES), words=false["words"],
        masks=sum(false["masks"].values()), rate=false["per_1000_words"],
        samples=", ".join(f"{word} ({count})" for word, count in false["samples"][:12]), sentences=recipe["sentences"],
        seed=recipe["seed"], python=record["versions"]["python"], faker=record["versions"]["Faker"],
        train=", ".join(sorted(set(TRAIN_LOCALES))), coined=recipe["coined"], spacy=record["versions"]["spacy"],
        attributes=", ".join(shape["attributes"]), rows=", ".join(map(str, shape["rows"])), width=shape["width"],
        depth=shape["depth"],
        known=f"{known:,} known spellings share embeddings by class (`lexeme_norm`). " if known else "",
        parameters=f"{record['bytes'] / 2**20:.2f} MiB.",
        tail=", and hashes of their words are in the table of known spellings" if known else "",
    )  # fmt: skip
