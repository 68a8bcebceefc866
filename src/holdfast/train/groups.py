"""Linear layers that read the same input, as one product: frozen weights plus low-rank adapters, gradients by hand.

For input x (tokens, inputs): y_i = x W_i^T + b_i + s_i (x A_i^T) B_i^T. The update is accumulated inside its product
(no separate scaling and addition), and only x has to be kept for the backward pass.
Idea of fusing the adapter into one node: https://arxiv.org/abs/2309.14717 and others; formulas are the chain rule.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from holdfast.train.weights import dequantize, dequantize_into, kind_of

Weights = list[tuple[slice, Tensor]]
# Where the adapter lies in a de-quantised matrix: beside it (more inputs: helps wide outputs), below it (more outputs:
# helps the gradient of wide inputs), or nowhere.
Widened = Literal["", "columns", "rows"]


class Part(NamedTuple):
    """One linear layer of a group: its output columns, and its adapter's columns in the thin product (None: no
    adapter). `b` is its B times its scale, in the compute type."""

    linear: Any
    rows: slice
    rank: slice | None
    scale: float
    b: Tensor | None


@dataclass(frozen=True)
class Group:
    """Linear layers with one input. `a` holds all A matrices (ranks, inputs); parameters are A, B, A, B … in order."""

    parts: tuple[Part, ...]
    inputs: int
    outputs: int
    dtype: torch.dtype
    a: Tensor | None
    bias: Tensor | None
    parameters: tuple[torch.nn.Parameter, ...]
    widened: Widened
    cache: dict[str, Tensor]
    keep_weights: bool = False

    def weights(self) -> Weights:
        """The matrices to multiply with: one for quantised layers (de-quantised side by side), else each its own."""
        if any(kind_of(part.linear) == "plain" for part in self.parts):
            return [(part.rows, dequantize(part.linear, self.dtype)) for part in self.parts]
        whole = self.cache.get("whole")
        if whole is None:
            ranks = 0 if self.a is None else self.a.shape[0]
            height = self.outputs + (ranks if self.widened == "rows" else 0)
            width = self.inputs + (ranks if self.widened == "columns" else 0)
            device = self.parts[0].linear.weight.device
            whole = torch.empty(height, width, dtype=self.dtype, device=device)
            for part in self.parts:
                dequantize_into(part.linear, whole[part.rows, : self.inputs])
            if self.keep_weights:
                self.cache["whole"] = whole
        self._write_adapter(whole)
        return [(slice(0, self.outputs), whole)]

    def _write_adapter(self, whole: Tensor) -> None:
        """The adapter beside (s B) or below (A) the frozen weights, so that one product computes both."""
        if self.widened == "rows" and self.a is not None:
            whole[self.outputs :].copy_(self.a)
        if self.widened == "columns":
            tail = whole[:, self.inputs :]
            if len(self.parts) > 1:
                tail.zero_()
            for part in self.parts:
                if part.b is not None and part.rank is not None:
                    tail[part.rows, part.rank].copy_(part.b)

    def room(self, tokens: int) -> Tensor:
        """An input buffer (tokens, inputs or more): `forward` needs its own columns beside the input's."""
        ranks = self.a.shape[0] if self.widened == "columns" and self.a is not None else 0
        return torch.empty(
            tokens, self.inputs + ranks, dtype=self.dtype, device=self.parts[0].linear.weight.device
        )[:, : self.inputs]  # fmt: skip

    def forward(self, x: Tensor, weights: Weights) -> tuple[Tensor, Tensor | None]:
        """(y, x A^T). When the group is widened by columns, x must lie in a buffer from `room`."""
        y = x.new_empty(x.shape[0], self.outputs)
        thin = None
        if self.widened == "columns" and self.a is not None:
            wide = x.as_strided((x.shape[0], x.stride(0)), (x.stride(0), 1))
            thin = wide[:, self.inputs :]
            torch.mm(x, self.a.t(), out=thin)
            x = wide
        for rows, weight in weights:
            used = weight[: self.outputs] if self.widened == "rows" else weight
            if self.bias is None:
                torch.mm(x, used.t(), out=y[:, rows])
            else:
                torch.addmm(self.bias[rows], x, used.t(), out=y[:, rows])
        return y, self._add_update(x, y) if self.widened != "columns" else thin

    def add_to(self, y: Tensor, x: Tensor, weights: Weights) -> Tensor | None:
        """y += the product, in place (the residual is added inside the product); returns x A^T. Not for groups widened
        by columns."""
        for rows, weight in weights:
            y[:, rows].addmm_(x, (weight[: self.outputs] if self.widened == "rows" else weight).t())
            if self.bias is not None:
                y[:, rows].add_(self.bias[rows])
        return self._add_update(x, y)

    def _add_update(self, x: Tensor, y: Tensor) -> Tensor | None:
        thin = self.project(x)
        for part in self.parts:
            if thin is not None and part.b is not None and part.rank is not None:
                y[:, part.rows].addmm_(thin[:, part.rank], part.b.t())
        return thin

    def project(self, x: Tensor) -> Tensor | None:
        """x A^T (tokens, ranks)."""
        return None if self.a is None else x @ self.a.t()

    def thin(self, dy: Tensor) -> Tensor | None:
        """s dy B, side by side (tokens, ranks): the gradient of x A^T."""
        if self.a is None:
            return None
        found = dy.new_empty(dy.shape[0], self.a.shape[0])
        for part in self.parts:
            if part.b is not None and part.rank is not None:
                torch.mm(dy[:, part.rows], part.b, out=found[:, part.rank])
        return found

    def parameter_gradients(self, x: Tensor, xa: Tensor | None, dy: Tensor, thin: Tensor | None) -> list[Tensor]:
        """dA, dB, dA, dB … in float32, in the order of `parameters`."""
        if xa is None or thin is None:
            return []
        da, found = _wide_product(thin.t(), x), []
        for part in self.parts:
            if part.rank is not None:
                db = _wide_product(dy[:, part.rows].t(), xa[:, part.rank])
                found += [da[part.rank], db.mul_(part.scale)]
        return found

    def input_gradient(self, dy: Tensor, thin: Tensor | None, weights: Weights, out: Tensor | None = None) -> Tensor:
        """dy W + (s dy B) A, into `out` when given."""
        dx = dy.new_empty(dy.shape[0], self.inputs) if out is None else out
        if self.widened == "rows" and thin is not None:
            wide = torch.cat([dy, thin], 1)
            return torch.mm(wide, weights[0][1], out=dx)
        weights = [(rows, weight[:, : self.inputs]) for rows, weight in weights]
        for index, (rows, weight) in enumerate(weights):
            if index == 0:
                torch.mm(dy[:, rows], weight, out=dx)
            else:
                dx.addmm_(dy[:, rows], weight)
        if thin is not None and self.a is not None:
            dx.addmm_(thin, self.a)
        return dx


