"""What a reader wants to know about a training run: training.json."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from holdfast.models import NOT_TRAINED, TrainingTokens
from holdfast.train.energy import kilowatt_hours
from holdfast.train.meter import memory_high_water


def summarize(trainer: Any, rows: Sequence[TrainingTokens], seconds: float, *, resumed: bool) -> dict[str, Any]:
    """Steps, tokens, losses, speed, memory and energy of a finished run. seconds: of this call, loading included."""
    log = trainer.state.log_history
    losses = [entry["loss"] for entry in log if "loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "rows": len(rows),
        "tokens_per_epoch": sum(len(row.input_ids) for row in rows),
        "trained_tokens_per_epoch": sum(label != NOT_TRAINED for row in rows for label in row.labels),
        "micro_batch_size": trainer.args.per_device_train_batch_size,
        "gradient_accumulation_steps": trainer.args.gradient_accumulation_steps,
        "processes": trainer.args.world_size,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "valid_losses": [entry["eval_loss"] for entry in log if "eval_loss" in entry],
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "peak_memory_bytes": memory_high_water() or None,
        "resumed": resumed,
        "seconds": round(seconds, 1),
        **summarize_log(log),
    }


def summarize_log(log: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """tokens_per_second (median: the first entries also start things up), and what the card has used in all."""
    speeds = [row["tokens_per_second"] for row in log if "tokens_per_second" in row]
    used = [row["energy_joules"] for row in log if "energy_joules" in row]
    return {
        "tokens_per_second": round(median(speeds), 1) if speeds else None,
        "energy_joules": round(sum(used), 3) if used else None,
        "energy_kwh": round(kilowatt_hours(sum(used)), 6) if used else None,
    }


def total_steps(trainer: Any) -> int:
    """Optimiser steps of a whole training."""
    arguments = trainer.args
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    batches = -(-len(trainer.train_dataset) // (arguments.per_device_train_batch_size * arguments.world_size))
    steps = max(1, -(-batches // arguments.gradient_accumulation_steps))
    return int(-(-steps * arguments.num_train_epochs // 1))


def learned_nothing(trainer: Any) -> str | None:
    """What to say when every B matrix is zero as it was made, so that the adapter changes no answer; else None."""
    matrices = [weight for name, weight in trainer.model.named_parameters() if "lora_B" in name]
    if any(bool(weight.detach().any()) for weight in matrices):
        return None
    steps, warmup = trainer.state.global_step, trainer.args.get_warmup_steps(trainer.state.max_steps)
    why = f": the learning rate begins at 0 and rises over {warmup} (train.warmup_ratio)" if warmup else ""
    return f"the adapter is as it was made after {steps} of {trainer.state.max_steps} steps{why}; take more steps"
