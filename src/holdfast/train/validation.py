"""The validation loss when memory is short: the rows of a batch in pieces, the loss as of the whole batch.

The trainer's loss is a mean over batches. Another batch size would give another loss, another best checkpoint and
another early stop; pieces whose losses are weighted by their trained tokens give the same one. (Not quite with an 8-bit
base in PEFT's own layers: bitsandbytes chooses its outlier columns over all rows of a call. 0.2 % on pebble.)
"""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from holdfast.core.errors import DoesNotFitError
from holdfast.models import NOT_TRAINED

Inputs = dict[str, Any]


class InPieces:
    """Around a trainer's `prediction_step`: half as many rows at once each time memory ends.

    alone: false = other processes take part in each piece, so that all must begin again (processes.py does it, with
    fewer rows a step): then no more rows than a training step takes. report: called with what changed.
    """

    def __init__(self, trainer: Any, report: Callable[[dict[str, Any]], None], *, alone: bool = True) -> None:
        self.trainer, self.report, self.alone = trainer, report, alone
        self.changes: list[dict[str, Any]] = []
        self._prediction_step = trainer.prediction_step
        trainer.prediction_step = self.prediction_step

    def rows(self, batch: int) -> int:
        """How many of so many are taken at once."""
        least = self.changes[-1]["validation_rows"] if self.changes else batch
        return min(batch, least if self.alone else int(self.trainer.args.per_device_train_batch_size))

    def prediction_step(
        self, model: Any, inputs: Inputs, prediction_loss_only: bool, *args: Any, **named: Any
    ) -> tuple[Tensor | None, Any, Any]:
        """The trainer's step; its loss is a mean over the trained tokens of the batch. Raises DoesNotFitError when one
        row at a time is too much."""
        if not prediction_loss_only:  # nothing here asks for logits
            return self._prediction_step(model, inputs, prediction_loss_only, *args, **named)
        count = count_rows(inputs)
        while True:
            logged = self._logged()
            try:
                return self._loss(model, inputs, *args, **named), None, None
            except torch.OutOfMemoryError as error:
                if not self.alone:
                    raise
                what = str(error).splitlines()[0]
            # Outside the handler: the exception's frames hold the tensors of the pass that failed.
            self._take_back(logged)
            self._halve(self.rows(count), what)

    def _loss(self, model: Any, inputs: Inputs, *args: Any, **named: Any) -> Tensor:
        pieces = split_rows(inputs, self.rows(count_rows(inputs)))
        if len(pieces) == 1:
            loss: Tensor = self._prediction_step(model, inputs, True, *args, **named)[0]
            return loss
        counts = [int((piece["labels"][:, 1:] != NOT_TRAINED).sum()) for piece in pieces]
        logged = self._logged()
        losses = [self._prediction_step(model, piece, True, *args, **named)[0] for piece in pieces]
        self._log_once(logged, counts)
        return _mean(losses, counts)

    def _logged(self) -> dict[str, int]:
        """How many values of each of TRL's own measures there are (entropy, accuracy): one of each batch."""
        return {name: len(values) for name, values in self.trainer._metrics["eval"].items()}

    def _take_back(self, logged: dict[str, int]) -> None:
        for name, values in self.trainer._metrics["eval"].items():
            del values[logged.get(name, 0) :]

    def _log_once(self, logged: dict[str, int], counts: list[int]) -> None:
        """One value for the batch in the place of those of its pieces."""
        for name, values in self.trainer._metrics["eval"].items():
            first = logged.get(name, 0)
            if len(values) - first == len(counts):
                values[first:] = [_mean(values[first:], counts)]

    def _halve(self, taken: int, what: str) -> None:
        step = self.trainer.state.global_step
        if taken == 1:
            raise DoesNotFitError(
                f"validation after step {step} ran out of memory with one row at a time: {what}",
                hint="free the card from other processes (see nvidia-smi), or ask holdfast plan -c FILE for what fits",
            )
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.changes.append({"step": step, "validation_rows": taken // 2, "why": what})
        self.report(self.changes[-1])


def _mean(values: list[Any], counts: list[int]) -> Any:
    return sum(value * count for value, count in zip(values, counts, strict=True)) / max(1, sum(counts))


def count_rows(inputs: Inputs) -> int:
    """Documents in a batch: padded, one in each row, or in one row (TRL's padding-free collator)."""
    return len(inputs["cu_seq_lens_q"]) - 1 if "cu_seq_lens_q" in inputs else len(inputs["input_ids"])


def split_rows(inputs: Inputs, rows: int) -> list[Inputs]:
    """The batch in pieces of at most so many documents. input_ids (documents, tokens), or (1, all tokens) with
    cu_seq_lens_q, where each document begins and the last one ends."""
    found = count_rows(inputs)
    if found <= rows:
        return [inputs]
    cut = _cut_one_row if "cu_seq_lens_q" in inputs else _cut_rows
    return [cut(inputs, first, min(found, first + rows)) for first in range(0, found, rows)]


def _cut_rows(inputs: Inputs, first: int, end: int) -> Inputs:
    return {name: value[first:end] if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _cut_one_row(inputs: Inputs, first: int, end: int) -> Inputs:
    """What tells the documents apart is made anew (names as in transformers' DataCollatorWithFlattening)."""
    borders = inputs["cu_seq_lens_q"][first : end + 1]
    tokens, longest = slice(int(borders[0]), int(borders[-1])), int(borders.diff().max())
    names = ("input_ids", "labels", "position_ids", "seq_idx")
    piece: Inputs = {name: inputs[name][:, tokens] for name in names if name in inputs}
    if "seq_idx" in piece:
        piece["seq_idx"] = piece["seq_idx"] - piece["seq_idx"][0, 0]
    borders = borders - borders[0]
    return piece | {
        "cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest
    }  # fmt: skip
