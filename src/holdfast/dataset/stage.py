"""prepare: contract → duplicates → split → balance → fit to length, and a report that proves each.

Large data sets stream: columns of all rows are in memory (`table.py`), texts never are. What takes long is done in
shards that a killed prepare does not do again; they lie in WORK, which is gone when the stage ends.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.context import StageContext
from holdfast.core.errors import ContractError
from holdfast.core.records import SPLITS, Split
from holdfast.dataset.audit import Tally, check_rows, describe_lengths, join, refuse_long
from holdfast.dataset.contract import DatasetContract, describe_task, read_contract
from holdfast.dataset.divide import Divided, Options, Shards, divide
from holdfast.dataset.duplicates import conflicts_of
from holdfast.dataset.scan import Scanned, scan
from holdfast.dataset.shards import cut
from holdfast.dataset.split import Sizes, write_lock
from holdfast.dataset.table import Reading, open_rows
from holdfast.dataset.validate import SHOWN, Counted, violations_error

if TYPE_CHECKING:
    from holdfast.dataset.lengths import Fitted
    from holdfast.dataset.sampling import Sampled
    from holdfast.dataset.table import FileRows

WORK = "work"
FEW_ROWS = 20
Timed = Callable[[str], AbstractContextManager[dict[str, Any]]]


class Prepared(NamedTuple):
    """All that the report tells."""

    divided: Divided
    sampled: "Sampled | None"
    fitted: "dict[Split, Fitted]"
    trained: Tally


def run(context: StageContext) -> None:
    """Write the three splits, split.lock, task.json, lengths.json and report.json; no split when a check fails."""
    config = context.config
    contract = read_contract(Path(config.prepare.contract)) if config.prepare.contract else None
    path = context.inputs["collect"] / "examples.jsonl"
    work = context.out.path / WORK
    timed = partial(_timed, context if len(cut(path)) > 1 else None)
    fact = None if config.prepare.split_by == "group" else config.prepare.split_by
    with timed("contract") as noted:
        scanned = scan(path, Reading(contract, fact, config.prepare.balance_by), work, context.console)
        noted["rows"] = len(scanned.table)
    if fact not in (None, "fact") and not scanned.table.rows["fact"].any():
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
    context: StageContext, contract: DatasetContract | None, scanned: Scanned, rows: "FileRows", timed: Timed
) -> Prepared:
    from holdfast.dataset.write import write_splits

    config, work = context.config, context.out.path / WORK
    with timed("conflicts"):
        _refuse_violations(scanned, rows)
    sizes = Sizes(config.prepare.val_set_size, config.prepare.test_set_size)
    lock = Path(config.prepare.split_lock) if config.prepare.split_lock else None
    instruction = contract.instruction if contract else ""
    options = Options(sizes, config.prepare.near_duplicate_threshold, config.seed, instruction, lock)
    shards = Shards(rows.path, rows, scanned.parts, scanned.firsts, work, context.console)
    with timed("divide"):
        divided = divide(scanned.table, rows, options, shards)
    _refuse_empty(divided)
    with timed("write"):
        sampled = write_splits(rows.path, divided, config.prepare.sampling_temperature, config.seed, work)
    with timed("tokens"):
        fitted, trained = _fit(context, work)
    return Prepared(divided, sampled, fitted, trained)


def _refuse_violations(scanned: Scanned, rows: "FileRows") -> None:
    conflicts = conflicts_of(scanned.table, rows)
    violations = [*scanned.violations, *conflicts.shown][:SHOWN]
    if violations:
        counted = Counted(*(a + b for a, b in zip(scanned.counted, conflicts.counted, strict=True)))
        raise violations_error(violations, len(scanned.table), counted)


def _fit(context: StageContext, work: Path) -> "tuple[dict[Split, Fitted], Tally]":
    """Encode the splits, write what stays; nothing is written when a row breaks a rule."""
    from holdfast import models
    from holdfast.dataset.lengths import REMEDY, fit_split

    config = context.config
    model = models.find_base_model(config.base_model)
    fitted: dict[Split, Fitted] = {}
    texts: dict[Split, Iterator[Any]] = {}
    for split in SPLITS:
        fitted[split], texts[split] = fit_split(
            work / f"{split}.jsonl", split, model, config.sequence_len, config.prepare.on_too_long, work,
            context.console,
        )  # fmt: skip
    trained = join([fitted["train"].tally, fitted["valid"].tally])
    check_rows(trained)
    refuse_long(trained, config.sequence_len, REMEDY[config.prepare.on_too_long])
    if not len(fitted["train"].tally.tokens):
        raise ContractError(
            f"no row is left for train: all {fitted['train'].dropped} are longer than sequence_len "
            f"{config.sequence_len}",
            hint="raise sequence_len",
        )
    from holdfast.dataset.write import write_fitted

    for split in SPLITS:
        write_fitted(context.out, work / f"{split}.jsonl", split, texts[split])
    return fitted, trained


def _refuse_empty(divided: Divided) -> None:
    counts = {name: int((divided.splits == place).sum()) for place, name in enumerate(SPLITS)}
    for name in ("train", "test"):
        if not counts[name]:
            raise ContractError(
                f"no row is left for {name} ({', '.join(f'{n} {rows}' for n, rows in counts.items())})",
                hint="add rows, or set prepare.test_set_size and the `split:` of the sources so that each gets some",
            )


def _write_documents(
    context: StageContext, contract: DatasetContract | None, prepared: Prepared, scanned: Scanned, rows: "FileRows"
) -> None:
    from holdfast.dataset.summary import describe, find_warnings

    config, divided, fitted = context.config, prepared.divided, prepared.fitted
    kept = divided.splits >= 0
    with context.out.writing("split.lock") as temporary:
        write_lock(temporary, scanned.table.rows["id"][kept], divided.splits[kept])
    context.out.write_json("task.json", describe_task(contract, config.name, scanned.table.system_prompts))
    lengths = {split: describe_lengths(fitted[split].tally) for split in ("train", "valid")}
    prompt = {"test_prompt_max": fitted["test"].tally.prompt_max, "sequence_len": config.sequence_len}
    context.out.write_json("lengths.json", {**lengths, **prompt})
    report = describe(config, prepared, rows)
    warnings = find_warnings(config, prepared, rows, FEW_ROWS)
    context.out.write_json(
        "report.json",
        {**report, "contract": contract.task if contract else None, "warnings": warnings},
    )
    counts = ", ".join(f"{name} {report['rows'][name]}" for name in SPLITS)
    largest = report["split_proof"]["largest"]
    across = f"; largest similarity across splits {largest['similarity']:.2f}" if largest else ""
    dropped = report["duplicates"]["exact_dropped_rows"]
    context.console.say(f"  {counts} rows, {dropped} exact duplicates dropped{across}")
    for text in warnings:
        context.console.warn(text)


@contextmanager
def _timed(context: StageContext | None, phase: str) -> Iterator[dict[str, Any]]:
    """Note in the journal how long a phase took; without a context (a small data set) nothing is noted."""
    started, values = time.monotonic(), dict[str, Any]()
    yield values
    if context is not None:
        seconds = round(time.monotonic() - started, 3)
        context.run_dir.journal("phase", stage="prepare", phase=phase, seconds=seconds, **values)
