"""prepare: contract → duplicates → split → balance → augment train → fit to length, and a report.

Large data sets stream: columns of all rows are in memory (`table.py`), texts never are. What takes long is done in
shards that a killed prepare does not do again; they lie in WORK, which is gone when the stage ends.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from holdfast.core.chat_template import DAY, has_date, has_switch, keeps_clock, template_of
from holdfast.core.context import StageContext
from holdfast.core.documents import read_json
from holdfast.core.errors import ContractError, HoldfastError
from holdfast.core.knowledge import KNOWLEDGE_FILE
from holdfast.core.records import SPLITS, Split, iter_examples
from holdfast.core.shards import cut
from holdfast.dataset.audit import Tally, check_rows, describe_lengths, join, refuse_long
from holdfast.dataset.columns import any_value, in_order_of_id
from holdfast.dataset.contract import DatasetContract, describe_task, read_contract
from holdfast.dataset.divide import Divided, Options, Shards, Timed, divide, largest_group
from holdfast.dataset.duplicates import conflicts_of
from holdfast.dataset.lengths import REMEDY, Fitted, fit_split
from holdfast.dataset.plant import plant_canaries
from holdfast.dataset.repeats import REPEATS_FILE, describe_repeats, find_repeats
from holdfast.dataset.scan import Scanned, scan
from holdfast.dataset.split import Sizes, write_lock
from holdfast.dataset.summary import Prepared, describe, find_warnings
from holdfast.dataset.table import FileRows, Reading, open_rows
from holdfast.dataset.validate import SHOWN, Counted, violations_error
from holdfast.dataset.write import write_fitted, write_splits

WORK = "shards"
FEW_ROWS = 20


def run(context: StageContext) -> None:
    """Write the three splits, split.lock, task.json and what was found; no split when a check fails."""
    try:
        _run(context)
    except HoldfastError:  # a refusal is final: only what a kill cut off is worth going on with
        shutil.rmtree(context.out.path / WORK, ignore_errors=True)
        raise


def _run(context: StageContext) -> None:
    config = context.config
    contract = read_contract(Path(config.prepare.contract)) if config.prepare.contract else None
    path = context.inputs["collect"] / "examples.jsonl"
    work = context.out.path / WORK
    timed = partial(_timed, context if len(cut(path)) > 1 else None)
    fact = None if config.prepare.split_by == "group" else config.prepare.split_by
    with timed("contract") as noted:
        scanned = scan(path, Reading(contract, fact, config.prepare.balance_by), work, context.console)
        noted["rows"] = len(scanned.table)
    if fact not in (None, "fact") and not any_value(scanned.table.rows, "fact"):
        raise ContractError(
            f"prepare.split_by is {fact!r}, but none of {len(scanned.table)} rows has that tag",
            hint="correct the name, or leave split_by out",
        )
    with open_rows(path, scanned.table.rows) as rows:
        prepared = _prepare(context, contract, scanned, rows, timed)
        _write_documents(context, contract, prepared, scanned, rows)
    if work.exists():
        shutil.rmtree(work)


def _prepare(
    context: StageContext, contract: DatasetContract | None, scanned: Scanned, rows: FileRows, timed: Timed
) -> Prepared:
    from holdfast.dataset.extend import extend_file

    config, work = context.config, context.out.path / WORK
    with timed("conflicts"):
        _refuse_violations(scanned, rows)
    sizes = Sizes(config.prepare.val_set_size, config.prepare.test_set_size)
    lock = Path(config.prepare.split_lock) if config.prepare.split_lock else None
    instruction = contract.instruction if contract else ""
    options = Options(sizes, config.prepare.near_duplicate_threshold, config.seed, instruction, lock)
    shards = Shards(rows.path, rows, scanned.parts, scanned.firsts, work, context.console, timed)
    divided = divide(scanned.table, rows, options, shards)
    _refuse_empty(divided)
    with timed("write"):
        sampled = write_splits(rows.path, divided, config.prepare.sampling_temperature, config.seed, work)
    with timed("augment"):
        extension = extend_file(config, work, contract)
    plant_canaries(context, work / "train.jsonl", scanned.table.system_prompts)
    with timed("tokens"):
        fitted, trained = _fit(context, work)
    return Prepared(divided, sampled, fitted, trained, extension)


def _refuse_violations(scanned: Scanned, rows: FileRows) -> None:
    conflicts = conflicts_of(scanned.table, rows)
    violations = [*scanned.violations, *conflicts.shown][:SHOWN]
    if violations:
        counted = Counted(*(a + b for a, b in zip(scanned.counted, conflicts.counted, strict=True)))
        raise violations_error(violations, len(scanned.table), counted)


def _fit(context: StageContext, work: Path) -> tuple[dict[Split, Fitted], Tally]:
    """Encode the splits, write what stays; nothing is written when a row breaks a rule."""
    from holdfast import models

    config = context.config
    model = models.find_base_model(config.base_model)
    fitted: dict[Split, Fitted] = {}
    texts: dict[Split, Iterator[Any]] = {}
    for split in SPLITS:
        fitted[split], texts[split] = fit_split(
            work / f"{split}.jsonl", split, model, config.sequence_len, config.prepare.on_too_long, work,
            context.console,
        )  # fmt: skip
    _say_what_is_settled(template_of(model) or "", context)
    trained = join([fitted["train"].tally, fitted["valid"].tally])
    check_rows(trained)
    refuse_long(trained, config.sequence_len, REMEDY[config.prepare.on_too_long])
    if not len(fitted["train"].tally.tokens):
        raise ContractError(
            f"no row is left for train: all {fitted['train'].dropped} are longer than sequence_len "
            f"{config.sequence_len}",
            hint="raise sequence_len",
        )
    for split in SPLITS:
        write_fitted(context.out, work / f"{split}.jsonl", split, texts[split])
    return fitted, trained


def _say_what_is_settled(template: str, context: StageContext) -> None:
    if has_switch(template):
        context.console.say("  note: the chat template knows thoughts; they are off in what is trained and exported")
    if has_date(template):
        context.console.say(
            f"  note: the chat template writes the date; it is {DAY:%d %b %Y} in what is trained and exported"
        )
    if keeps_clock(template):
        context.console.warn(
            "the chat template writes the time in a way that cannot be settled: what is served another day is not "
            "what was trained; put a fixed date into chat_template.jinja in a copy of the model's folder"
        )


def _refuse_empty(divided: Divided) -> None:
    counts = {name: int((divided.splits == place).sum()) for place, name in enumerate(SPLITS)}
    hint = "add rows, or set prepare.test_set_size and the `split:` of the sources so that each gets some"
    largest = largest_group(divided)
    why = ""
    if largest > max(1, sum(counts.values()) // 2):
        why = f"; {largest} of the rows are one group, near duplicates or of one fact, and a group stays in one split"
        hint = (
            "put text that all of them share into a first paragraph of its own, which is not compared; or raise "
            "prepare.near_duplicate_threshold when they really are different questions; or set `split:` on the sources"
        )
    for name in ("train", "test"):
        if not counts[name]:
            raise ContractError(
                f"no row is left for {name} ({', '.join(f'{n} {rows}' for n, rows in counts.items())}){why}", hint=hint
            )


def _write_documents(
    context: StageContext, contract: DatasetContract | None, prepared: Prepared, scanned: Scanned, rows: FileRows
) -> None:
    config, divided, fitted = context.config, prepared.divided, prepared.fitted
    with context.out.writing("split.lock") as temporary:
        write_lock(temporary, in_order_of_id(scanned.table.rows, divided.splits))
    context.out.write_json("task.json", describe_task(contract, config.name, scanned.table.system_prompts))
    facts = context.inputs["collect"] / KNOWLEDGE_FILE
    if facts.is_file():
        context.out.write_text(KNOWLEDGE_FILE, facts.read_text(encoding="utf-8"))
    lengths = {split: describe_lengths(fitted[split].tally) for split in ("train", "valid")}
    rows_of_test = int((divided.splits == SPLITS.index("test")).sum())
    test = fitted["test"].tally
    prompt = {"test_prompt_max": test.prompt_max, "sequence_len": config.sequence_len}
    answers = {"test_answer_max": test.answer_max, "test_max": max(test.tokens.tolist(), default=0)}
    context.out.write_json("lengths.json", {**lengths, **prompt, **answers, "test_rows": rows_of_test})
    repeats = find_repeats(divided, rows)
    context.out.write_json(REPEATS_FILE, repeats)
    warnings = [*find_warnings(config, prepared, rows, FEW_ROWS), *prepared.extension.warnings]
    warnings += describe_repeats(repeats, len(fitted["test"].tally.tokens))
    report = {**describe(config, prepared, rows), "augmentation": prepared.extension.counts,
              "contract": contract.task if contract else None, "warnings": warnings}  # fmt: skip
    if prepared.extension.pairs:
        context.out.write_jsonl("preferences.jsonl", prepared.extension.pairs)
    context.out.write_json("report.json", report)
    _write_page(context, report, {**lengths, **prompt}, contract)
    counts = ", ".join(f"{name} {report['rows'][name]}" for name in SPLITS)
    largest = report["split_proof"]["largest"]
    across = f"; largest similarity across splits {largest['similarity']:.2f}" if largest else ""
    dropped = report["duplicates"]["exact_dropped_rows"]
    context.console.say(f"  {counts} rows, {dropped} exact duplicates dropped{across}")
    for text in warnings:
        context.console.warn(text)


def _write_page(
    context: StageContext, report: dict[str, Any], lengths: dict[str, Any], contract: DatasetContract | None
) -> None:
    from holdfast.dataset.report_page import Inputs, data_page, survey

    collect = context.inputs["collect"]
    names = ("collect.json", "redaction.json")
    collected, redaction = (read_json(collect / name) if (collect / name).is_file() else None for name in names)
    rows = survey({split: iter_examples(context.out.path / f"{split}.jsonl") for split in SPLITS}, contract)
    page = data_page(Inputs(context.config.name, report, lengths, rows, collected, redaction))
    context.out.write_text("report.html", page)


@contextmanager
def _timed(context: StageContext | None, phase: str) -> Iterator[dict[str, Any]]:
    """Note in the journal how long a phase took; without a context (a small data set) nothing is noted."""
    started, used, values = time.monotonic(), _cpu_seconds(), dict[str, Any]()
    yield values
    if context is not None:
        values |= {"seconds": round(time.monotonic() - started, 3), "cpu_seconds": round(_cpu_seconds() - used, 3)}
        context.run_dir.journal("phase", stage="prepare", phase=phase, **values)


def _cpu_seconds() -> float:
    """Of this process and the workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
