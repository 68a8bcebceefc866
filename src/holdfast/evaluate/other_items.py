"""Measure a finished run on items that it has not seen: `holdfast eval`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast import models
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.files import atomic_write
from holdfast.core.records import Example, jsonl_bytes
from holdfast.core.rundir import utc_now
from holdfast.evaluate.compare import compare_samples
from holdfast.evaluate.lm_eval import sample_rows
from holdfast.evaluate.room import check_room, check_server_room
from holdfast.evaluate.runtimes import answer_with_server, answer_with_transformers
from holdfast.evaluate.scorers import check_primary, score_sample, summarize
from holdfast.evaluate.stage import quantization_of
from holdfast.evaluate.tasks import Task, check_items
from holdfast.runtime import Reply


def measure_other_items(
    config: RunConfig,
    task: Task,
    adapter: Path,
    gguf: Path | None,
    items: Sequence[Example],
    console: Console,
    *,
    primary: str | None = None,
    samples_out: Path | None = None,
) -> dict[str, Any]:
    """Baseline and tuned (in transformers, or `gguf` in the llama.cpp server) on `items`, compared in pairs.

    `primary`: the score to compare by, else that of the run. `samples_out`: a folder for samples in lm_eval's layout.
    Raises ContractError when an item's reference cannot be scored, StageError when an item is too long.
    """
    metric = primary or config.decide.primary
    check_items(task, items, metric)
    check_primary(task, items, metric)
    base = models.find_base_model(config.base_model)
    check_room(base, items, config.evaluate.max_new_tokens)
    if gguf is not None:
        check_server_room(base, items, config.evaluate.max_new_tokens, config.verify.n_ctx)
    if strangers := asked_otherwise(task, items):
        console.warn(
            f"{len(strangers)} of {len(items)} items are asked without the instruction that every training row began "
            f"with, for example {strangers[0]}; the model was trained to answer {task.instruction!r}"
        )
    precision = quantization_of(config)
    before = answer_with_transformers(base, None, precision, items, config.evaluate, console)
    if gguf is None:
        after = answer_with_transformers(base, adapter, precision, items, config.evaluate, console)
    else:
        after = answer_with_server(
            gguf, items, config.evaluate, console, n_ctx=config.verify.n_ctx, threads=config.verify.threads
        )

    def score(replies: Sequence[Reply]) -> list[dict[str, Any]]:
        pairs = zip(items, replies, strict=True)
        return [score_sample(task, item, reply.text, reply.stopped, reply.tokens) for item, reply in pairs]

    baseline, tuned = score(before), score(after)
    comparison = compare_samples(baseline, tuned, metric, config.decide.alpha).document()
    if samples_out is not None:
        write_samples(samples_out, task.task, items, {"baseline": baseline, "tuned": tuned}, config)
    return {
        "runtime": "gguf" if gguf else "transformers",
        "file": gguf.name if gguf else "adapter",
        "items": len(items),
        "baseline": summarize(baseline, task.labels),
        "tuned": summarize(tuned, task.labels),
        "comparison": comparison,
        "samples": [
            {"id": b["id"], "prompt": b["prompt_text"], "expected": b["expected"], "baseline": b["output"],
             "tuned": t["output"]}
            for b, t in zip(baseline, tuned, strict=True)
        ],
    }  # fmt: skip


def asked_otherwise(task: Task, items: Sequence[Example]) -> list[str]:
    """Sources of the items whose first question does not begin with the instruction of the task."""
    asked = ((item.source, next((m.content for m in item.messages if m.role == "user"), "")) for item in items)
    return [source for source, text in asked if not text.startswith(task.instruction)]


def write_samples(
    folder: Path, name: str, items: Sequence[Example], models_rows: Mapping[str, Sequence[Any]], config: RunConfig
) -> None:
    """<model>/samples_<task>_<time>.jsonl for each model, as lm_eval lays them out."""
    when = utc_now().replace(":", "-").removesuffix("Z")
    for model, rows in models_rows.items():
        lines = sample_rows(items, rows, config.evaluate.max_new_tokens)
        atomic_write(folder / model / f"samples_{name}_{when}.jsonl", jsonl_bytes(lines))
