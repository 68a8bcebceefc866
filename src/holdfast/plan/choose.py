"""From shapes, bytes and limits to a decision: the largest micro-batch that fits, or why nothing does."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.config import RunConfig
from holdfast.core.errors import DoesNotFitError
from holdfast.plan.constants import GIB, TABLE
from holdfast.plan.evaluate_choice import answering, choose_evaluation, remarks_on
from holdfast.plan.expected import expected
from holdfast.plan.fused_choice import fastest_rows
from holdfast.plan.fused_memory import Recompute, is_fused, is_varlen
from holdfast.plan.hardware import Hardware
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import Demand, Place, adapter_parameters
from holdfast.plan.phases import demands
from holdfast.plan.refusal import describe_problem
from holdfast.plan.several import accumulation, in_parts, obstacles, process_count, refuse_parts, row_choices
from holdfast.plan.shape import ModelShape, read_shape
from holdfast.plan.target import Limit, Target, card_room, check_cards, choose_target, limits_of, real_device

# GGUF conversion (stage export) knows these families.
CONVERTIBLE = ("llama", "mistral", "qwen2", "qwen3")


class Choice(NamedTuple):
    """How training takes its batch, all demands of that choice, and the first one that does not fit."""

    rows: int
    accumulation: int
    demands: list[Demand]
    failed: Demand | None
    policy: Recompute | None = None


def plan_for(
    model_folder: Path, config: RunConfig, lengths: Mapping[str, Any] | None, hardware: Hardware
) -> dict[str, Any]:
    """The plan of a run that fits, as written to plan.json. `lengths` is lengths.json of stage prepare, or None.

    Raises DoesNotFitError (exit 21) with phase, needed and usable GiB, largest components and ranked remedies;
    ModelError for an unknown model; ConfigError for a wrong `plan.gpu` or target module.
    """
    plan = make_plan(model_folder, config, lengths, hardware)
    refuse_unfit(plan)
    return plan


def refuse_unfit(plan: Mapping[str, Any]) -> None:
    """Raise DoesNotFitError when the plan found a problem."""
    if plan["problem"]:
        raise DoesNotFitError(plan["problem"]["message"], hint=plan["problem"]["next"])


def make_plan(
    model_folder: Path, config: RunConfig, lengths: Mapping[str, Any] | None, hardware: Hardware
) -> dict[str, Any]:
    """Like `plan_for`, but a run that does not fit is described (`fits` false, `problem`) and nothing is raised."""
    shape = read_shape(model_folder)
    target = choose_target(config.plan, hardware)
    check_cards(config.train, target, hardware)
    refuse_parts(config.train)
    limits = limits_of(target, config.plan, hardware, config.train.nproc)
    counts = Lengths.of(config, lengths)
    evaluation = choose_evaluation(shape, config, counts, target, limits)
    asked, config = config, answering(config, evaluation.batch_size)
    choice = choose_batch(shape, config, counts, target, limits)
    problem = None
    remarks = remarks_on(evaluation, asked, shape, target, limits) + _remarks(
        shape, config, counts, target, limits, choice, hardware
    )
    if choice.failed is not None:
        problem = describe_problem(shape, config, counts, target, choice.failed, limits)
        remarks += _fits_in_parts(shape, config, counts, target, limits, choice.failed, hardware)
    device = real_device(config.plan, hardware)
    return {
        "fits": problem is None,
        "problem": problem,
        "base_model": {
            "name": config.base_model,
            "family": shape.family,
            "parameters": shape.parameters,
            "trainable": adapter_parameters(shape, config.train),
        },
        "target": asdict(target),
        "settings": {
            "micro_batch_size": choice.rows,
            "gradient_accumulation_steps": choice.accumulation,
            "processes": process_count(config.train),
            "device": device,
            "dtype": "bfloat16" if device == "cuda" else "float32",
            "attention": "varlen" if device == "cuda" and is_varlen(shape, config.train) else "sdpa",
            "recompute": choice.policy.as_json(shape.layers) if choice.policy is not None else None,
        },
        "evaluation": evaluation.document(),
        "export": {"device": "cpu" if _merged_on_the_cpu(choice, limits) else device},
        "requested": {
            "evaluate_batch_size": asked.evaluate.batch_size,
            "micro_batch_size": config.train.micro_batch_size,
            "gradient_accumulation_steps": config.train.gradient_accumulation_steps,
        },
        "phases": [_phase(d, limits[d.place], _counts(d, limits, counts)) for d in choice.demands],
        "limits": {place: asdict(limit) for place, limit in limits.items()},
        "expected": expected(shape, config, counts, target, hardware.cores, choice.rows, choice.policy),
        "remarks": remarks,
        "hardware": asdict(hardware),
        "constants": [row._asdict() for row in TABLE],
    }


def choose_batch(
    shape: ModelShape, config: RunConfig, lengths: Lengths, target: Target, limits: Mapping[Place, Limit]
) -> Choice:
    """The fastest micro-batch up to the configured one that fits and divides the effective batch.

    On a card with fused layers that means also: the recompute policy; elsewhere the largest is taken as the fastest.
    """
    if target.device == "gpu" and is_fused(shape, config.train):
        fast = _choose_fused(shape, config, lengths, target, limits)
        if fast is not None:
            return fast
    for rows in row_choices(config.train):
        found = demands(shape, config, lengths, rows, target.device, card=card_room(limits))
        failed = next((d for d in found if _counts(d, limits, lengths) and d.total > limits[d.place].usable), None)
        choice = Choice(rows, accumulation(config.train, rows), found, failed)
        if failed is None or (failed.phase, failed.place) != ("train", target.device):
            break
    return choice


def _choose_fused(
    shape: ModelShape, config: RunConfig, lengths: Lengths, target: Target, limits: Mapping[Place, Limit]
) -> Choice | None:
    """Rows and policy with the least time a token; None when training fits with none of them."""
    usable = {place: limit.usable for place, limit in limits.items() if limit.checked}
    best = fastest_rows(shape, config, lengths, usable)
    if best is None:
        return None
    rows, policy = best
    found = demands(shape, config, lengths, rows, target.device, policy, card=card_room(limits))
    failed = next((d for d in found if _counts(d, limits, lengths) and d.total > limits[d.place].usable), None)
    return Choice(rows, accumulation(config.train, rows), found, failed, policy)


def _counts(demand: Demand, limits: Mapping[Place, Limit], lengths: Lengths) -> bool:
    """Whether this demand can refuse the run. Evaluation cannot while its prompts are not known, and a merge that is
    too large for the card is checked on the CPU."""
    if (demand.phase, demand.place) == ("merge", "gpu"):
        return False
    return limits[demand.place].checked and (demand.phase != "evaluate" or lengths.total is not None)


def _merged_on_the_cpu(choice: Choice, limits: Mapping[Place, Limit]) -> list[str]:
    """The remark on it; none where the card holds it."""
    large = [d for d in choice.demands if (d.phase, d.place) == ("merge", "gpu") and d.total > limits["gpu"].usable]
    needed = [f"it takes {d.total / GIB:.2f} GiB and the card has {limits['gpu'].usable / GIB:.2f}" for d in large]
    return [f"export checks the merge on the CPU, which is slower: {why}" for why in needed]


def _phase(demand: Demand, limit: Limit, checked: bool) -> dict[str, Any]:
    return {
        "phase": demand.phase,
        "place": demand.place,
        "components": dict(demand.components),
        "needed": demand.total,
        "available": limit.available,
        "usable": limit.usable,
        "margin": limit.usable - demand.total,
        "fits": demand.total <= limit.usable,
        "checked": checked,
    }


def _fits_in_parts(
    shape: ModelShape,
    config: RunConfig,
    counts: Lengths,
    target: Target,
    limits: Mapping[Place, Limit],
    failed: Demand,
    hardware: Hardware,
) -> list[str]:
    """Whether the cards of this machine (of an imagined one: two) together hold what one of them does not."""
    cards = 2 if target.hypothetical else len(hardware.gpus)
    if failed.phase not in ("load", "train") or failed.place != "gpu" or config.train.nproc > 1 or cards < 2:
        return []
    train = in_parts(config.train, cards)
    changed = config.model_copy(update={"train": train})
    if found := obstacles(train):
        return [f"{cards} such cards cannot share it: train.distributed: fsdp is not for {found[0]}"]
    if choose_batch(shape, changed, counts, target, limits).failed is not None:
        return [f"{cards} such cards together (train.distributed: fsdp) would not hold it either"]
    steps = train.gradient_accumulation_steps
    same = steps == config.train.gradient_accumulation_steps
    more = "" if same else f" --set train.gradient_accumulation_steps={steps}"
    return [f"{cards} such cards together hold it: --nproc {cards} --set train.distributed=fsdp{more}"]


def _remarks(
    shape: ModelShape,
    config: RunConfig,
    counts: Lengths,
    target: Target,
    limits: Mapping[Place, Limit],
    choice: Choice,
    hardware: Hardware,
) -> list[str]:
    remarks = list(hardware.remarks)
    if target.hypothetical:
        there = hardware.gpus[0].name if hardware.gpus else "the CPU"
        real = "; of a real card the driver keeps 1 to 3 %" if target.device == "gpu" else ""
        remarks.append(f"planned for {target.name} that is not there; on this machine training would use {there}{real}")
        for place in ("ram", "disk"):
            most = max((d for d in choice.demands if d.place == place), key=lambda d: d.total)
            if most.total > limits[most.place].usable:
                remarks.append(
                    f"{most.phase} needs {most.total / GIB:.2f} GiB of {place}; this machine has "
                    f"{limits[most.place].usable / GIB:.2f}, the one with the card needs more"
                )
    if counts.total is None:
        remarks.append(
            "evaluate is not judged: prompts are counted as sequence_len until stage prepare has measured them"
        )
    remarks += _merged_on_the_cpu(choice, limits) + _without_effect(shape, config, target, choice)
    count = process_count(config.train)
    if choice.rows != config.train.micro_batch_size or count > 1:
        remarks.append(
            f"micro_batch_size {config.train.micro_batch_size} -> {choice.rows}, gradient_accumulation_steps "
            f"{config.train.gradient_accumulation_steps} -> {choice.accumulation}"
            + (f", {count} processes: same effective batch" if count > 1 else ": same effective batch, less memory")
        )
    if len(hardware.gpus) > config.train.nproc and not target.hypothetical and target.device == "gpu":
        remarks.append(f"{len(hardware.gpus)} cards are there; the plan uses {config.train.nproc}: see --nproc")
    if shape.context and config.sequence_len > shape.context:
        remarks.append(f"sequence_len {config.sequence_len} is more than the model's context of {shape.context}")
    if shape.text_part:
        remarks.append("only the text part is counted: the model's other parts (for images) take memory beside it")
    if shape.family not in CONVERTIBLE:
        remarks.append(f"{shape.family} models cannot be exported to GGUF yet (only {', '.join(CONVERTIBLE)})")
    return remarks


def _without_effect(shape: ModelShape, config: RunConfig, target: Target, choice: Choice) -> list[str]:
    if config.train.embedding_offloading is not True or choice.failed is not None:
        return []
    if choice.policy is not None and choice.policy.host_embedding:
        return []
    why = "the head uses the same matrix" if shape.tied else "layers are not fused"
    why = "there is no card" if target.device != "gpu" else why
    return [f"train.embedding_offloading: true has no effect: {why}"]
