"""Inside one of several training processes: who it is, what all agree on, and which rows it gets.

The rows come in the order of one process and every optimiser step holds the same rows as there: the processes take
their micro-batches in turn. What is missing at the end of an epoch for whole micro-batches is filled with a row without
labels, which adds nothing to loss or gradient (accelerate would repeat real rows).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.models import NOT_TRAINED
from holdfast.train.stop import StopRequest


@dataclass(frozen=True)
class Together:
    """This process among `count`; `group` carries small messages over the processors, never over the cards."""

    rank: int
    count: int
    group: Any
    stop_file: Path

    @property
    def main(self) -> bool:
        """Whether this process alone writes products."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process; all must call it."""
        found = torch.tensor([int(flag)])
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.group)
        return bool(found.item())

    def wait(self) -> None:
        """Return when all processes have come here."""
        dist.barrier(group=self.group)


def join(stop_file: Path) -> Together:
    """Meet the other processes: in a file when `HOLDFAST_STORE` names one, else at torchrun's address."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend, file = "nccl" if cuda else "gloo", os.environ.get("HOLDFAST_STORE")
    if file:
        dist.init_process_group(backend, store=FileStore(file, count), rank=rank, world_size=count)
    else:
        dist.init_process_group(backend)
    return Together(rank, count, dist.new_group(backend="gloo") if cuda else dist.group.WORLD, stop_file)


def distributed_arguments() -> dict[str, Any]:
    """Training arguments that only several processes need."""
    if not dist.is_initialized():
        return {}
    # Every adapter has a gradient in every step, and frozen models have no buffers that change.
    return {
        "ddp_backend": dist.get_backend(), "ddp_find_unused_parameters": False, "ddp_broadcast_buffers": False,
        "average_tokens_across_devices": True,
    }  # fmt: skip


class Agreement(TrainerCallback):
    """All stop after the same step, whichever of them was `asked`; a checkpoint counts once every process has written
    its part of it."""

    def __init__(
        self, together: Together, asked: StopRequest, agreed: StopRequest, guard: Any, order: "Filled"
    ) -> None:
        self.together, self.asked, self.agreed, self.guard, self.order = together, asked, agreed, guard, order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.order.begin(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.together.main and self.together.stop_file.exists():
            self.asked.requested = True
        self.agreed.requested = self.together.any(self.asked.requested)
        if self.agreed.requested:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.guard.check()
        self.together.wait()


class Filled(Sampler[int]):
    """Places of `rows` rows as `order` gives them, then place `rows` (the blank row) up to a multiple of `each`."""

    def __init__(self, order: Any, rows: int, each: int, accumulation: int) -> None:
        self.order, self.rows, self.blanks = order, rows, -rows % each
        self.steps = -(-len(self) // (each * accumulation))

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from repeat(self.rows, self.blanks)

    def __len__(self) -> int:
        return self.rows + self.blanks

    def begin(self, step: int) -> None:
        """Take the order of the epoch of optimiser step `step` (accelerate 1.15 loses it when an epoch is resumed)."""
        self.order.set_epoch(step // self.steps)


def same_order(trainer: Any, seed: int) -> Filled:
    """Give the trainer of each process the order of one process, and the blank row behind its rows."""
    from accelerate.data_loader import SeedableRandomSampler  # type: ignore[import-untyped]
    from datasets import Dataset, concatenate_datasets

    rows, arguments = trainer.train_dataset, trainer.args
    blank = Dataset.from_list([_blank(rows)], features=rows.features)
    trainer.train_dataset = concatenate_datasets([rows, blank])
    each = arguments.per_device_train_batch_size * arguments.world_size
    shuffled = SeedableRandomSampler(range(len(rows)), data_seed=seed)
    order = Filled(shuffled, len(rows), each, arguments.gradient_accumulation_steps)
    trainer._get_train_sampler = lambda dataset=None: order
    return order


def _blank(rows: Any) -> dict[str, Any]:
    """Two tokens without a label, in the columns that the trainer's rows have."""
    values = {"labels": [NOT_TRAINED] * 2, "seq_lengths": [2], "position_ids": [0, 1], "attention_mask": [1, 1]}
    return {name: values.get(name, [0, 0]) for name in rows.column_names}
