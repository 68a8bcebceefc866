"""report.html of prepare: the data set on one page, from the documents and a few rows of the stage."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from holdfast.core.records import SPLITS, Example
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.validate import label_of
from holdfast.pages.render import count, percent, render_page
from holdfast.pages.svg import Mark, Part, histogram, nice_step, scale, share_bar, stacked_bar

Document = Mapping[str, Any]
KINDS = {"train": "s-train", "valid": "s-valid", "test": "s-test"}
TAGS = ("label", "domain")
VALUES_SHOWN = 12  # values of a label or domain
PAIRS_SHOWN = 10
SAMPLES_OF_A_KIND = 4
BINS = 24


class Survey(NamedTuple):
    """What was seen while reading the rows once. counts: label and domain → split → value → rows."""

    counts: dict[str, dict[str, Counter[str]]]
    samples: list[dict[str, Any]]


class Inputs(NamedTuple):
    """What the page is made of. collected, redaction: documents of the collect stage, where they exist."""

    name: str
    report: Document
    lengths: Document
    rows: Survey
    collected: Document | None
    redaction: Document | None


def survey(by_split: Mapping[str, Iterable[Example]], contract: DatasetContract | None) -> Survey:
    """Read the rows of each split once: count values, and keep a few samples.

    Samples: up to four training rows of different labels, four of different augmentations, and one test row.
    """
    counts: dict[str, dict[str, Counter[str]]] = {name: {split: Counter() for split in SPLITS} for name in TAGS}
    chosen: dict[str, Example] = {}
    tests: list[dict[str, Any]] = []
    for split in SPLITS:
        for example in by_split[split]:
            values = {name: _value(example, name, contract) for name in TAGS}
            for name, value in values.items():
                if value:
                    counts[name][split][value] += 1
            if split == "train":
                _choose(chosen, example, values["label"])
            elif split == "test" and not tests:
                tests.append(_sample(example, split, values["label"]))
    return Survey(counts, [_sample(example, "train", kind) for kind, example in chosen.items()] + tests)


def _choose(chosen: dict[str, Example], example: Example, label: str) -> None:
    made = bool(example.tags.get("synthetic"))
    kind = f"made by {example.tags.get('augmentation')}" if made else label
    same = sum(key.startswith("made by ") == made for key in chosen)
    if kind not in chosen and same < SAMPLES_OF_A_KIND:
        chosen[kind] = example


def data_page(inputs: Inputs) -> str:
    """The page as HTML. Pure: the same inputs give the same text."""
    report = inputs.report
    return render_page("data.html.j2", {
        "name": inputs.name,
        "lead": _lead(inputs),
        "tiles": _tiles(inputs),
        "warnings": list(report["warnings"]),
        "splits": _splits(report["rows"], report["split_proof"]),
        "balance": _balance(inputs),
        "proof": _proof(report["split_proof"]),
        "sources": list((inputs.collected or {}).get("sources", ())),
        "checks": _checks(report),
        "redaction": _redaction(inputs.redaction),
        "near": list(report["duplicates"].get("examples", ()))[:PAIRS_SHOWN],
        "lengths": _lengths(inputs),
        "mask": _mask(report["token_audit"].get("example")),
        "synthetic": _synthetic(report.get("augmentation")),
        "samples": inputs.rows.samples,
    })  # fmt: skip


def _lead(inputs: Inputs) -> str:
    rows, largest = inputs.report["rows"], inputs.report["split_proof"]["largest"]
    contract = inputs.report.get("contract")
    kept = f"Every row keeps the contract {contract}. " if contract else "There is no contract to keep. "
    if not largest:
        return kept + "No row resembles a row of another split."
    near = f"The two most similar rows of different splits share {percent(largest['similarity'], 0)} of what they say"
    threshold = inputs.report["split_proof"]["threshold"]
    limit = f"; from {percent(threshold, 0)} on, test data would count as leaked" if threshold is not None else ""
    return f"{kept}{near}{limit}." if rows["test"] else kept


def _tiles(inputs: Inputs) -> list[dict[str, str]]:
    rows, audit = inputs.report["rows"], inputs.report["token_audit"]
    trained = audit["rows"]
    ended = audit["rows_with_trained_eos"]
    violations = len(inputs.report["violations"])
    tiles = [
        _tile(count(rows["train"]), "training rows"),
        _tile(count(rows["test"]), "test rows", "" if rows["test"] >= 20 else "warn"),
        _tile(count(violations), "violations", "bad" if violations else "good"),
        _tile(count(audit["trained_tokens"]), "trained tokens"),
        _tile(
            percent(ended / trained if trained else None, 0),
            "of rows train their end",
            "good" if ended == trained else "bad",
        ),
    ]
    if inputs.redaction is not None:
        total = sum(line["count"] for line in _redaction(inputs.redaction) or [])
        tiles.append(_tile(count(total), "values redacted"))
    return tiles


def _tile(value: str, name: str, kind: str = "") -> dict[str, str]:
    return {"value": value, "name": name, "kind": kind}


def _splits(rows: Document, proof: Document) -> dict[str, Any]:
    parts = [Part(name, rows[name], KINDS[name]) for name in SPLITS]
    fixed = ", ".join(f"{count(number)} in {name}" for name, number in sorted(proof.get("fixed_rows", {}).items()))
    shares = ", ".join(f"{part.label} {count(part.value)}" for part in parts)
    dealt = f"Fixed by their source: {fixed}." if fixed else "All were dealt here."
    text = f"Read {count(rows['read'])} rows. {dealt}"
    return {"bar": stacked_bar(f"Rows by split: {shares}", parts), "parts": parts, "text": text}


def _balance(inputs: Inputs) -> list[dict[str, Any]]:
    """Label and domain by split, the most frequent value first; a table only where there are values."""
    tables = []
    for name, counts in inputs.rows.counts.items():
        total: Counter[str] = sum(counts.values(), Counter())
        values = sorted(total, key=lambda value: (-total[value], value))
        if not values:
            continue
        splits = [split for split in SPLITS if counts[split]]
        lines = [{"value": v, "cells": [_cell(counts[s], v, KINDS[s]) for s in splits]} for v in values[:VALUES_SHOWN]]
        more = f"{len(values) - VALUES_SHOWN} more values are not shown." if len(values) > VALUES_SHOWN else ""
        tables.append({"name": name, "splits": splits, "lines": lines, "more": more})
    return tables


def _value(example: Example, name: str, contract: DatasetContract | None) -> str:
    tag = example.tags.get(name)
    return str(tag) if isinstance(tag, str) and tag else (label_of(example, contract) if name == "label" else "")


def _cell(counts: Mapping[str, int], value: str, kind: str) -> dict[str, Any]:
    share = counts[value] / max(1, sum(counts.values()))
    return {"count": counts[value], "share": share, "bar": share_bar(share, kind)}


def _proof(proof: Document) -> dict[str, Any]:
    pairs = [{"name": name, **pair} for name, pair in proof["by_splits"].items() if pair]
    marks = [Mark(p["name"], p["similarity"], p["similarity"], p["similarity"], "s-test") for p in pairs]
    limit = proof["threshold"]
    text = (
        "Each row of one split was compared with the rows of the others by what it says, without the instruction that "
        "they share. 0 = nothing in common, 1 = the same words. "
    )
    text += "No limit was set." if limit is None else f"At {limit:g} or above across train and test, prepare stops."
    said = "; ".join(f"{p['name']} {p['similarity']:.2f}" for p in pairs) or "none"
    plot = scale(f"Largest similarity across splits: {said}", marks, limit, "" if limit is None else f"limit {limit:g}")
    heading = "How alike the splits are" if limit is None else "Nothing of the test set is in the training set"
    return {"heading": heading, "text": text, "plot": plot if marks else "", "pairs": pairs, "method": proof["method"],
            "groups": proof["groups"], "seed": proof["seed"]}  # fmt: skip


def _checks(report: Document) -> list[dict[str, str]]:
    duplicates, audit = report["duplicates"], report["token_audit"]
    exact = duplicates.get("exact_dropped_rows", len(duplicates["exact_dropped"]))
    long_rows = (report.get("fit") or {}).get("dropped", len(audit["dropped_too_long"]))
    contract = report.get("contract")
    return [
        _check("Contract violations", len(report["violations"]), f"of {contract}" if contract else "no contract given"),
        _check("Exact duplicates dropped", exact, "same prompt and same answer, apart from case and white space"),
        _check("Near-duplicate pairs", duplicates["near_pairs"],
               "not looked for" if duplicates["threshold"] is None else
               f"similarity {duplicates['threshold']:g} or more, in {count(duplicates['near_groups'])} groups; "
               "each group stays in one split"),
        _check("Rows dropped as too long", long_rows, "nothing is ever cut in the middle of an answer"),
        _check("Rows that train nothing", audit["zero_label_rows"], "must be 0"),
    ]  # fmt: skip


def _check(name: str, value: int, text: str) -> dict[str, str]:
    return {"name": name, "value": count(value), "text": text}


def _redaction(document: Document | None) -> list[dict[str, Any]] | None:
    """Counts by type, the most frequent first; None without a document, empty when nothing was found."""
    if document is None:
        return None
    counts: dict[str, Any] = next(
        (document[key] for key in ("by_type", "counts", "types") if isinstance(document.get(key), dict)), {}
    )
    known = {str(name): int(n) for name, n in counts.items() if isinstance(n, int) and n > 0}
    most = max(known.values(), default=1)
    ordered = sorted(known.items(), key=lambda item: (-item[1], item[0]))
    return [{"name": name, "count": n, "bar": share_bar(n / most, "s-accent")} for name, n in ordered]


def _lengths(inputs: Inputs) -> dict[str, Any]:
    audit, limit = inputs.report["token_audit"], inputs.lengths["sequence_len"]
    plots, lines = [], []
    for name, found in audit["splits"].items():
        bins, percentiles = read_lengths(inputs.lengths.get(name))
        lines.append({"name": name, "p50": "–", "p90": "–", "p99": "–", **percentiles, **found})
        if bins:
            rows = sum(number for _, number in bins)
            title = f"{name}: tokens of {count(rows)} rows, longest {count(found['longest'])}, limit {count(limit)}"
            plots.append({"name": name, "svg": histogram(title, bins, limit, KINDS[name])})
    text = (
        f"A training row may have {count(limit)} tokens (sequence_len). {percent(audit['trained_share'])} of all "
        "tokens are trained: the answers and the tokens that end them."
    )
    return {"text": text, "plots": plots, "lines": lines}


def read_lengths(found: Any) -> tuple[list[tuple[float, int]], dict[str, int]]:
    """Histogram and percentiles of one split in lengths.json, whether it lists every row or has counted them."""
    if isinstance(found, Mapping):
        percentiles = {f"p{share}": int(tokens) for share, tokens in found.get("percentiles", {}).items()}
        return [(upto, rows) for upto, rows in found.get("histogram", ())], percentiles
    if not found:
        return [], {}
    step = max(1.0, nice_step(max(found) / BINS))
    counts = Counter(math.ceil(max(1, tokens) / step) for tokens in found)
    return [(step * place, counts[place]) for place in range(1, max(counts) + 1)], {}


def _mask(example: Document | None) -> dict[str, str] | None:
    """One row as the model reads it, cut where training begins and ends; None when it cannot be shown so."""
    if not example:
        return None
    text, trained = example["text"], example["trained_text"]
    at = text.rfind(trained)
    if at < 0 or not trained:
        return None
    return {"source": example["source"], "before": text[:at], "trained": trained, "after": text[at + len(trained) :]}


def _synthetic(counts: Document | None) -> dict[str, Any] | None:
    if not counts:
        return None
    real, made = counts["real"], counts["synthetic"]
    pairs = counts.get("preferences") or {}
    text = (
        f"{percent(counts['share'])} of the training rows were made by rules of the operator; at most "
        f"{percent(counts['max_synthetic_share'], 0)} are allowed. They are tagged; none is in valid or test, "
        "and none is near a row there."
    )
    bar = stacked_bar(f"Training rows: {count(real)} from sources, {count(made)} synthetic",
                      [Part("from sources", real, "s-train"), Part("synthetic", made, "s-syn")])  # fmt: skip
    return {
        "text": text, "bar": bar, "real": real, "made": made,
        "lines": [{"name": name, **line} for name, line in counts["by_rule"].items()],
        "pair_count": pairs.get("pairs", 0),
        "pairs": [{"name": name, "count": number} for name, number in pairs.get("by_break", {}).items()],
    }  # fmt: skip


def _sample(example: Example, split: str, kind: str) -> dict[str, Any]:
    turns = [{"role": message.role, "text": message.content} for message in example.messages]
    return {"source": example.source, "about": ", ".join(filter(None, (split, kind))), "turns": turns}
