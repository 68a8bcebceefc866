"""What watches over a training run: progress, trusted checkpoints, broken losses, and a safe stop on a signal."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.core.console import Bar
from holdfast.train.checkpoints import keep_newest, mark_complete
from holdfast.train.guard import LossGuard
from holdfast.train.stop import StopRequest


class Watch(TrainerCallback):
    """One callback for the whole run; `bar` counts optimiser steps, `keep` checkpoints stay, `guard` sees each loss."""

    def __init__(self, bar: Bar, request: StopRequest, guard: LossGuard, keep: int) -> None:
        self.bar, self.request, self.guard, self.keep = bar, request, guard, keep
        self.note = ""
        self.seen = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.advance(state.global_step)
        self.seen = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.advance(state.global_step - self.seen, self.note)
        self.seen = state.global_step
        if self.request.requested:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is None:
            return
        self.note = f"loss {loss:.3f}"

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.guard.check()  # a broken step must not become the checkpoint to go on from
        folder = Path(str(args.output_dir))
        mark_complete(folder / f"checkpoint-{state.global_step}")
        keep_newest(folder, self.keep)
