"""What a little more would need: the next larger sequence and the next larger model on the same target; and the same
run on other machines, as a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.plan.choose import Choice, choose_batch, make_plan
from holdfast.plan.constants import GIB
from holdfast.plan.expected import duration, train_speed
from holdfast.plan.hardware import Hardware
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import batch_tokens
from holdfast.plan.shape import ModelShape, read_shape, shape_of
from holdfast.plan.target import Limit, Target, choose_target, limits_of

# hidden, intermediate, layers, heads, kv heads, vocabulary, tied: as in the config.json of public models.
_PUBLIC = {
    "0.5B (Qwen2.5-0.5B)": (896, 4864, 24, 14, 2, 151936, True),
    "1B (Llama-3.2-1B)": (2048, 8192, 16, 32, 8, 128256, True),
    "3B (Llama-3.2-3B)": (3072, 8192, 28, 24, 8, 128256, True),
    "7B (Qwen2.5-7B)": (3584, 18944, 28, 28, 4, 152064, False),
    "8B (Llama-3-8B)": (4096, 14336, 32, 32, 8, 128256, False),
    "14B (Qwen2.5-14B)": (5120, 13824, 48, 40, 8, 152064, False),
    "32B (Qwen2.5-32B)": (5120, 27648, 64, 40, 8, 152064, False),
    "70B (Llama-3-70B)": (8192, 28672, 80, 64, 8, 128256, False),
}
_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip
_LONGEST = 131072

# The second source document's hardware table, and the sizes that people have. (plan.gpu, train.nproc, what it is)
MACHINES = (
    ("cpu", 1, "this machine's processor"),
    ("8GB", 1, "RTX 3050, 4060"),
    ("16GB", 1, "RTX 4060 Ti, 4080, A4000"),
    ("24GB", 1, "RTX 3090, 4090, A5000"),
    ("32GB", 1, "RTX 5090"),
    ("32GB", 2, "two RTX 5090"),
    ("80GB", 1, "A100, H100, by the hour"),
    ("apple-16GB", 1, "Apple, its processor"),
    ("apple-128GB", 1, "Apple M4 Max, its processor"),
)


def public_shapes() -> dict[str, ModelShape]:
    """Shapes of public models by size, smallest first."""
    return {
        name: shape_of({"model_type": "llama", **dict(zip(_KEYS, values, strict=True))}, Path(name))
        for name, values in _PUBLIC.items()
    }


def what_next(model_folder: Path, config: RunConfig, hardware: Hardware) -> list[dict[str, Any]]:
    """The longest sequence that fits (up to the model's context) and twice that, and the next larger public model.

    Each with the bytes that training needs, and whether they are there.
    Rows are counted as full: more than `prepare` may find.
    """
    shape = read_shape(model_folder)
    target = choose_target(config.plan, hardware)
    limits = limits_of(target, config.plan, hardware, config.train.nproc)
    found = []
    length, longest = config.sequence_len, min(_LONGEST, shape.context or _LONGEST)
    fits, _ = _training(shape, config, length, target, limits)
    while fits and length * 2 <= longest:
        larger, needed = _training(shape, config, length * 2, target, limits)
        if not larger:
            found.append(_row("sequence_len", str(length * 2), needed, limits[target.device], larger))
            break
        length *= 2
    if fits:
        found.insert(0, _row("sequence_len", str(length), _training(shape, config, length, target, limits)[1],
                             limits[target.device], fits=True))  # fmt: skip
    above = [(name, other) for name, other in public_shapes().items() if other.parameters > 1.2 * shape.parameters]
    for name, other in above[:1]:
        larger, needed = _training(other, config, config.sequence_len, target, limits)
        found.append(_row("model", name, needed, limits[target.device], larger))
    return found


def _row(what: str, value: str, needed: int, limit: Limit, fits: bool) -> dict[str, Any]:
    return {"what": what, "value": value, "needed": needed, "usable": limit.usable, "fits": fits}


def _training(
    shape: ModelShape, config: RunConfig, length: int, target: Target, limits: Mapping[Any, Limit]
) -> tuple[bool, int]:
    """(fits, bytes of training with the least that the choice can do) with full rows of `length` tokens."""
    changed = config.model_copy(update={"sequence_len": length})
    choice = choose_batch(shape, changed, Lengths.of(changed, None), target, limits)
    needed = next(d.total for d in choice.demands if (d.phase, d.place) == ("train", target.device))
    return needed <= limits[target.device].usable, needed


def table(model_folder: Path, config: RunConfig, hardware: Hardware) -> list[dict[str, Any]]:
    """The same run on every machine of MACHINES: does training fit, with which settings, how fast."""
    shape, rows = read_shape(model_folder), []
    for gpu, nproc, what in MACHINES:
        train = config.train
        steps = train.gradient_accumulation_steps
        if train.micro_batch_size * steps % nproc:
            steps *= nproc
        changed = config.model_copy(
            update={
                "plan": config.plan.model_copy(update={"gpu": gpu}),
                "train": train.model_copy(update={"nproc": nproc, "nnodes": 1, "gradient_accumulation_steps": steps}),
            }
        )
        plan = make_plan(model_folder, changed, None, hardware)
        target = choose_target(changed.plan, hardware)
        training = next(p for p in plan["phases"] if (p["phase"], p["place"]) == ("train", target.device))
        lengths = Lengths.of(changed, None)
        limits = limits_of(target, changed.plan, hardware)
        choice: Choice = choose_batch(shape, changed, lengths, target, limits)
        tokens = batch_tokens(changed, lengths, choice.rows)[0]
        slow, fast = train_speed(shape, changed, tokens, target, hardware.cores, choice.policy)
        rows.append({
            "machine": gpu, "nproc": nproc, "what": what, "fits": training["fits"], "needed": training["needed"],
            "usable": training["usable"], "micro_batch_size": choice.rows,
            "gradient_accumulation_steps": choice.accumulation,
            "recompute": plan["settings"]["recompute"] if training["fits"] else None,
            "tokens_per_second": [round(slow, 1), round(fast, 1)] if training["fits"] else None,
            "seconds_of_a_million_tokens": [round(1e6 / fast, 1), round(1e6 / slow, 1)] if training["fits"] else None,
        })  # fmt: skip
    return rows


def describe_next(rows: list[dict[str, Any]]) -> list[str]:
    """One line each."""
    return [
        f"{row['what']} {row['value']}: {'fits' if row['fits'] else 'does not fit'}, training needs "
        f"{row['needed'] / GIB:.2f} of {row['usable'] / GIB:.2f} GiB"
        for row in rows
    ]


def describe_table(rows: list[dict[str, Any]]) -> str:
    """The table as text."""
    lines = [f"{'machine':<14} {'fits':<4} {'GiB':>7} {'usable':>7}  {'batch':<9} {'a million tokens':<20} recompute"]
    for row in rows:
        name = f"{row['nproc']} x {row['machine']}" if row["nproc"] > 1 else row["machine"]
        seconds = row["seconds_of_a_million_tokens"]
        time = f"{duration(seconds[0])} to {duration(seconds[1])}" if seconds else ""
        batch = f"{row['micro_batch_size']} x {row['gradient_accumulation_steps']}" if row["fits"] else ""
        recompute = row["recompute"] or {}
        level = " ".join(f"{name} {count}" for name, count in recompute.get("levels", ()))
        level += ", offload" if recompute.get("offload") else ""
        level += ", embedding on the host" if recompute.get("host_embedding") else ""
        lines.append(
            f"{name:<14} {'yes' if row['fits'] else 'NO':<4} {row['needed'] / GIB:>7.2f} {row['usable'] / GIB:>7.2f}  "
            f"{batch:<9} {time:<20} {level or '-'}".rstrip()
        )
    cards = {
        row["machine"]: row["what"] for row in rows if row["nproc"] == 1 and row["what"].startswith(("RTX", "A100"))
    }
    lines.append("; ".join(f"{size}: {what}" for size, what in cards.items()))
    lines.append("times are ranges from plan/rates.py: measured on one H200, estimates for every other machine")
    return "\n".join(lines)
