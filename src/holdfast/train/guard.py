"""Stops a training whose loss breaks: which step, which rows, which checkpoint is still good.

The loss of a step is looked at when the next one begins, so that the card is never waited for; a checkpoint is only
kept once the losses up to it have been looked at.
"""

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from holdfast.core.errors import StageError
from holdfast.models import TrainingTokens
from holdfast.train.checkpoints import whole_checkpoints

SEEN_BEFORE_SPIKES = 20
SPIKE = 5.0  # times the median of the last losses, and at least as many nats above it


class _Pending(NamedTuple):
    step: int
    loss: Any
    inputs: dict[str, Any]


class LossGuard:
    """Around a trainer's `training_step`. `rows` are the training rows as they lie in train.jsonl."""

    def __init__(self, trainer: Any, rows: Sequence[TrainingTokens], folder: Path) -> None:
        self.trainer, self.rows, self.folder = trainer, rows, folder
        self.recent: deque[float] = deque(maxlen=64)
        self.pending: _Pending | None = None
        self.last: _Pending | None = None
        self._training_step = trainer.training_step
        trainer.training_step = self.training_step

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **named: Any) -> Any:
        """The trainer's step, after a look at the step before."""
        self.check()
        shown: dict[str, Any] = {
            name: inputs[name] for name in ("input_ids", "position_ids", "attention_mask") if name in inputs
        }
        loss = self._training_step(model, inputs, *args, **named)
        self.pending = _Pending(self.trainer.state.global_step + 1, loss, shown)
        return loss

    def check(self) -> None:
        """Raises StageError when the last loss is not finite or has jumped."""
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        self.last = pending
        loss = float(pending.loss)
        usual = median(self.recent) if len(self.recent) >= SEEN_BEFORE_SPIKES else None
        if not math.isfinite(loss):
            self._stop(pending, f"the loss is {loss} at step {pending.step}")
        if usual is not None and loss > max(SPIKE * usual, usual + SPIKE):
            self._stop(
                pending,
                f"the loss jumped to {loss:.3f}, the median of the last {len(self.recent)} is {usual:.3f} at step "
                f"{pending.step}",
            )
        self.recent.append(loss)

    def check_weights(self) -> None:
        """Like `check`, and when the last update has left a weight that is no finite number: the loss that would show
        it belongs to the next step, and after the last step there is none."""
        self.check()
        found = [p.detach().isfinite().all() for p in self.trainer.model.parameters() if p.requires_grad]
        broken = len(found) - int(torch.stack(found).sum())
        if broken:
            step = self.trainer.state.global_step
            self._stop(self.last, f"{broken} of {len(found)} adapter tensors hold NaN or Inf after step {step}")

    def check_validation(self, loss: float) -> None:
        """Raises StageError when the validation loss is no finite number: nothing could be told from it."""
        self.check_weights()
        if not math.isfinite(loss):
            self._stop(self.last, f"the validation loss is {loss} after step {self.trainer.state.global_step}")

    def forget(self) -> None:
        """Drop the step that was aborted."""
        self.pending = None

    def _stop(self, batch: _Pending | None, what: str) -> None:
        lines = rows_of(batch.inputs, self.rows) if batch is not None else []
        shown = ", ".join(str(line) for line in lines[:20]) + (" …" if len(lines) > 20 else "")
        good = whole_checkpoints(self.folder)
        raise StageError(
            f"training diverged: {what}; rows of that batch: train.jsonl lines {shown or 'unknown'}; "
            f"last good checkpoint: {good[0].name if good else 'none'}",
            hint=f"look at those rows (holdfast preview), or lower train.learning_rate (now "
            f"{self.trainer.args.learning_rate:g}), then run again",
        )


def rows_of(inputs: dict[str, Any], rows: Sequence[TrainingTokens]) -> list[int]:
    """Line numbers (from 1) of the documents in a batch, packed or padded; found by their tokens."""
    ids = inputs["input_ids"].tolist()
    documents: list[list[int]] = []
    if "attention_mask" in inputs:
        lengths = inputs["attention_mask"].sum(-1).tolist()
        documents = [row[: int(length)] for row, length in zip(ids, lengths, strict=True)]
    else:
        for row, positions in zip(ids, inputs["position_ids"].tolist(), strict=True):
            starts = [place for place, position in enumerate(positions) if position == 0]
            documents += [row[s:e] for s, e in zip(starts, [*starts[1:], len(row)], strict=True)]
    wanted = {tuple(document) for document in documents}
    return [line for line, row in enumerate(rows, 1) if tuple(row.input_ids) in wanted]
