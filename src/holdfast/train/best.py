"""The lowest validation loss: its checkpoint is kept and put back at the end; training stops when it falls no more.

Everything is told from the trainer's log, which every checkpoint holds: a resumed run stops where the whole one does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.core.config import TrainConfig
from holdfast.core.console import Console
from holdfast.train.checkpoints import is_whole

Log = Sequence[Mapping[str, Any]]


class Evaluation(NamedTuple):
    """One measurement of the validation loss."""

    step: int
    loss: float


def evaluations(log: Log) -> list[Evaluation]:
    """In the order of training; a step that was evaluated again after a resume counts once."""
    found = {int(row["step"]): float(row["eval_loss"]) for row in log if "eval_loss" in row}
    return [Evaluation(step, loss) for step, loss in sorted(found.items())]


def best_of(log: Log) -> Evaluation | None:
    """The lowest validation loss, the earliest of equal ones; None before the first evaluation."""
    return min(evaluations(log), key=lambda found: (found.loss, found.step), default=None)


def patience_is_over(log: Log, patience: int | None) -> bool:
    """Whether the last `patience` evaluations brought no lower loss than the best before them."""
    best = best_of(log)
    return patience is not None and best is not None and sum(e.step > best.step for e in evaluations(log)) >= patience


def take_finished(trainer: Any, checkpoint: Path | None, patience: int | None) -> bool:
    """When a checkpoint is the end of its run (it was stopped before its adapter was written): take its state.

    Trainer.train would go one step further. Returns whether nothing is left to train.
    """
    if checkpoint is None:
        return False
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if state.global_step < state.max_steps and not patience_is_over(state.log_history, patience):
        return False
    trainer.state = state
    _load(trainer, checkpoint)
    return True


class StopOrKeep(TrainerCallback):
    """After each evaluation: save what is the best so far, stop when patience is over."""

    def __init__(self, train: TrainConfig) -> None:
        self.train = train

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        best = best_of(state.log_history)
        if self.train.load_best_model_at_end and best is not None and best.step == state.global_step:
            control.should_save = True
        if patience_is_over(state.log_history, self.train.early_stopping_patience):
            control.should_training_stop = True


def restore_best(trainer: Any, folder: Path) -> Evaluation | None:
    """Put the adapter with the lowest validation loss back into the model; returns which one it is.

    A checkpoint that is gone or damaged is passed over for the next best one; None = the last state stays.
    """
    last = trainer.state.global_step
    for found in sorted(evaluations(trainer.state.log_history), key=lambda found: (found.loss, found.step)):
        if found.step == last:
            return found
        checkpoint = folder / f"checkpoint-{found.step}"
        if is_whole(checkpoint):
            _load(trainer, checkpoint)
            return found
    return None


def keep_what_is_best(trainer: Any, train: TrainConfig, folder: Path, console: Console) -> int:
    """The step whose adapter is in the model at the end: the last one, or the best one where that is asked for."""
    last, best = int(trainer.state.global_step), best_of(trainer.state.log_history)
    if last < trainer.state.max_steps and best is not None:
        console.say(f"  stopped early at step {last}: no validation loss below {best.loss:.4f} since step {best.step}")
    if not train.load_best_model_at_end:
        return last
    kept = restore_best(trainer, folder)
    if kept is None:
        console.warn("no checkpoint of an evaluated step is whole: the last state is kept")
        return last
    if kept != best and best is not None:
        console.warn(f"checkpoint-{best.step} (validation loss {best.loss:.4f}) is gone or damaged")
    console.say(f"  kept the adapter of step {kept.step} of {last}: validation loss {kept.loss:.4f}")
    return kept.step


def _load(trainer: Any, checkpoint: Path) -> None:
    set_peft_model_state_dict(trainer.model, load_file(checkpoint / "adapter_model.safetensors"))