def build_group(
    modules: list[Any],
    dtype: torch.dtype,
    *,
    widen: bool = False,
    keep_weights: bool = False,
) -> Group | None:
    """A group of layers (PEFT LoRA layers or bare ones); None when one of them does more than this file computes.

    widen: compute a wide product and its update at once (inputs then need a buffer from `room`).
    keep_weights: de-quantise once and keep the result (where memory is cheap: the CPU, or a card that has room).
    """
    if not all(_is_plain_lora(module) for module in modules):
        return None
    linears = [getattr(module, "base_layer", module) for module in modules]
    if any(kind_of(linear) is None for linear in linears):
        return None
    device, inputs = linears[0].weight.device, linears[0].in_features
    ranks = [_rank(module) for module in modules]
    a = torch.empty(sum(ranks), inputs, dtype=dtype, device=device) if any(ranks) else None
    parts, parameters, row, start = [], [], 0, 0
    for module, linear, rank in zip(modules, linears, ranks, strict=True):
        rows, row = slice(row, row + linear.out_features), row + linear.out_features
        if not rank or a is None:
            parts.append(Part(linear, rows, None, 0.0, None))
            continue
        b = torch.empty(linear.out_features, rank, dtype=dtype, device=device)
        pair = (module.lora_A["default"].weight, module.lora_B["default"].weight)
        scale = float(module.scaling["default"])
        parameters += list(pair)
        parts.append(Part(linear, rows, slice(start, start + rank), scale, b))
        start += rank
    widened: Widened = ""
    quantized = all(kind_of(linear) != "plain" for linear in linears)
    if widen and quantized and a is not None and a.shape[0] % 8 == 0 and row != inputs:  # 8: rows start at 16 bytes
        widened = "columns" if row > inputs else "rows"
    return Group(
        tuple(parts), inputs, row, dtype, a, _bias(linears, dtype), tuple(parameters), widened, {},
        keep_weights,
    )  # fmt: skip


