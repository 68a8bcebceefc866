"""Frozen weights of a linear layer as a matrix in the compute type, whatever bitsandbytes keeps them in."""

from typing import Any, Literal

import torch
from torch import Tensor

from holdfast.train.elementwise import unpack_nf4
from holdfast.train.shards import stored_weight

Kind = Literal["nf4", "int8", "plain"]


def kind_of(linear: Any) -> Kind | None:
    """How a linear layer (without its adapter) keeps its weights; None = in a way that is not known here."""
    name = type(linear).__name__
    if name == "Linear4bit":
        return "nf4" if linear.weight.quant_state is not None and linear.weight.quant_type == "nf4" else None
    if name == "Linear8bitLt":
        return "int8" if linear.weight.dtype == torch.int8 else None
    return "plain" if isinstance(linear, torch.nn.Linear) and linear.weight.is_floating_point() else None


def dequantize(linear: Any, dtype: torch.dtype) -> Tensor:
    """(outputs, inputs) in `dtype`; for a plain layer of that type its own weight."""
    if kind_of(linear) == "plain":
        return stored_weight(linear).to(dtype)
    out = torch.empty(linear.out_features, linear.in_features, dtype=dtype, device=linear.weight.device)
    dequantize_into(linear, out)
    return out


def dequantize_into(linear: Any, out: Tensor) -> None:
    """Write the weights of a 4-bit or 8-bit layer into `out` (outputs, inputs)."""
    if kind_of(linear) == "int8":
        row_scale = linear.state.SCB if linear.weight.SCB is None else linear.weight.SCB
        torch.mul(stored_weight(linear), row_scale.view(-1, 1) / 127, out=out)
    elif out.is_cuda:
        unpack_nf4(stored_weight(linear), linear.weight.quant_state, out)
    else:
        from bitsandbytes.functional import dequantize_4bit

        out.copy_(dequantize_4bit(stored_weight(linear), linear.weight.quant_state))
