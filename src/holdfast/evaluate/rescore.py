"""Score stored answers again, without asking any model: after a change of the contract, of scorers, of the gates."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.core.errors import IntegrityError
from holdfast.core.records import Example, read_examples, read_jsonl
from holdfast.evaluate.compare import compare_samples, list_items
from holdfast.evaluate.scorers import check_primary, score_sample, summarize
from holdfast.evaluate.slices import describe_slices
from holdfast.evaluate.tasks import Task, check_items


def rescore_rows(task: Task, items: Mapping[str, Example], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a samples file with new scores; outputs, tokens and whether the answer ended stay as they were.

    items: id → test item. Raises IntegrityError for an answer to an item that is not there.
    """
    missing = [row["id"] for row in rows if row["id"] not in items]
    if missing:
        raise IntegrityError(f"{len(missing)} answers are to items that are not in the test split: {missing[:3]}")
    return [
        score_sample(task, items[row["id"]], row["output"], bool(row["scores"]["stopped"]), row["tokens"])
        | {key: row[key] for key in ("reference",) if key in row}
        for row in rows
    ]


def rescore_run(config: RunConfig, folders: Mapping[str, Path], task: Task) -> dict[str, Any]:
    """Everything that scores change, as documents: name of a file → its content (a list = rows of JSONL).

    folders: prepare, baseline, evaluate, and verify when it is finished. Raises ConfigError when `decide.primary` is no
    score of the task, ContractError when a reference would be scored as wrong.
    """
    test = read_examples(folders["prepare"] / "test.jsonl")
    check_items(task, test)
    check_primary(task, test, config.decide.primary)
    items = {example.id: example for example in test}
    baseline, tuned = (
        rescore_rows(task, items, _rows(folders[name] / "samples.jsonl")) for name in ("baseline", "evaluate")
    )
    metric, alpha = config.decide.primary, config.decide.alpha
    repeats = folders["prepare"] / "repeats.json"  # absent in older runs
    known = json.loads(repeats.read_bytes()) if repeats.is_file() else {}
    comparison = compare_samples(baseline, tuned, metric, alpha, known)
    found: dict[str, Any] = {
        "baseline/samples.jsonl": baseline, "evaluate/samples.jsonl": tuned,
        "baseline/results.json": _results(folders["baseline"], baseline, task),
        "evaluate/results.json": _results(folders["evaluate"], tuned, task),
        "evaluate/comparison.json": {**comparison.document(), "rows": list_items(baseline, tuned, metric)},
        "evaluate/slices.json": describe_slices(baseline, tuned, metric, alpha)[0],
    }  # fmt: skip
    if "verify" in folders:
        found |= _verify(folders["verify"], task, items)
    return found


def _verify(folder: Path, task: Task, items: Mapping[str, Example]) -> dict[str, Any]:
    """New scores for each GGUF file; sizes, times and parity stay as they were measured."""
    ladder = json.loads((folder / "ladder.json").read_bytes())
    found: dict[str, Any] = {}
    for line in ladder["rungs"]:
        name = f"samples-{line['rung']}.jsonl"
        rows = rescore_rows(task, items, _rows(folder / name))
        summary = summarize(rows)
        line.update({key: summary[key] for key in (*summary["intervals"], "n")})
        if "intervals" in line:
            line["intervals"] = summary["intervals"]
        found[f"verify/{name}"] = rows
    return {**found, "verify/ladder.json": {"rungs": ladder["rungs"], "deploy": ladder["deploy"]}}


def _results(folder: Path, rows: Sequence[Mapping[str, Any]], task: Task) -> dict[str, Any]:
    before = json.loads((folder / "results.json").read_bytes())
    return {**summarize(rows, task.labels), "quantization": before["quantization"]}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]
