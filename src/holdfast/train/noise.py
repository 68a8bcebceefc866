"""NEFTune (https://arxiv.org/abs/2310.05914): noise on the embeddings while training, as strong for packed rows.

The paper divides by the square root of length times width. transformers takes the length of the whole row, so that a
document packed among others gets a fraction of its noise; here each document counts by its own length.
"""

from typing import Any

import torch
from torch import Tensor


def add_noise(model: Any, alpha: float) -> None:
    """Put the noise behind the embeddings of a model that is called with `position_ids` when its rows are packed."""
    positions: list[Tensor | None] = [None]

    def look(module: Any, args: Any, named: dict[str, Any]) -> None:
        positions[0] = named.get("position_ids")

    def disturb(module: Any, args: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        strength = alpha / (lengths(output, positions[0]) * output.shape[-1]).sqrt()
        return output + torch.zeros_like(output).uniform_(-1, 1) * strength[..., None].to(output.dtype)

    model.register_forward_pre_hook(look, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(disturb)


def lengths(embedded: Tensor, positions: Tensor | None) -> Tensor:
    """(rows, tokens): how long the document of each token is; the whole row where nothing is packed.

    embedded: (rows, tokens, width); positions: (rows, tokens), 0 where a document begins.
    """
    shape = embedded.shape[:2]
    if positions is None:
        return torch.full(shape, float(shape[1]), device=embedded.device)
    document = (positions.expand(shape).reshape(-1) == 0).cumsum(0)
    counts = torch.zeros(document.numel() + 1, device=embedded.device)  # not bincount: that waits for the card
    return counts.index_add_(0, document, torch.ones_like(document, dtype=counts.dtype))[document].view(shape)
