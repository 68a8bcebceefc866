"""One autograd node for each LoRA linear (NF4, 8-bit or 16-bit base): for layers that the fused layer does not cover.

The update is accumulated inside its product, and only the input is kept; see `groups.py` for the formulas.
"""

import types
from typing import Any

import torch
from torch import Tensor

from holdfast.train.groups import Group, build_group, gather_copies


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, *parameters: Tensor) -> Tensor:
        y, _ = group.forward(x, group.weights())
        ctx.save_for_backward(x)
        ctx.group = group
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        group: Group = ctx.group
        thin = group.thin(dy)
        gradients = group.parameter_gradients(x, group.project(x), dy, thin)
        dx = group.input_gradient(dy, thin, group.weights()) if ctx.needs_input_grad[0] else None
        return dx, None, *gradients


def fuse_linears(model: Any, dtype: torch.dtype, *, skip: tuple[Any, ...] = ()) -> list[Group]:
    """Replace the forward of every plain LoRA linear outside the modules in `skip`; returns a group for each.

    Layers with dropout, DoRA or several adapters keep PEFT's own forward.
    """
    hidden = {id(module) for outer in skip for module in outer.modules()}
    groups = []
    for module in model.modules():
        if id(module) in hidden or not hasattr(module, "lora_A") or not hasattr(module.base_layer, "in_features"):
            continue
        group = build_group([module], dtype)
        if group is None or not group.parameters:
            continue
        module.forward = types.MethodType(_forward_of(group), module)
        groups.append(group)
    if groups:
        copies = gather_copies(groups)
        model.register_forward_pre_hook(lambda *_: copies.refresh())
    return groups


def _forward_of(group: Group) -> Any:
    def forward(self: Any, x: Tensor, *args: Any, **named: Any) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).to(group.dtype)
            return _LoraLinear.apply(rows, group, *group.parameters).view(*x.shape[:-1], group.outputs)

    return forward
