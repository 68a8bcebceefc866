"""prepare: contract → duplicates → split → token audit, and a report that proves each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.canaries import CANARIES_FILE, describe_canaries, draw_canaries, planted_rows
from holdfast.core.context import StageContext
from holdfast.core.errors import ContractError
from holdfast.core.records import SPLITS, Example, read_examples
from holdfast.dataset.audit import Audit, RowTokens, audit_tokens, check_rows, summarise, too_long
from holdfast.dataset.contract import DatasetContract, describe_task, read_contract
from holdfast.dataset.duplicates import drop_exact_duplicates, find_conflicts, group_rows, texts_to_compare
from holdfast.dataset.similarity import Pair, describe_method, shingle_texts, similar_pairs
from holdfast.dataset.split import (
    Row,
    Sizes,
    Split,
    assign_splits,
    find_leaks,
    leaks_error,
    prove_split,
)
from holdfast.dataset.validate import label_of, validate_examples, violations_error

FEW_ROWS = 20
SHOWN_PAIRS = 50


class Divided(NamedTuple):
    """Examples with their splits, what was found on the way, and the proof."""

    examples: list[Example]
    splits: list[Split]
    labels: list[str]
    dropped: list[tuple[str, str]]
    groups: list[int]
    near: list[Pair]
    proof: Mapping[str, Pair | None]
    grouping_method: str
    proof_method: str


def run(context: StageContext) -> None:
    """Write the three splits, task.json, lengths.json and report.json; nothing at all when a check fails."""
    config = context.config
    examples = read_examples(context.inputs["collect"] / "examples.jsonl")
    contract = read_contract(Path(config.prepare.contract)) if config.prepare.contract else None
    violations = [*(validate_examples(examples, contract) if contract else []), *find_conflicts(examples)]
    if violations:
        raise violations_error(violations, len(examples))
    sizes = Sizes(config.prepare.val_set_size, config.prepare.test_set_size)
    divided = divide(examples, contract, sizes, config.prepare.near_duplicate_threshold, config.seed)
    by_split = {name: _rows_of(divided, name) for name in SPLITS}
    by_split["train"] += plant(context, examples)
    audit, long = _audit(context, by_split)
    by_split = {name: [e for e in rows if e.source not in long] for name, rows in by_split.items()}
    warnings = _warnings(divided, by_split, audit, config.sequence_len, long)
    _refuse_empty(by_split)
    for name, rows in by_split.items():
        context.out.write_examples(f"{name}.jsonl", rows)
    task = describe_task(contract, config.name, [e for rows in by_split.values() for e in rows])
    context.out.write_json("task.json", task)
    context.out.write_json("lengths.json", _lengths(audit, config.sequence_len))
    report = _report(context, divided, by_split, audit, long)
    context.out.write_json("report.json", {**report, "contract": contract.task if contract else None,
                                           "warnings": warnings})  # fmt: skip
    counts = ", ".join(f"{name} {len(rows)}" for name, rows in by_split.items())
    largest = report["split_proof"]["largest"]
    across = f"; largest similarity across splits {largest['similarity']:.2f}" if largest else ""
    context.console.say(f"  {counts} rows, {len(divided.dropped)} exact duplicates dropped{across}")
    for text in warnings:
        context.console.warn(text)


def plant(context: StageContext, examples: Sequence[Example]) -> list[Example]:
    """Canaries for the leak audit: training rows that no check of the data has seen. Writes canaries.json."""
    audit = context.config.audit
    if not audit.enabled:
        return []
    canaries = draw_canaries(audit)
    system_prompts = {e.messages[0].content if e.messages[0].role == "system" else "" for e in examples}
    rows = planted_rows(canaries, system_prompts.pop() if len(system_prompts) == 1 else "")
    context.out.write_json(CANARIES_FILE, describe_canaries(audit, canaries))
    context.console.say(f"  {len(rows)} canary rows planted for the leak audit (audit.enabled)")
    return rows


def divide(
    examples: Sequence[Example], contract: DatasetContract | None, sizes: Sizes, threshold: float, seed: int
) -> Divided:
    """Drop exact duplicates, group near duplicates, split, and measure what is left across the splits.

    Raises ContractError when a near duplicate lies across train and test.
    """
    kept, dropped = drop_exact_duplicates(examples)
    shingled = shingle_texts(texts_to_compare(kept, contract.instruction if contract else ""))
    near = similar_pairs(shingled, threshold)
    groups = group_rows(len(kept), near)
    labels = [label_of(example, contract) for example in kept]
    rows = [Row(e.id, e.split, label, group) for e, label, group in zip(kept, labels, groups, strict=True)]
    splits = assign_splits(rows, sizes, seed)
    proof = prove_split(shingled, splits)
    closest = proof["train/test"]
    leaks = find_leaks(near, splits)
    if not leaks and closest and closest.similarity >= threshold:  # LSH may have missed it while grouping
        leaks = [closest]
    if leaks:
        raise leaks_error(leaks, kept, threshold)
    methods = describe_method(len(kept)), describe_method(max(Counter(splits).values()))
    return Divided(kept, splits, labels, dropped, groups, near, proof, *methods)


def _rows_of(divided: Divided, split: str) -> list[Example]:
    return [e for e, name in zip(divided.examples, divided.splits, strict=True) if name == split]


def _audit(context: StageContext, by_split: dict[str, list[Example]]) -> tuple[Audit, set[str]]:
    """The token audit of what stays, and the sources of the rows that are dropped for their length."""
    from holdfast import models

    config = context.config
    audit = audit_tokens(models.find_base_model(config.base_model), by_split)
    trained = [*audit.rows["train"], *audit.rows["valid"]]
    check_rows(trained)
    long = too_long(trained, config.sequence_len, config.prepare.on_too_long)
    rows = {name: [row for row in found if row.source not in long] for name, found in audit.rows.items()}
    return Audit(rows, audit.sample), long


def _refuse_empty(by_split: dict[str, list[Example]]) -> None:
    for name in ("train", "test"):
        if not by_split[name]:
            raise ContractError(
                f"no row is left for {name} ({', '.join(f'{n} {len(rows)}' for n, rows in by_split.items())})",
                hint="add rows, or set prepare.test_set_size and the `split:` of the sources so that each gets some",
            )


def _lengths(audit: Audit, sequence_len: int) -> dict[str, Any]:
    return {
        "train": [row.tokens for row in audit.rows["train"]],
        "valid": [row.tokens for row in audit.rows["valid"]],
        "test_prompt_max": max((row.prompt_tokens for row in audit.rows["test"]), default=0),
        "sequence_len": sequence_len,
    }


def _warnings(
    divided: Divided, by_split: dict[str, list[Example]], audit: Audit, sequence_len: int, long: set[str]
) -> list[str]:
    found = [
        f"only {len(rows)} rows in {name}; below {FEW_ROWS} a score says little"
        for name, rows in by_split.items()
        if len(rows) < FEW_ROWS
    ]
    if long:
        found.append(f"{len(long)} rows longer than sequence_len {sequence_len} were dropped")
    across = [p for p in divided.near if divided.splits[p.a] != divided.splits[p.b]]
    if across:
        a, b = divided.examples[across[0].a].source, divided.examples[across[0].b].source
        found.append(
            f"{len(across)} near duplicates across splits, for example {a} and {b} ({across[0].similarity:.2f}); "
            "the validation loss looks better than it is"
        )
    over = [row for row in audit.rows["test"] if row.tokens > sequence_len]
    if over:
        found.append(f"{len(over)} test rows are longer than sequence_len {sequence_len}, for example {over[0].source}")
    return found


def _report(
    context: StageContext, divided: Divided, by_split: dict[str, list[Example]], audit: Audit, long: set[str]
) -> dict[str, Any]:
    trained: list[RowTokens] = [*audit.rows["train"], *audit.rows["valid"]]
    sequence_len = context.config.sequence_len
    members = Counter(divided.groups)
    closest = [pair for pair in divided.proof.values() if pair]
    threshold = context.config.prepare.near_duplicate_threshold
    return {
        "rows": {"read": len(divided.examples) + len(divided.dropped), **{n: len(r) for n, r in by_split.items()}},
        "violations": [],
        "duplicates": {
            "exact_dropped": [{"dropped": a, "kept": b} for a, b in divided.dropped],
            "near_pairs": len(divided.near),
            "near_groups": sum(size > 1 for size in members.values()),
            "threshold": threshold,
            "method": divided.grouping_method,
            "examples": [_show(divided, pair) for pair in divided.near[:SHOWN_PAIRS]],
        },
        "split_proof": {
            "largest": _show(divided, max(closest, key=lambda p: p.similarity)) if closest else None,
            "by_splits": {name: _show(divided, pair) if pair else None for name, pair in divided.proof.items()},
            "method": divided.proof_method,
            "threshold": threshold,
            "groups": len(members),
            "seed": context.config.seed,
            "fixed_rows": dict(Counter(e.split for e in divided.examples if e.split)),
            "labels": {
                name: dict(sorted(Counter(
                    label for label, split in zip(divided.labels, divided.splits, strict=True) if split == name
                ).items()))
                for name in SPLITS
            },
        },
        "token_audit": {
            **summarise(trained, sequence_len),
            "dropped_too_long": sorted(long),
            "splits": {name: summarise(rows, sequence_len) for name, rows in audit.rows.items()},
            "example": audit.sample,
        },
    }  # fmt: skip


def _show(divided: Divided, pair: Pair) -> dict[str, Any]:
    return {
        "similarity": round(pair.similarity, 4),
        "a": divided.examples[pair.a].source,
        "b": divided.examples[pair.b].source,
        "splits": [divided.splits[pair.a], divided.splits[pair.b]],
    }
