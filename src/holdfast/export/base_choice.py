"""Which base the adapter is merged into: the original weights, or those that the 4-bit model computed with.

An adapter trained on NF4 weights has also learned to undo some of their error, so neither is better by nature. Both are
run over the validation items, as they would be written, and the one with the lower loss on the answers is taken. The
loss of the answer tokens (teacher forcing) is a proper score and needs far fewer items than a share of right answers.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from holdfast.export.lora import read_adapter
from holdfast.export.merge import storage_type
from holdfast.export.streamed import Streamed
from holdfast.export.weights import BaseKind, base_weights, merged_weights

TOKENS = 32768  # and no more than these in all: the states of all items are kept between two layers
ITEMS = 40  # validation items at most; more cost time and hardly move the mean


class Talk(Protocol):
    """A conversation as token ids; `labels` is -100 where nothing is to be said (holdfast.models.TrainingTokens)."""

    @property
    def input_ids(self) -> list[int]: ...  # noqa: D102
    @property
    def labels(self) -> list[int]: ...  # noqa: D102


AnyTalk = TypeVar("AnyTalk", bound=Talk)


class AnswerLoss(NamedTuple):
    """Mean negative log-likelihood of the answers' tokens in nats, share of them that come first, their number."""

    loss: float
    token_accuracy: float
    tokens: int


NEAR = 0.01  # triage at 60 steps: 0.7 % less loss with the original base, but 5.8 points fewer right labels


class BaseChoice(NamedTuple):
    """`chosen` of the `measured` bases; `trained`: the loss of what was trained (base in its precision + adapter)."""

    chosen: BaseKind
    trained: AnswerLoss
    measured: Mapping[BaseKind, AnswerLoss]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        measured = {str(kind): loss._asdict() for kind, loss in self.measured.items()}
        return {"chosen": self.chosen, "trained": self.trained._asdict(), "measured": measured}


def at_most(talks: Sequence[AnyTalk], tokens: int = TOKENS) -> list[AnyTalk]:
    """The first conversations that have no more tokens together; the first one always."""
    sizes = accumulate(len(talk.input_ids) for talk in talks)
    return [talk for number, (talk, size) in enumerate(zip(talks, sizes, strict=True)) if size <= tokens or not number]


def choose_base(
    base: Path,
    adapter: Path,
    talks: Sequence[Talk],
    kinds: Sequence[BaseKind],
    trained_on: BaseKind,
    *,
    device: str = "cpu",
) -> BaseChoice:
    """Measure a merge into each of `kinds` on the conversations, and take the `better_base`.

    Nothing is written: the weights are made as a merged file would hold them, one layer at a time.
    """
    parts, dtype = read_adapter(adapter), storage_type(base)
    sources = {kind: merged_weights(base_weights(base, kind), parts, dtype) for kind in kinds}
    measured = {kind: answer_loss(Streamed(base, source, device=device), talks) for kind, source in sources.items()}
    trained = answer_loss(Streamed(base, base_weights(base, trained_on), adapter=adapter, device=device), talks)
    return BaseChoice(better_base(measured, trained_on), trained, measured)


def better_base(measured: Mapping[BaseKind, AnswerLoss], trained_on: BaseKind) -> BaseKind:
    """The one with the lower loss; within 1 % of it the one that was trained on: so few answers cannot tell them apart,
    and what was measured as tuned is nearest to it."""
    best = min(measured, key=lambda kind: measured[kind].loss)
    near = trained_on in measured and measured[trained_on].loss <= (1 + NEAR) * measured[best].loss
    return trained_on if near else best


def answer_loss(model: Streamed, talks: Sequence[Talk]) -> AnswerLoss:
    """How likely the reference answers are, token by token."""
    import torch

    total, right, count = 0.0, 0, 0
    wanted = [[at for at, label in enumerate(talk.labels[1:]) if label >= 0] for talk in talks]
    found = model.logits_in_pieces([talk.input_ids for talk in talks], wanted)
    for talk, pieces in zip(talks, found, strict=True):
        for places, logits in pieces:
            targets = torch.tensor([talk.labels[at + 1] for at in places], device=logits.device)
            total += float(torch.nn.functional.cross_entropy(logits.double(), targets, reduction="sum"))
            right += int((logits.argmax(-1) == targets).sum())
            count += len(places)
    return AnswerLoss(total / max(count, 1), right / max(count, 1), count)
