"""Speed, memory and energy of a running training, taken whenever the trainer logs."""

import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.core.resident import peak_memory
from holdfast.train.energy import Joules, open_energy_meter

GIB = 2**30


def card_uuids(count: int = 1) -> list[str]:
    """The first `count` cards, as CUDA names them; none on the CPU."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [str(torch.cuda.get_device_properties(card).uuid) for card in range(min(count, there))]


def open_energy_meters(count: int) -> Joules | None:
    """The joules of the first `count` cards together; None where one of them cannot be read."""
    found = [open_energy_meter(uuid) for uuid in card_uuids(count)]
    meters = [meter for meter in found if meter is not None]
    return (lambda: sum(meter() for meter in meters)) if meters and len(meters) == len(found) else None


def memory_high_water() -> int:
    """Most bytes so far: torch's on a card, else those of the whole process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return peak_memory() or 0


class Meter(TrainerCallback):
    """Adds `tokens_per_second`, `memory_bytes` and (where it is counted) `energy_joules` to the trainer's log.

    Each figure is of the steps since the entry before; evaluations are left out of the speed, not of the energy. What
    a killed run did after its last checkpoint is in no log, and so not in the sum. cards: how many train together.
    """

    def __init__(self, cards: int = 1) -> None:
        self.joules: Joules | None = open_energy_meters(cards)
        self.note = ""
        self.tokens = 0.0
        self.since = self.evaluating = self.used = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.since = time.monotonic()
        self.used = self.joules() if self.joules else 0.0

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        entry = state.log_history[-1]
        if "eval_loss" in entry:
            self.evaluating += entry.get("eval_runtime", 0.0)
            return
        if self.joules is not None:
            now = self.joules()
            entry["energy_joules"], self.used = round(now - self.used, 3), now
        if "loss" not in entry:  # the last entry sums up
            return
        entry["memory_bytes"] = memory_high_water()
        parts = [f"loss {entry['loss']:.3f}"]
        if "num_tokens" in entry:
            clock = time.monotonic()
            seconds = max(1e-9, clock - self.since - self.evaluating)
            entry["tokens_per_second"] = round((entry["num_tokens"] - self.tokens) / seconds, 1)
            self.tokens, self.since, self.evaluating = entry["num_tokens"], clock, 0.0
            parts.append(f"{entry['tokens_per_second']:,.0f} tokens/s")
        self.note = ", ".join([*parts, f"{entry['memory_bytes'] / GIB:.2f} GiB"])
