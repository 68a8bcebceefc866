"""One decoder layer as one autograd node: forward and backward by hand, with a choice of what is computed again.

Covers the layer of llama, mistral without a window, and qwen2: norm, q/k/v, rotary, attention, o_proj, norm, SwiGLU,
with LoRA on any of the seven matrices. Matrices here are (tokens, width); documents are separated by `Segments`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from holdfast.train.attention import Heads, Segments, attend, attend_backward
from holdfast.train.elementwise import add_norm, norm_backward, rotate, swiglu, swiglu_backward
from holdfast.train.groups import Group
from holdfast.train.offload import HostStore
from holdfast.train.recompute import KEPT, Level


class Norm(NamedTuple):
    """RMSNorm: weight and epsilon."""

    weight: Tensor
    eps: float


class Batch(NamedTuple):
    """What all layers share in one pass: documents, and rotary angles (tokens, head width)."""

    segments: Segments
    cos: Tensor
    sin: Tensor


@dataclass
class FusedLayer:
    """The parts of one decoder layer. `level`, `store` and `mlp_tokens` come from the recompute policy."""

    index: int
    heads: Heads
    norm_in: Norm
    norm_mid: Norm
    qkv: Group
    o: Group
    gate_up: Group
    down: Group
    level: Level = "layer"
    mlp_tokens: int = 0
    store: HostStore | None = None
    parameters: tuple[torch.nn.Parameter, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = tuple(p for group in self.groups() for p in group.parameters)

    def groups(self) -> tuple[Group, Group, Group, Group]:
        """In the order of their parameters."""
        return self.qkv, self.o, self.gate_up, self.down

    def run(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(batch, length, hidden) to the same."""
        device = hidden.device.type
        with torch.autocast(device, enabled=False):
            rows = hidden.reshape(-1, hidden.shape[-1])
            return _Layer.apply(rows, self, batch, torch.is_grad_enabled(), *self.parameters).view(hidden.shape)

    def slices(self, tokens: int) -> list[slice]:
        """Token ranges that pass the MLP one after the other, of nearly equal size."""
        count = 1 if not self.mlp_tokens else -(-tokens // self.mlp_tokens)
        step = -(-tokens // count)
        return [slice(start, min(tokens, start + step)) for start in range(0, tokens, step)]


def _attention_input(layer: FusedLayer, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    """(normed x, q/k/v after rotary, x A^T)."""
    _, n = add_norm(x, None, *layer.norm_in, out=layer.qkv.room(x.shape[0]))
    qkv, xa = layer.qkv.forward(n, layer.qkv.weights())
    turned = qkv[:, : (layer.heads.query + layer.heads.key) * layer.heads.width]
    rotate(turned, turned, batch.cos, batch.sin, layer.heads.width)
    return n, qkv, xa


def layer_forward(layer: FusedLayer, x: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """(output, what the layer's level keeps for `layer_backward`)."""
    kept, keep = {"x": x}, KEPT[layer.level]
    n, qkv, xa = _attention_input(layer, x, batch)
    if "norms" in keep:
        kept["n_in"] = n
    if "qkv" in keep:
        _keep(kept, "xa_qkv", xa)
    del n, xa
    out, lse = attend(qkv, layer.heads, batch.segments)
    if "qkv" in keep:
        kept["qkv"] = qkv
    del qkv
    o, xa = layer.o.forward(out, layer.o.weights())
    _keep(kept, "xa_o", xa)
    h, n = add_norm(x, o, *layer.norm_mid, out=layer.gate_up.room(x.shape[0]))
    del o
    if "attention" in keep:
        kept |= {"out": out, "lse": lse, "h": h}
    if "norms" in keep:
        kept["n_mid"] = n
    del out
    y = h.clone() if "attention" in keep else h
    slices = [slice(0, x.shape[0])] if "gate_up" in keep else layer.slices(x.shape[0])
    w_gate_up, w_down = layer.gate_up.weights(), layer.down.weights()
    thins = []
    for part in slices:
        gate_up, xa = layer.gate_up.forward(n[part], w_gate_up)
        thins.append(layer.down.add_to(y[part], swiglu(gate_up), w_down))
        if "gate_up" in keep:
            kept["gate_up"] = gate_up
            _keep(kept, "xa_gate_up", xa)
        del gate_up, xa
    if thins[0] is not None:
        kept["xa_down"] = thins[0] if len(thins) == 1 else torch.cat([t for t in thins if t is not None])
    return y, kept


def _keep(kept: dict[str, Tensor], name: str, thin: Tensor | None) -> None:
    """Keep a thin product by itself: it may be a view into a wide buffer that must not live on with it."""
    if thin is not None:
        kept[name] = thin.contiguous()


class _Recomputed(NamedTuple):
    qkv: Tensor
    out: Tensor
    lse: Tensor
    h: Tensor
    n_mid: Tensor
    n_in: Tensor | None
    xa_qkv: Tensor | None


def _recompute(layer: FusedLayer, kept: dict[str, Tensor], batch: Batch) -> _Recomputed:
    x, n_in, xa = kept["x"], kept.get("n_in"), kept.get("xa_qkv")
    if "qkv" in kept:
        qkv = kept["qkv"]
    else:
        n_in, qkv, xa = _attention_input(layer, x, batch)
    if "out" in kept:
        out, lse, h = kept["out"], kept["lse"], kept["h"]
        n_mid = kept.get("n_mid")
        if n_mid is None:
            n_mid = add_norm(h, None, *layer.norm_mid, out=layer.gate_up.room(h.shape[0]))[1]
    else:
        n_in = None  # made again at the end: one norm costs less than its memory through the MLP
        xa = None if xa is None else xa.contiguous()
        out, lse = attend(qkv, layer.heads, batch.segments)
        o, _ = layer.o.forward(out, layer.o.weights())
        h, n_mid = add_norm(x, o, *layer.norm_mid, out=layer.gate_up.room(x.shape[0]))
    return _Recomputed(qkv, out, lse, h, n_mid, n_in, xa)


def _mlp_backward(
    layer: FusedLayer, kept: dict[str, Tensor], made: _Recomputed, dy: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """(gradient of the normed input, gradients of gate/up's adapters, of down's). Overwrites what it can."""
    w_gate_up, w_down = layer.gate_up.weights(), layer.down.weights()
    n = made.n_mid.clone() if "n_mid" in kept else made.n_mid  # becomes its own gradient, part by part
    for_gate_up: list[Tensor] = []
    for_down: list[Tensor] = []
    slices = [slice(0, n.shape[0])] if "gate_up" in kept else layer.slices(n.shape[0])
    for part in slices:
        if "gate_up" in kept:
            gate_up, xa = kept.pop("gate_up"), kept.get("xa_gate_up")
        else:
            gate_up, xa = layer.gate_up.forward(n[part], w_gate_up)
        thin = layer.down.thin(dy[part])
        product = layer.down.input_gradient(dy[part], thin, w_down)
        swiglu_backward(gate_up, product)
        xa_down = kept["xa_down"][part] if "xa_down" in kept else None
        _sum(for_down, layer.down.parameter_gradients(product, xa_down, dy[part], thin))
        del product
        thin = layer.gate_up.thin(gate_up)
        _sum(for_gate_up, layer.gate_up.parameter_gradients(n[part], xa, gate_up, thin))
        layer.gate_up.input_gradient(gate_up, thin, w_gate_up, out=n[part])
        del gate_up
    return n, for_gate_up, for_down


def _attention_gradient(layer: FusedLayer, made: _Recomputed, d_out: Tensor, batch: Batch) -> Tensor:
    """Gradient of q/k/v before rotary, side by side."""
    grads = attend_backward(d_out, made.qkv, made.out, made.lse, layer.heads, batch.segments)
    whole = torch.empty_like(made.qkv)
    parts = whole.split([g.shape[1] for g in grads], 1)
    for part, grad in zip(parts[:2], grads[:2], strict=True):
        rotate(grad, part, batch.cos, batch.sin, layer.heads.width, back=True)
    parts[2].copy_(grads[2])
    return whole


def layer_backward(
    layer: FusedLayer, kept: dict[str, Tensor], batch: Batch, dy: Tensor, *, need_dx: bool
) -> tuple[Tensor | None, list[Tensor]]:
    """(gradient of the input, gradients of `layer.parameters`)."""
    made = _recompute(layer, kept, batch)
    d_norm, for_gate_up, for_down = _mlp_backward(layer, kept, made, dy)
    dh = norm_backward(d_norm, made.h, layer.norm_mid.weight, layer.norm_mid.eps, dy)
    del d_norm
    thin = layer.o.thin(dh)
    for_o = layer.o.parameter_gradients(made.out, kept.get("xa_o"), dh, thin)
    d_out = layer.o.input_gradient(dh, thin, layer.o.weights())
    d_qkv = _attention_gradient(layer, made, d_out, batch)
    del d_out
    x = kept["x"]
    n_in = add_norm(x, None, *layer.norm_in)[1] if made.n_in is None else made.n_in
    thin = layer.qkv.thin(d_qkv)
    for_qkv = layer.qkv.parameter_gradients(n_in, made.xa_qkv, d_qkv, thin)
    dx = None
    if need_dx:
        d_norm = layer.qkv.input_gradient(d_qkv, thin, layer.qkv.weights())
        dx = norm_backward(d_norm, x, layer.norm_in.weight, layer.norm_in.eps, dh)
    return dx, [*for_qkv, *for_o, *for_gate_up, *for_down]


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FusedLayer, batch: Batch, training: bool, *parameters: Tensor) -> Tensor:
        y, kept = layer_forward(layer, x, batch)
        if not training:
            return y
        ctx.layer, ctx.batch = layer, batch
        ctx.kept = kept
        if layer.store is not None:
            layer.store.send(layer.index, kept)
            ctx.kept = None
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        layer: FusedLayer = ctx.layer
        kept = ctx.kept if layer.store is None else layer.store.fetch(layer.index)
        ctx.kept = None
        dx, gradients = layer_backward(layer, kept, ctx.batch, dy.contiguous(), need_dx=ctx.needs_input_grad[0])
        return dx, None, None, None, *gradients


def _sum(total: list[Tensor], more: list[Tensor]) -> None:
    if not total:
        total += more
    else:
        torch._foreach_add_(total, more)
