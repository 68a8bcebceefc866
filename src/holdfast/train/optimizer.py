"""bitsandbytes' optimisers without their wait for the device after every single parameter.

bitsandbytes 0.50 (optim/optimizer.py, `step`) synchronises once a parameter and once more at the end when paged:
392 waits a step for a 7B model with adapters on all matrices. All its kernels run on one stream, so one order is kept
without them; only reading the state on the host (saving) has to wait. Nor is every paged state asked for in every step:
it stays on the card until the driver needs the memory, and comes back when a kernel touches it.
"""

import types
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class NoWaiting(TrainerCallback):
    """Patches the optimiser when training begins (before that the trainer has none)."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs.get("optimizer")
        if optimizer is not None:
            stop_waiting(getattr(optimizer, "optimizer", optimizer))


def stop_waiting(optimizer: Any) -> bool:
    """Patch an optimiser instance; returns whether it is one of bitsandbytes'."""
    module = type(optimizer).__module__
    if not module.startswith("bitsandbytes."):
        return False
    import bitsandbytes.optim.optimizer as source

    step, state_dict = optimizer.step, optimizer.state_dict

    def step_without_waiting(self: Any, closure: Any = None) -> Any:
        before = source.sync_gpu
        source.sync_gpu = _nothing  # type: ignore[assignment]
        try:
            return step(closure)
        finally:
            source.sync_gpu = before

    def state_dict_after_waiting(self: Any, *args: Any, **named: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return state_dict(*args, **named)

    optimizer.prefetch_state = _nothing
    optimizer.step = types.MethodType(step_without_waiting, optimizer)
    optimizer.state_dict = types.MethodType(state_dict_after_waiting, optimizer)
    return True


def _nothing(tensor: Any) -> None:
    return None
