"""Measure a finished run on items that it has not seen: `holdfast eval`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast import models
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.records import Example
from holdfast.evaluate.compare import compare_samples
from holdfast.evaluate.runtimes import answer_with_server, answer_with_transformers
from holdfast.evaluate.scorers import score_sample, summarize
from holdfast.evaluate.stage import quantization_of
from holdfast.evaluate.tasks import check_items, read_task
from holdfast.runtime import Reply


def measure_other_items(
    config: RunConfig, task_file: Path, adapter: Path, gguf: Path | None, items: Sequence[Example], console: Console
) -> dict[str, Any]:
    """Baseline and tuned (in transformers, or `gguf` in the llama.cpp server) on `items`, compared in pairs.

    Raises ContractError when an item's reference cannot be scored.
    """
    task = read_task(task_file)
    check_items(task, items, config.decide.primary)
    base = models.find_base_model(config.base_model)
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
    comparison = compare_samples(baseline, tuned, config.decide.primary, config.decide.alpha).document()
    return {
        "runtime": "gguf" if gguf else "transformers",
        "file": gguf.name if gguf else "adapter",
        "items": len(items),
        "baseline": summarize(baseline),
        "tuned": summarize(tuned),
        "comparison": comparison,
        "samples": [
            {"id": b["id"], "prompt": b["prompt_text"], "expected": b["expected"], "baseline": b["output"],
             "tuned": t["output"]}
            for b, t in zip(baseline, tuned, strict=True)
        ],
    }  # fmt: skip
