"""Stages `baseline` and `evaluate`: both models answer the same test items, in the same precision."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from holdfast.core.canaries import CANARIES_FILE
from holdfast.core.config import RunConfig
from holdfast.core.context import StageContext
from holdfast.core.measures import shown_scores
from holdfast.core.records import read_examples, read_jsonl
from holdfast.evaluate import forgetting
from holdfast.evaluate.compare import Comparison, compare_samples, list_items
from holdfast.evaluate.planned import answering
from holdfast.evaluate.redacted import find_redacted_values
from holdfast.evaluate.room import check_room
from holdfast.evaluate.scorers import check_primary, score_sample, summarize
from holdfast.evaluate.slices import describe_slices
from holdfast.evaluate.tasks import check_items, read_task
from holdfast.likelihood import ReferenceScore, score_references
from holdfast.redact.digests import DIGESTS_FILE, Masked, read_masked
from holdfast.runtime import Reply

GENERAL = "general.jsonl"


def run_baseline(context: StageContext) -> None:
    """The base model answers the test items: samples.jsonl and results.json.

    Raises ContractError when an item cannot be scored, ModelError when the base model cannot be used.
    """
    _answer(context, adapter=None)


def run_tuned(context: StageContext) -> None:
    """The base model with the adapter answers the same items: samples.jsonl, results.json, and comparison.json with
    the statistics and every item, slices.json, and what was asked for (forgetting, leak audit).

    Raises as `run_baseline`, IntegrityError when the baseline's items are others, and KeyFileError when values were
    masked and the key that tells whether answers say them is not here.
    """
    key_file = context.config.redact.pseudonym_key_file
    masked = read_masked(context.inputs["collect"] / DIGESTS_FILE, Path(key_file) if key_file else None)
    tuned = _answer(context, adapter=context.inputs["train"] / "adapter")
    baseline = read_rows(context.inputs["baseline"] / "samples.jsonl")
    gates = context.config.decide
    repeats = json.loads((context.inputs["prepare"] / "repeats.json").read_bytes())
    comparison = compare_samples(baseline, tuned, gates.primary, gates.alpha, repeats)
    rows = list_items(baseline, tuned, gates.primary)
    context.out.write_json("comparison.json", {**comparison.document(), "rows": rows})
    context.console.say(f"  {describe(comparison)}")
    slices, line = describe_slices(baseline, tuned, gates.primary, gates.alpha)
    context.out.write_json("slices.json", slices)
    context.console.say(f"  {line}")
    if masked is not None:
        _check_redacted(context, masked, baseline, tuned)
    if context.config.audit.enabled:
        audit_leaks(context)
    if context.config.evaluate.general_probe:
        before, after = (read_rows(folder / GENERAL) for folder in (context.inputs["baseline"], context.out.path))
        document = forgetting.measure_forgetting(before, after, gates.alpha)
        context.out.write_json("forgetting.json", document)
        context.console.say(f"  {forgetting.describe(document)}")


def _check_redacted(
    context: StageContext, masked: Masked, baseline: list[dict[str, Any]], tuned: list[dict[str, Any]]
) -> None:
    """Whether an answer, also to a general item, holds a value that `collect` masked: redacted.json."""
    if context.config.evaluate.general_probe:
        baseline = baseline + read_rows(context.inputs["baseline"] / GENERAL)
        tuned = tuned + read_rows(context.out.path / GENERAL)
    document = find_redacted_values(tuned, masked, baseline)
    context.out.write_json("redacted.json", document)
    context.console.say(
        f"  {document['answers']} of {document['n']} answers hold a redacted value "
        f"(of the base model: {document['baseline_answers']})"
    )


def audit_leaks(context: StageContext) -> None:
    """What both models know of the planted canaries: leak_audit.json."""
    from holdfast import models
    from holdfast.core.canaries import read_canaries
    from holdfast.evaluate import leak_audit

    config, inputs = context.config, context.inputs
    base, precision = models.find_base_model(config.base_model), quantization_of(config)
    canaries = read_canaries(inputs["prepare"] / CANARIES_FILE)
    prompt = read_task(inputs["prepare"] / "task.json").system_prompt
    rows = answering(config, inputs["plan"]).batch_size
    untouched, tuned = (
        leak_audit.probe_model(base, adapter, precision, canaries, config.audit, prompt, rows, context.console)
        for adapter in (None, inputs["train"] / "adapter")
    )
    epochs = json.loads((inputs["train"] / "losses.json").read_bytes())["epochs"]
    document = leak_audit.describe_audit(config.audit, untouched, tuned, epochs)
    context.out.write_json("leak_audit.json", document)
    context.console.say(f"  {leak_audit.describe(document)}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file of this stage's own making."""
    return [row for _, row in read_jsonl(path)]