@dataclass(frozen=True)
class Copies:
    """The adapters of many groups in the compute type, in one piece of memory: copied by a handful of kernels."""

    flat: Tensor | None
    parameters: tuple[torch.nn.Parameter, ...]
    scaled: tuple[tuple[float, tuple[Tensor, ...]], ...]

    def refresh(self) -> None:
        """Copy the parameters (float32) anew; before each forward pass."""
        if self.flat is None:
            return
        self.flat.copy_(torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters]))
        for scale, copies in self.scaled:
            torch._foreach_mul_(list(copies), scale)


def gather_copies(groups: list[Group]) -> Copies:
    """Move the copies of all groups into one piece of memory: each group's A matrices, then its B matrices."""
    found = [(group, group.a) for group in groups if group.a is not None]
    if not found:
        return Copies(None, (), ())
    total = sum(parameter.numel() for group, _ in found for parameter in group.parameters)
    flat = torch.empty(total, dtype=found[0][0].dtype, device=found[0][1].device)
    parameters: list[torch.nn.Parameter] = []
    scaled: dict[float, list[Tensor]] = {}
    offset = 0
    for group, a in found:
        bs = [(part.scale, part.b) for part in group.parts if part.b is not None]
        for copy in (a, *(b for _, b in bs)):
            copy.set_(flat.untyped_storage(), offset, copy.shape, copy.stride())
            offset += copy.numel()
        parameters += [*group.parameters[::2], *group.parameters[1::2]]
        for scale, b in bs:
            scaled.setdefault(scale, []).append(b)
    return Copies(flat, tuple(parameters), tuple((s, tuple(bs)) for s, bs in scaled.items() if s != 1.0))


def _bias(linears: list[Any], dtype: torch.dtype) -> Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    found = [
        torch.zeros(linear.out_features, device=linear.weight.device) if linear.bias is None else linear.bias.data
        for linear in linears
    ]
    return torch.cat([bias.to(dtype) for bias in found])


def _rank(module: Any) -> int:
    return int(module.r["default"]) if hasattr(module, "lora_A") and "default" in module.lora_A else 0


def _is_plain_lora(module: Any) -> bool:
    """One adapter named default, not merged, no dropout, no DoRA or other variant, no bias of its own."""
    if not hasattr(module, "lora_A"):
        return not hasattr(module, "base_layer")
    names = list(module.lora_A)
    if not names:
        return not module.merged
    dropout = dict(module.lora_dropout.items()).get("default")
    return (
        names == ["default"]
        and not module.merged
        and not module.disable_adapters
        and not module.lora_variant
        and module.lora_B["default"].bias is None
        and (dropout is None or isinstance(dropout, torch.nn.Identity) or dropout.p == 0)
    )


def _wide_product(left: Tensor, right: Tensor) -> Tensor:
    """A product of 16-bit matrices that leaves its sums in float32."""
    if left.is_cuda and left.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left @ right).float()
