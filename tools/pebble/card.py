"""Render pebble's model card from its training.json and config.json, so that no figure is typed by hand.

Run:  python tools/pebble/card.py src/holdfast/pebble [--count 20000]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import corpus
from packing import LONGEST

CARD = """---
language: en
license: apache-2.0
pipeline_tag: text-generation
---
<!-- Rendered by tools/pebble/card.py; edit that, not this. -->

# pebble

A {millions} million weight language model, the base model that comes with holdfast. It is small enough to be fine-tuned
on two processor cores in minutes, so that the whole of holdfast can be tried with no GPU and no download. It was
trained from scratch, and only on text that `tools/pebble` itself writes; no text was taken from anywhere else.

## Architecture

{architecture}

Byte-level BPE with Qwen2's split pattern; plain ChatML without a default system message; `<|im_end|>` ends a turn.

## Corpus

Counted over {documents} documents; the lexicon has {lines} lines.

{mixture}

Chats about severity use many label sets, always named in the prompt. The corpus holds neither the instruction of
`examples/triage`, nor its four labels together, nor its tickets: `tests/unit/tools/test_pebble_corpus.py` proves it.

## Training

{training}

{history}

Losses are of single batches; the answer loss is over the tokens of answers only. Held out: {held}tickets made from
lexicon lines that training never saw, {heldout_documents} of them, each with a label set in the prompt. "Answers" are
those of which every token was predicted right, given the right tokens before it.

## What it can do

- Follow a ChatML turn and stop: choose one of the labels or options in the prompt, answer from stated facts, write a
  short gist, fill a small JSON object, about support tickets, alerts and other texts of operations, in English.
- Learn a narrow task of that kind from a few hundred examples.

## What it cannot do

- It knows nothing about the world beyond its lexicon: do not ask it questions of fact.
- It does not reason over long texts; training documents end at {longest} tokens.
- Other languages, code and long prose are outside its corpus.
- It was not aligned for safety; its answers need the checks that holdfast puts round them. It is made for trying
  holdfast and for its tests, not for production.
"""


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *rows))


def architecture(config: dict[str, Any], parameters: int) -> str:
    """The shape, from config.json."""
    names = {
        "model_type": "architecture", "hidden_size": "hidden width", "intermediate_size": "MLP width",
        "num_hidden_layers": "layers", "num_attention_heads": "query heads", "num_key_value_heads": "key/value heads",
        "vocab_size": "vocabulary", "max_position_embeddings": "context", "rope_theta": "RoPE base",
        "tie_word_embeddings": "tied embeddings", "torch_dtype": "stored as",
    }  # fmt: skip
    rows = [(name, str(config[key])) for key, name in names.items()]
    return table(("", ""), [("weights", f"{parameters:,}"), *rows])


def mixture(count: int) -> str:
    """The share of each kind of document, counted as `corpus.py --stats` does."""
    kinds, size = Counter[str](), Counter[str]()
    for kind, document in islice(corpus.stream(0, 0.0), count):
        kinds[kind] += 1
        size[kind] += len(corpus.flat(document))
    rows = [
        (kind, f"{number / count:.1%}", f"{size[kind] / size.total():.1%}", str(round(size[kind] / number)))
        for kind, number in kinds.most_common()
    ]
    return table(("kind", "documents", "characters", "characters each"), rows)


def training(record: dict[str, Any]) -> str:
    """How it was trained, from training.json."""
    last = record["history"][-1]
    rows = [
        ("tokens", f"{record['tokens']:,}"),
        ("steps", f"{record['steps']:,} of {record['batch_tokens']:,} tokens"),
        ("documents made", f"{record['shards'] * record['documents_per_shard']:,}"),
        ("seed", str(record["seed"])),
        ("peak rates", f"Muon {record['muon_lr']}, AdamW {record['adam_lr']}"),
        ("time", f"{record['seconds']:,} s on one {record['device']}, torch {record['torch']}"),
        ("last loss", f"{last['loss']}; answers {last['answer_loss']}"),
    ]
    return table(("", ""), rows)


def history(record: dict[str, Any]) -> str:
    """Losses and held-out accuracy over the steps at which both were taken."""
    rows = [
        (f"{row['step']:,}", f"{row['loss']:.3f}", f"{row['answer_loss']:.3f}",
         f"{row['held_out']['token']:.1%}", f"{row['held_out']['whole_answer']:.1%}")
        for row in record["history"]
        if "held_out" in row
    ]  # fmt: skip
    return table(("step", "loss", "answer loss", "held-out tokens", "held-out answers"), rows)


def render(folder: Path, count: int) -> str:
    """The whole card."""
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    checked = [row["held_out"]["documents"] for row in record["history"] if "held_out" in row]
    share = record.get("held_out_share")
    return CARD.format(
        millions=round(record["parameters"] / 1e6),
        architecture=architecture(config, record["parameters"]),
        documents=f"{count:,}",
        lines=f"{corpus.maker_for('all', 0.0).lexicon.size():,}",
        mixture=mixture(count),
        training=training(record),
        history=history(record),
        held=f"{share:.0%} of the lexicon; " if share else "",
        heldout_documents=f"{checked[-1]:,}" if checked else "none",
        longest=f"{LONGEST:,}",
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the model's folder; its README.md is written")
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    (options.folder / "README.md").write_text(render(options.folder, options.count), encoding="utf-8")


if __name__ == "__main__":
    main()
