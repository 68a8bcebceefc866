"""Out of memory while training: the same step again with fewer rows at once and as much more accumulation.

What was learned so far is saved first; the effective batch, the order of the rows and the schedule stay as they are.
Memory that ends in the middle of an update leaves some weights updated and others not: then training goes on from the
checkpoint before, or begins again.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.core.console import Console
from holdfast.core.errors import DoesNotFitError, StageError
from holdfast.train.checkpoints import is_whole, mark_complete, newest_whole_checkpoint
from holdfast.train.processes import Share, fewer_rows

Report = Callable[[dict[str, Any]], None]


class Updates(TrainerCallback):
    """Whether an update of the weights is under way, and what they were before the first one (until there is a
    checkpoint). The optimiser makes its state in the first update, one weight after the other: memory may end there."""

    def __init__(self) -> None:
        self.under_way = False
        self.first: dict[str, Tensor] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.under_way = False
        if state.global_step == 0 and not self.first:
            self.first = {name: p.detach().cpu().clone() for name, p in _trained(kwargs["model"])}

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.under_way = True

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.under_way = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.first = {}

    def begin_again(self, model: Any) -> None:
        """The weights as they were before the first update. Raises StageError when they are not known any more."""
        if not self.first:
            raise StageError(
                "memory ended in the middle of an update, and no checkpoint is whole",
                hint="the same command trains from the beginning",
            )
        with torch.no_grad():
            for name, parameter in _trained(model):
                parameter.copy_(self.first[name])


def _trained(model: Any) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def tell(console: Console, journal: Callable[..., None] | None, change: dict[str, Any]) -> None:
    """Say on the console, and in the journal, how training goes on."""
    if "validation_rows" in change:
        console.say(
            f"  out of memory in the validation after step {change['step']}: going on with rows at once: "
            f"{change['validation_rows']}"
        )
    else:
        console.say(
            f"  out of memory in step {change['step']}: going on with micro_batch_size {change['micro_batch_size']}, "
            f"gradient_accumulation_steps {change['gradient_accumulation_steps']}"
        )
    if journal is not None:
        journal("out_of_memory", **change)


def train_with_retry(
    trainer: Any,
    folder: Path,
    checkpoint: Path | None,
    *,
    forget: Callable[[], None],
    check: Callable[[], None],
    report: Report,
    alone: bool = True,
) -> list[dict[str, Any]]:
    """Train to the end; returns what was changed on the way (also given to `report` at once).

    alone: false = other processes wait in the middle of this step, so that all must begin again (processes.py does it).
    forget: drops what an aborted step left behind. check: raises when a weight is broken, before a checkpoint counts as
    whole. Raises DoesNotFitError (exit 21) when one row at a time is too much.
    """
    changes: list[dict[str, Any]] = []
    updates = Updates()
    trainer.add_callback(updates)
    while True:
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except torch.OutOfMemoryError as error:
            if not alone:
                raise
            what = str(error).splitlines()[0]
        else:
            return changes
        # Outside the handler: the exception's frames hold the tensors of the step that failed.
        forget()
        change = shrink(trainer, what)
        changes.append(change)
        report(change)
        _free(trainer)
        if not updates.under_way:
            checkpoint = _save(trainer, folder, check)
        elif (checkpoint := newest_whole_checkpoint(folder)) is None:
            updates.begin_again(trainer.model)
        _start_afresh(trainer)


def shrink(trainer: Any, what: str) -> dict[str, Any]:
    """Fewer rows at once, the same batch (`processes.fewer_rows`). Raises DoesNotFitError for one row."""
    arguments, step = trainer.args, trainer.state.global_step
    smaller = fewer_rows(Share(arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps))
    memory = _memory()
    if smaller is None:
        raise DoesNotFitError(
            f"training ran out of memory in step {step + 1} with one row at a time: {what}"
            + (f" ({memory})" if memory else ""),
            hint="free the card from other processes (see nvidia-smi), or ask holdfast plan -c FILE for what fits",
        )
    arguments.per_device_train_batch_size = smaller.micro_batch_size
    arguments.gradient_accumulation_steps = smaller.gradient_accumulation_steps
    trainer._train_batch_size = arguments.train_batch_size
    return {"step": step + 1, **smaller._asdict(), "why": what, "memory": memory}


def _memory() -> str:
    if not torch.cuda.is_available():
        return ""
    free, total = torch.cuda.mem_get_info()
    peak = torch.cuda.max_memory_allocated()
    return f"{free / 2**30:.2f} of {total / 2**30:.2f} GiB free, torch's peak {peak / 2**30:.2f}"


def _free(trainer: Any) -> None:
    trainer.model.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _save(trainer: Any, folder: Path, check: Callable[[], None]) -> Path | None:
    """The state after the last whole step; None before the first one."""
    if trainer.state.global_step == 0:
        return None
    checkpoint = folder / f"checkpoint-{trainer.state.global_step}"
    if not is_whole(checkpoint):
        trainer._save_checkpoint(trainer.model, trial=None)
        check()
        mark_complete(checkpoint)
    return checkpoint


def _start_afresh(trainer: Any) -> None:
    """The next `train` makes its optimiser and schedule anew and loads their state from the checkpoint."""
    trainer.accelerator.free_memory()
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.model_wrapped = trainer.model
