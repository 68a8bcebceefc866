"""What watches over a training run: progress, trusted checkpoints, broken losses, and a safe stop on a signal."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.core.console import Bar
from holdfast.core.errors import StageError
from holdfast.train.checkpoints import mark_complete


class StopRequest:
    """Set by SIGINT or SIGTERM: the current step ends, a checkpoint is saved, then training stops."""

    requested = False


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one interrupts at once."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        request.requested = True
        for name, handler in before.items():
            signal.signal(name, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch(TrainerCallback):
    """One callback for the whole run; `bar` counts optimiser steps."""

    def __init__(self, bar: Bar, request: StopRequest) -> None:
        self.bar, self.request = bar, request
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
        if not math.isfinite(loss):
            raise StageError(
                f"training diverged: the loss is {loss} at step {state.global_step}",
                hint="lower train.learning_rate (now "
                f"{args.learning_rate:g}) or look at the rows with holdfast validate, then run again",
            )
        self.note = f"loss {loss:.3f}"

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
