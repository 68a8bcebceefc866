"""What watches over a training run: progress, trusted checkpoints, broken losses, and a safe stop on a signal."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.core.config import TrainConfig
from holdfast.core.console import Bar
from holdfast.train.best import best_of
from holdfast.train.checkpoints import is_whole, keep_newest, mark_complete
from holdfast.train.guard import LossGuard
from holdfast.train.meter import Meter
from holdfast.train.stop import StopRequest


class RandomState(NamedTuple):
    """What torch draws next (dropout, NEFTune), on the processor and on the card."""

    cpu: Tensor
    card: Tensor | None

    @classmethod
    def now(cls) -> "RandomState":
        """As it is."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None)

    def restore(self) -> None:
        """As it was."""
        torch.set_rng_state(self.cpu)
        if self.card is not None:
            torch.cuda.set_rng_state(self.card)


class Watch(TrainerCallback):
    """One callback for the whole run: what people see, what is kept, and when to stop.

    `bar` counts optimiser steps, `meter` says how fast, `guard` sees each loss, `keep` checkpoints stay.
    """

    def __init__(self, bar: Bar, request: StopRequest, guard: LossGuard, meter: Meter, train: TrainConfig) -> None:
        self.bar, self.request, self.guard, self.meter = bar, request, guard, meter
        self.keep, self.keep_best = max(2, train.save_total_limit), train.load_best_model_at_end
        self.seen = 0
        self.random: RandomState | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.skip(state.global_step - self.seen)
        self.seen = state.global_step
        self.random = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.advance(state.global_step - self.seen, self.meter.note)
        self.seen = state.global_step
        if self.request.requested:
            control.should_save = control.should_training_stop = True
        elif args.gradient_accumulation_steps > 1:
            self.random = RandomState.now()

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A step of many micro-batches may take minutes: leave it, and save the state after the one before."""
        if not self.request.requested or args.world_size > 1:  # several processes stop after the same whole step
            return
        control.should_training_stop = True
        if self.random is not None and not is_whole(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"):
            self.random.restore()
            control.should_save = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.guard.check_validation(float(kwargs["metrics"]["eval_loss"]))
        if self.request.requested and args.world_size == 1:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.guard.check_weights()  # a broken step must not become the checkpoint to go on from
        folder = Path(str(args.output_dir))
        mark_complete(folder / f"checkpoint-{state.global_step}")
        best = best_of(state.log_history) if self.keep_best else None
        keep_newest(folder, self.keep, best.step if best else None)
