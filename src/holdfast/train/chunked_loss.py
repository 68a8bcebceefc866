"""Log-probabilities of the labels without the full logits: only positions with a label, some rows at a time.

The gradient of the hidden states is taken in the same pass (one row's gradient needs nothing but that row), so the
head's product is computed once forward and once backward, and never kept. Head frozen: no gradient for its weight.
"""

import types
from typing import Any

import torch
from torch import Tensor

from holdfast.models import NOT_TRAINED
from holdfast.train.elementwise import score_rows

ROWS = 2048


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, training: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = []
        grad = torch.empty_like(hidden) if training else None
        for start in range(0, len(labels), ROWS):
            part = slice(start, start + ROWS)
            logits = hidden[part] @ weight.t()
            found.append(score_rows(logits, labels[part], grad=training))
            if grad is not None:
                torch.mm(logits, weight, out=grad[part])
            del logits
        if grad is not None:
            ctx.save_for_backward(grad)
        log_prob, entropy, top1 = (torch.cat(columns) for columns in zip(*found, strict=True))
        ctx.mark_non_differentiable(entropy, top1)
        return log_prob, entropy, top1

    @staticmethod
    def backward(ctx: Any, d_log_prob: Tensor, *others: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        return (grad * d_log_prob[:, None]).to(grad.dtype), None, None, None


def label_scores(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log p, entropy, is the label the largest logit) of each row: hidden (rows, width), labels (rows,).

    Only log p has a gradient, and only towards `hidden`.
    """
    training = torch.is_grad_enabled() and hidden.requires_grad
    with torch.autocast(hidden.device.type, enabled=False):
        return _LogProbs.apply(hidden, weight, labels, training)


def install(base: Any) -> None:
    """Replace the fused head that TRL gave the causal model `base` (https://huggingface.co/docs/trl, SFT) by this one.

    Same contract: `model(..., labels=..., fused_lm_head=True)` returns log_probs, entropy, is_top1 and label_mask;
    here the first three hold the labelled positions only. Other calls go to the forward that was there.
    """
    from trl.trainer.utils import FusedCausalLMOutput

    before = base.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Tensor | None = None, **named: Any) -> Any:
        if not fused_lm_head or labels is None:
            more = {} if labels is None else {"labels": labels}
            return before(*args, fused_lm_head=fused_lm_head, **more, **named)
        number = named.pop("num_items_in_batch", None)
        mask = labels[:, 1:] != NOT_TRAINED
        # The one wait for the device in a pass: here nothing is queued yet.
        places = torch.nonzero(mask.reshape(-1))[:, 0]
        places = places + places // mask.shape[1]  # the last position of each row has no next token
        targets = labels[:, 1:][mask]
        hidden = self.base_model(*args, **(named | {"use_cache": False})).last_hidden_state
        rows = hidden.reshape(-1, hidden.shape[-1])[places]
        if len(targets):
            log_prob, entropy, top1 = label_scores(rows, self.get_output_embeddings().weight, targets)
        else:  # a batch without labels is a differentiable zero
            log_prob = entropy = hidden.reshape(-1)[:0].float() + hidden.sum() * 0
            top1 = log_prob.bool()
        loss = -log_prob.sum() / (max(1, len(targets)) if number is None else number)
        return FusedCausalLMOutput(
            loss=loss, log_probs=log_prob, entropy=entropy, is_top1=top1, label_mask=mask
        )  # fmt: skip

    base.forward = types.MethodType(forward, base)
