"""The input embedding in pinned host memory, where a step reads a few thousand of its rows over the bus.

With 150,000 tokens of width 3,584 the table takes 1 GiB of a card; a step of 1,024 tokens needs 7 MB of it. Only for
a table that is frozen and not tied to the head, which needs all of it in every step.
"""

import types
from typing import Any

import torch
from torch import Tensor

from holdfast.train.elementwise import gather_rows


def obstacle(model: Any) -> str | None:
    """Why the input embedding of a causal model has to stay where it is."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if type(embedding) is not torch.nn.Embedding:
        return f"the input embedding is a {type(embedding).__name__}"
    if embedding.weight.requires_grad:
        return "the input embedding is trained"
    if head is not None and head.weight.data_ptr() == embedding.weight.data_ptr():
        return "the input embedding is also the head"
    return None


def move_to_host(model: Any) -> str | None:
    """Move the table; or the reason why not. The module stays where it is, with the hooks that it has."""
    why = obstacle(model)
    if why is not None:
        return why
    embedding = model.get_input_embeddings()
    table = embedding.weight.detach()
    device = table.device
    if device.type == "cuda":
        held = torch.empty(table.shape, dtype=table.dtype, pin_memory=True)
        table = held.copy_(table)
    del embedding.weight  # no parameter any more: `.to(device)` must not bring it back
    embedding.weight = table
    embedding.forward = types.MethodType(_look_up, embedding)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _look_up(embedding: Any, ids: Tensor) -> Tensor:
    return gather_rows(embedding.weight, ids)