def describe_time(replies: Sequence[Reply], seconds: float) -> dict[str, Any]:
    """timing.json: test items and general set together, the loading of the model included; no later stage reads it.
    What one user waits for is measured in the server (ladder.json)."""
    tokens = sum(reply.tokens for reply in replies)
    return {
        "items": len(replies), "seconds": seconds, "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "tokens": tokens, "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
    }  # fmt: skip


def quantization_of(config: RunConfig) -> Literal["nf4", "int8", "none"]:
    """The precision that both models are measured in: the one that the adapter is trained on."""
    return config.train.quantization


def describe(comparison: Comparison) -> str:
    """One line for people: the difference in points with its interval, wins, losses, p-value."""
    difference = comparison.difference
    return (
        f"{comparison.metric} {100 * difference.estimate:+z.1f} points "
        f"({100 * difference.confidence:g} % interval {100 * difference.low:+z.1f} to {100 * difference.high:+z.1f}), "
        f"{comparison.wins} won, {comparison.losses} lost, {comparison.ties} unchanged, p = {comparison.p_value:.2g}"
    )


def _answer(context: StageContext, adapter: Path | None) -> list[dict[str, Any]]:
    """Answer and score every test item; write samples.jsonl and results.json; return the samples."""
    from holdfast import models
    from holdfast.evaluate.runtimes import answer_with_transformers

    config, console = context.config, context.console
    task = read_task(context.inputs["prepare"] / "task.json")
    examples = read_examples(context.inputs["prepare"] / "test.jsonl")
    check_items(task, examples, config.decide.primary)
    check_primary(task, examples, config.decide.primary)
    folder, settings = models.find_base_model(config.base_model), answering(config, context.inputs["plan"])
    check_room(folder, examples, settings.max_new_tokens)
    clock = time.monotonic()
    general = forgetting.read_general_items() if config.evaluate.general_probe else []
    asked = [*examples, *(item.example(task.system_prompt) for item in general)]
    references: list[ReferenceScore] = []
    answers = answer_with_transformers(
        folder, adapter, quantization_of(config), asked, settings, console,
        lambda model, tokenizer: references.extend(score_references(model, tokenizer, examples, settings.batch_size)),
    )  # fmt: skip
    replies, others = answers[: len(examples)], answers[len(examples) :]
    seconds = round(time.monotonic() - clock, 2)
    rows = [
        score_sample(task, example, reply.text, reply.stopped, reply.tokens)
        for example, reply in zip(examples, replies, strict=True)
    ]
    for row, reference in zip(rows, references, strict=False):
        row["reference"] = reference._asdict()
    results = {**summarize(rows, task.labels), "quantization": quantization_of(config)}
    context.out.write_jsonl("samples.jsonl", rows)
    context.out.write_json("results.json", results)
    context.out.write_json("timing.json", describe_time(answers, seconds))
    if general:
        rows_of_general = forgetting.score_general(general, [reply.text for reply in others])
        context.out.write_jsonl(GENERAL, rows_of_general)
    shares = ", ".join(f"{name} {results[name]:.3f}" for name in shown_scores(results))
    console.say(f"  {len(rows)} items in {seconds:.1f} s: {shares}")
    return rows
