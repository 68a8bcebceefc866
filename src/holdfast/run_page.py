"""report.html of a run: the verdict first, then what it rests on, on one offline page.

Pure from documents to HTML; `read_documents` gathers them. What a run does not have (an old stage, a measurement that
its device cannot make) is left out or said to be missing, never guessed.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.context import StageContext
from holdfast.core.documents import deployed_quantization, read_json
from holdfast.core.manifest import Manifest, read_manifest
from holdfast.core.records import read_jsonl
from holdfast.core.rundir import STAGE_NAMES
from holdfast.gates import amount
from holdfast.pages.diff import compare_words
from holdfast.pages.render import count, percent, points, render_page, size
from holdfast.pages.svg import Line, Mark, line_chart, scale

Document = Mapping[str, Any]
SIGNS = {"keep": ("✓", "good"), "iterate": ("↻", "warn"), "discard": ("✕", "bad"), "undecidable": ("?", "warn")}
SHOWN = {"win": 3, "loss": 4, "tie": 2}
OUTCOMES = {"win": "won", "loss": "lost", "tie": "unchanged"}
NAMES = {
    "knowledge": "true facts", "valid_json": "valid JSON", "label_accuracy": "right label", "stopped": "ends by itself",
}  # fmt: skip
REFERENCES = {"token_accuracy": "right tokens of the reference answers", "perplexity": "perplexity of these"}


class RunDocuments(NamedTuple):
    """Documents of a run by their place in it; None = this run has none."""

    name: str
    deploy: str
    decision: Document
    baseline: Document
    tuned: Document
    ladder: Document
    parity: Document
    comparison: Document
    data: Document | None
    plan: Document | None
    training: Document | None
    trained_with: Document | None
    training_log: Sequence[Document]
    manifests: Mapping[str, Manifest]


def read_documents(context: StageContext, decision: Document) -> RunDocuments:
    """Gather what `decide` has been given, and the manifests of the stages before it."""
    inputs = context.inputs

    def optional(stage: str, file: str) -> Document | None:
        path = inputs.get(stage, Path("/nonexistent")) / file
        return read_json(path) if path.is_file() else None

    log = inputs["train"] / "trainer_log.jsonl" if "train" in inputs else None
    manifests = {name: read_manifest(context.run_dir.stage(name).path) for name in STAGE_NAMES}
    return RunDocuments(
        name=context.config.name, deploy=deployed_quantization(context.config.verify.deploy, inputs["verify"]),
        decision=decision,
        baseline=read_json(inputs["baseline"] / "results.json"), tuned=read_json(inputs["evaluate"] / "results.json"),
        ladder=read_json(inputs["verify"] / "ladder.json"), parity=read_json(inputs["verify"] / "parity.json"),
        comparison=read_json(inputs["evaluate"] / "comparison.json"), data=optional("prepare", "report.json"),
        plan=optional("plan", "plan.json"), training=optional("train", "training.json"),
        trained_with=optional("train", "settings.json"),
        training_log=[row for _, row in read_jsonl(log)] if log and log.is_file() else [],
        manifests={name: found for name, found in manifests.items() if found and name != "decide"},
    )  # fmt: skip


def run_page(run: RunDocuments) -> str:
    """The page as HTML. The same documents give the same text."""
    decision = run.decision
    sign, kind = SIGNS[decision["verdict"]]
    return render_page("run.html.j2", {
        "name": run.name,
        "verdict": decision["verdict"], "sign": sign, "kind": kind,
        "reasons": list(decision["reasons"]),
        "tiles": _tiles(run),
        "gates": [{**gate, "said": {key: amount(gate, gate[key]) for key in ("measured", "limit")}}
                  for gate in decision["gates"]],
        "scores": _scores(run),
        "ladder": _ladder(run),
        "confusion": _confusion(run.tuned.get("confusion") or {}),
        "slices": _slices(run.tuned.get("by_tag") or {}, decision["primary"]),
        "items": _items(run.comparison.get("rows") or ()),
        "outcomes": {name: run.comparison[name] for name in ("wins", "losses", "ties")},
        "training": _training(run),
        "memory": _memory(run),
        "parity": run.parity,
        "lineage": [_stage(name, run.manifests[name]) for name in STAGE_NAMES if name in run.manifests],
        "rows": (run.data or {}).get("rows"),
    })  # fmt: skip


def _tiles(run: RunDocuments) -> list[dict[str, str]]:
    decision, metric = run.decision, run.decision["primary"]
    difference = decision["difference"]
    _, kind = SIGNS[decision["verdict"]]
    deployed = decision["deployed"].get(run.deploy, {})
    interval = (
        f"{100 * difference['confidence']:g} % interval {points(difference['low'])} to {points(difference['high'])}"
    )
    values = [
        (percent(decision["baseline"][metric]), f"baseline, {_name(metric)}", ""),
        (percent(decision["tuned"][metric]), f"tuned, {_name(metric)}", ""),
        (percent(deployed.get(metric)), f"deployed as {run.deploy}", ""),
        (points(difference["estimate"]), f"points; {interval}", kind),
        (f"{decision['p_value']:.2g}", f"p, exact McNemar, {count(decision['items'])} items", ""),
    ]
    return [{"value": value, "name": name, "kind": kind} for value, name, kind in values]


def _name(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " "))


def _scores(run: RunDocuments) -> dict[str, Any]:
    """Every score that the baseline has, for baseline, tuned and each rung."""
    columns = [("baseline", run.baseline), ("tuned", run.tuned)]
    columns += [(f"GGUF {rung['rung']}", rung) for rung in run.ladder["rungs"]]
    metrics = [m for m in NAMES if m in run.baseline]
    lines = [{"name": _name(m), "values": [percent(found.get(m)) for _, found in columns]} for m in metrics]
    if "references" in run.baseline and "references" in run.tuned:
        for key, name in REFERENCES.items():
            said = [_reference(key, found.get("references")) for _, found in columns]
            lines.append({"name": name, "values": said})
    return {"columns": [name for name, _ in columns], "lines": lines}


def _reference(key: str, found: Document | None) -> str:
    if found is None:
        return "–"
    return percent(found[key]) if key == "token_accuracy" else f"{found[key]:.3g}"


def _ladder(run: RunDocuments) -> dict[str, Any]:
    metric = run.decision["primary"]
    tuned = {**run.tuned, "rung": f"{_training_form(run)} + adapter"}
    merged = [{**rung, "rung": "merged, 16-bit"} for rung in run.ladder.get("before", ()) if rung["rung"] == "merged"]
    rungs = [tuned, *merged, *run.ladder["rungs"]]
    marks = [_mark("baseline", run.baseline, metric, "s-soft")] + [
        _mark(rung["rung"], rung, metric, "s-train" if rung["rung"] == run.deploy else "s-open") for rung in rungs
    ]
    said = ", ".join(f"{mark.label} {percent(mark.value)}" for mark in marks)
    lines = []
    for above, rung in zip([None, *rungs], rungs, strict=False):
        lost = None if above is None else rung[metric] - above[metric]
        lines.append({
            "name": rung["rung"], "deployed": rung["rung"] == run.deploy, "score": percent(rung[metric]),
            "change": points(lost), "size": size(rung.get("size_bytes")), "speed": count(rung.get("tokens_per_second")),
            "first": _milliseconds(rung.get("median_first_token_seconds")),
        })  # fmt: skip
    plot = scale(f"{_name(metric)} with 95 % intervals: {said}", marks, run.baseline[metric], "")
    return {"plot": plot, "lines": lines, "metric": _name(metric)}


def _training_form(run: RunDocuments) -> str:
    return {"nf4": "4-bit", "int8": "8-bit"}.get(str(run.tuned.get("quantization")), "base")


def _mark(label: str, results: Document, metric: str, kind: str) -> Mark:
    low, high = (results.get("intervals") or {}).get(metric) or wilson(results[metric], results["n"])
    return Mark(label, results[metric], low, high, kind)


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.0f}"


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> dict[str, Any] | None:
    if not confusion:
        return None
    # Rows and columns are in the order of the contract; a run of before has no column of zeros in a row.
    given = list(dict.fromkeys([*(label for row in confusion.values() for label in row), *confusion]))
    lines = []
    for expected, row in confusion.items():
        cells = [{"count": row.get(label, 0), "right": label == expected} for label in given]
        lines.append({"name": expected, "cells": cells, "right": row.get(expected, 0) / max(1, sum(row.values()))})
    return {"given": given, "lines": lines}


def _slices(by_tag: Mapping[str, Mapping[str, Document]], metric: str) -> list[dict[str, Any]]:
    return [
        {"tag": tag, "value": value, "n": found["n"], "score": percent(found.get(metric)),
         "interval": " to ".join(percent(end, 0) for end in found.get("interval") or ())}
        for tag, values in by_tag.items() for value, found in values.items()
    ]  # fmt: skip


def _items(rows: Sequence[Document]) -> list[dict[str, Any]]:
    """A few items of each outcome, losses first, with the tuned answer compared with the expected one."""
    chosen = []
    for outcome in ("loss", "win", "tie"):
        same = [row for row in rows if row.get("outcome") == outcome]
        wrong_first = sorted(same, key=lambda row: row["tuned"])
        chosen += [
            {
                "source": row["source"], "outcome": OUTCOMES[outcome], "prompt": row["prompt_text"],
                "expected": row["expected"], "baseline": row["baseline_output"] or "(nothing)",
                "pieces": compare_words(row["expected"], row["tuned_output"]), "right": bool(row["tuned"]),
            }
            for row in wrong_first[: SHOWN[outcome]]
        ]  # fmt: skip
    return chosen


def _training(run: RunDocuments) -> dict[str, Any] | None:
    if run.training is None:
        return None

    def curve(name: str) -> list[tuple[float, float]]:
        return [(float(row["step"]), float(row[name])) for row in run.training_log if name in row and "step" in row]

    lines = [Line("training", curve("loss"), "s-train"), Line("validation", curve("eval_loss"), "s-valid")]
    ends = "; ".join(
        f"{line.label} {line.points[0][1]:.2f} to {line.points[-1][1]:.2f}" for line in lines if line.points
    )
    speed, energy = run.training.get("tokens_per_second"), run.training.get("energy_kwh")
    kept = run.training.get("kept_step")
    return {
        "plot": line_chart(f"Loss by step: {ends}", lines, "step", "loss"), "facts": run.training, "ends": ends,
        "speed": None if speed is None else count(speed), "energy": None if energy is None else f"{energy:.3g} kWh",
        "kept": None if kept == run.training["steps"] else kept,
    }  # fmt: skip


def _memory(run: RunDocuments) -> dict[str, Any] | None:
    """The plan's bytes by phase, and what training took at most: torch on a card, else the whole process. What it took
    with settings of an earlier plan is not shown beside this one."""
    if run.plan is None:
        return None
    training = run.training or {}
    planned = run.plan.get("settings", {})
    as_planned = planned.items() <= (run.trained_with or planned).items()
    peak = training.get("peak_memory_bytes") if as_planned else None
    peaks = {("train", "gpu" if training.get("device") == "cuda" else "ram"): peak}
    lines = [
        {
            "phase": phase["phase"], "place": phase["place"], "needed": size(phase["needed"]),
            "usable": size(phase["usable"]), "share": phase["needed"] / max(1, phase["usable"]),
            "measured": size(peaks.get((phase["phase"], phase["place"]))),
        }
        for phase in run.plan["phases"]
    ]  # fmt: skip
    return {"lines": lines, "card": training.get("device") == "cuda", "target": run.plan["target"].get("name", "")}


def _stage(name: str, manifest: Manifest) -> dict[str, Any]:
    products = [{"path": path, "digest": short_digest(found.digest)} for path, found in manifest.products.items()]
    products.sort(key=lambda product: ("/" in product["path"], product["path"]))
    return {"name": name, "key": short_digest(manifest.key), "products": products[:6], "more": len(products) - 6}


def short_digest(digest: str) -> str:
    """`sha256:` and the first twelve signs, enough to compare by eye."""
    kind, _, rest = digest.partition(":")
    return f"{kind}:{rest[:12]}"
