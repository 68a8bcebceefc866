"""Attention over packed documents without any mask: torch's own varlen flash kernel on a card, SDPA elsewhere.

`register()` makes it a transformers attention ("holdfast_varlen"); `attend` and `attend_backward` are the same kernel
for the fused layer, which keeps queries, keys and values side by side. Documents are given by their bounds.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own abbreviation)
from torch import Tensor

NAME = "holdfast_varlen"
_CAUSAL: dict[str, Any] = {"dropout_p": 0.0, "is_causal": True}


class Segments(NamedTuple):
    """Documents in a batch flattened to one row: `bounds` int32 on the device, the first 0, the last all tokens."""

    bounds: Tensor
    longest: int


class Heads(NamedTuple):
    """Shape of an attention: query heads, key/value heads, width of a head, softmax scale."""

    query: int
    key: int
    width: int
    scale: float


def segments_of(shape: tuple[int, int], device: torch.device, named: dict[str, Any]) -> Segments:
    """From the trainer's `cu_seq_lens_q` and `max_length_q`, else from restarts of `position_ids`, else one document
    a row (right padding is harmless: nothing trained looks at it)."""
    bounds, longest = named.get("cu_seq_lens_q"), named.get("max_length_q")
    if bounds is not None and longest is not None:
        return Segments(bounds.to(device), int(longest))
    position = named.get("position_ids")
    rows, length = shape
    if position is None:
        return Segments(torch.arange(0, rows * length + 1, length, dtype=torch.int32, device=device), length)
    flat = position.expand(rows, length).reshape(-1)
    starts = torch.nonzero(flat == 0).reshape(-1)
    if starts.numel() == 0 or int(starts[0]) != 0:
        starts = torch.cat([starts.new_zeros(1), starts])
    ends = starts.new_tensor([rows * length])
    cuts = torch.cat([starts, ends]).to(torch.int32)
    return Segments(cuts, int(cuts.diff().max()))


def has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's flash kernel runs here: CUDA, compute capability 8.0 or newer, 16 bits."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def attend(qkv: Tensor, heads: Heads, segments: Segments) -> tuple[Tensor, Tensor]:
    """(output, log-sum-exp) of queries, keys and values side by side: (tokens, (query + 2 key) x width)."""
    q, k, v = _split(qkv, heads)
    if has_flash(qkv.device, qkv.dtype):
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            q, k, v, segments.bounds, segments.bounds, segments.longest, segments.longest,
            **_CAUSAL, return_debug_mask=False, scale=heads.scale,
        )  # fmt: skip
        return out.view(qkv.shape[0], -1), lse
    cuts = segments.bounds.tolist()
    parts = [_plain(q[s:e], k[s:e], v[s:e], heads) for s, e in zip(cuts, cuts[1:], strict=False) if e > s]
    return torch.cat(parts).view(qkv.shape[0], -1), qkv.new_empty(0)


def attend_backward(
    d_out: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, heads: Heads, segments: Segments
) -> tuple[Tensor, ...]:
    """The gradients of queries, keys and values (tokens, heads x width), from that of the output."""
    q, k, v = _split(qkv, heads)
    if has_flash(qkv.device, qkv.dtype):
        nothing = torch.zeros(2, dtype=torch.int64, device=qkv.device)
        grads = torch.ops.aten._flash_attention_backward(
            d_out.view(q.shape), q, k, v, out.view(q.shape), lse, segments.bounds, segments.bounds,
            segments.longest, segments.longest, **_CAUSAL, rng_state=nothing, unused=nothing, scale=heads.scale,
        )  # fmt: skip
        return tuple(g.reshape(qkv.shape[0], -1) for g in grads)
    whole = torch.empty_like(qkv)
    cuts = segments.bounds.tolist()
    for s, e in zip(cuts, cuts[1:], strict=False):
        if e == s:
            continue
        with torch.enable_grad():
            inputs = [x[s:e].detach().requires_grad_() for x in (q, k, v)]
            result = _plain(inputs[0], inputs[1], inputs[2], heads)
        grads = torch.autograd.grad(result, inputs, d_out[s:e].view(result.shape))
        whole[s:e] = torch.cat([g.reshape(e - s, -1) for g in grads], 1)
    return whole.split([n * heads.width for n in (heads.query, heads.key, heads.key)], 1)


def varlen_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **named: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (batch, heads, length, width) in, (batch, length, heads, width) out.

    Raises NotImplementedError with a key/value cache, dropout or a sliding window: training needs none of them.
    """
    batch, count, length, width = query.shape
    if key.shape[2] != length or dropout or sliding_window:
        raise NotImplementedError(f"{NAME}: no key/value cache, no attention dropout, no sliding window")
    heads = Heads(count, key.shape[1], width, width**-0.5 if scaling is None else scaling)
    named.pop("position_ids", None)
    segments = segments_of((batch, length), query.device, named)
    flat = [x.transpose(1, 2).reshape(batch * length, x.shape[1] * width) for x in (query, key, value)]
    out = _Varlen.apply(torch.cat(flat, 1), heads, segments)
    return out.view(batch, length, count, width), None


class _Varlen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: Heads, segments: Segments) -> Tensor:
        out, lse = attend(qkv, heads, segments)
        ctx.save_for_backward(qkv, out, lse, segments.bounds)
        ctx.heads, ctx.longest = heads, segments.longest
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None, None]:
        qkv, out, lse, bounds = ctx.saved_tensors
        segments = Segments(bounds, ctx.longest)
        grads = attend_backward(d_out.contiguous(), qkv, out, lse, ctx.heads, segments)
        return torch.cat(grads, 1), None, None


def register() -> str:
    """Make it known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, varlen_attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def _no_mask(*arguments: Any, **named: Any) -> None:
    return None


def _split(qkv: Tensor, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    tokens = qkv.shape[0]
    q, k, v = qkv.split([n * heads.width for n in (heads.query, heads.key, heads.key)], 1)
    return (
        q.view(tokens, heads.query, heads.width),
        k.view(tokens, heads.key, heads.width),
        v.view(tokens, heads.key, heads.width),
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, heads: Heads) -> Tensor:
    """One document, (tokens, heads, width)."""
    group = heads.query // heads.key
    if group > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=heads.scale)[0].transpose(0, 1)
