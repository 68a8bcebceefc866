"""The element-wise work of a decoder layer: Triton on a card, plain torch elsewhere. All matrices are (tokens, width).

Rows may be strided, columns not. What is computed where: `kernels.py` for CUDA, the same formulas here for the CPU.
"""

import torch
from torch import Tensor

_SWIGLU_BLOCK = 1024
_NF4_BYTES = 1024
_LOSS_BLOCK = 4096


def add_norm(
    x: Tensor, o: Tensor | None, weight: Tensor, eps: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(h, n): h = x + o (x itself when o is None), n = h over its root mean square, times `weight` (RMSNorm)."""
    n = torch.empty_like(x) if out is None else out
    if not _on_card(x):
        h = x if o is None else x + o
        scale = torch.rsqrt(h.float().pow(2).mean(-1, keepdim=True) + eps)
        return h, n.copy_((h.float() * scale).to(h.dtype) * weight)
    from holdfast.train import kernels

    h = x if o is None else torch.empty_like(x)
    second = x if o is None else o
    kernels.add_norm[(x.shape[0],)](
        x, second, weight, h, n, x.stride(0), second.stride(0), h.stride(0), n.stride(0), x.shape[1], eps,
        ADD=o is not None, BLOCK=_power_of_2(x.shape[1]), num_warps=8,
    )  # fmt: skip
    return h, n


def norm_backward(dn: Tensor, h: Tensor, weight: Tensor, eps: float, residual: Tensor | None) -> Tensor:
    """Gradient of h: through its norm, plus `residual`, the gradient that went around it."""
    if not _on_card(h):
        wide = h.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        normed, weighted = wide * scale, dn.float() * weight.float()
        grad = scale * (weighted - normed * (weighted * normed).mean(-1, keepdim=True))
        return (grad if residual is None else grad + residual.float()).to(h.dtype)
    from holdfast.train import kernels

    dh = torch.empty_like(h)
    around = h if residual is None else residual
    kernels.norm_backward[(h.shape[0],)](
        dn, h, weight, around, dh, dn.stride(0), h.stride(0), around.stride(0), dh.stride(0), h.shape[1], eps,
        ADD=residual is not None, BLOCK=_power_of_2(h.shape[1]), num_warps=8,
    )  # fmt: skip
    return dh


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, of rows that hold gate and up side by side."""
    width = gate_up.shape[1] // 2
    if not _on_card(gate_up):
        return torch.nn.functional.silu(gate_up[:, :width]) * gate_up[:, width:]
    from holdfast.train import kernels

    m = gate_up.new_empty(gate_up.shape[0], width)
    grid = (gate_up.shape[0], -(-width // _SWIGLU_BLOCK))
    kernels.swiglu[grid](gate_up, m, gate_up.stride(0), m.stride(0), width, BLOCK=_SWIGLU_BLOCK)
    return m


def swiglu_backward(gate_up: Tensor, dm: Tensor) -> None:
    """In place: `gate_up` becomes its gradient, `dm` (the gradient of the product) becomes the product itself."""
    width = gate_up.shape[1] // 2
    if _on_card(gate_up):
        from holdfast.train import kernels

        grid = (gate_up.shape[0], -(-width // _SWIGLU_BLOCK))
        kernels.swiglu_backward[grid](gate_up, dm, gate_up.stride(0), dm.stride(0), width, BLOCK=_SWIGLU_BLOCK)
        return
    gate, up = gate_up[:, :width], gate_up[:, width:]
    share = torch.sigmoid(gate)
    act = gate * share
    product = act * up
    gate.copy_(dm * up * share * (1 + gate * (1 - share)))
    up.copy_(dm * act)
    dm.copy_(product)


def rotate(source: Tensor, target: Tensor, cos: Tensor, sin: Tensor, head_dim: int, *, back: bool = False) -> None:
    """Write the rotary embedding of `source` (tokens, heads x head_dim) into `target` (may be the same).

    cos, sin: (tokens, head_dim), both halves equal. `back` turns the other way: the gradient.
    """
    half, heads = head_dim // 2, source.shape[1] // head_dim
    if _on_card(source):
        from holdfast.train import kernels

        kernels.rotate[(source.shape[0],)](
            source, target, cos, sin, source.stride(0), target.stride(0), cos.stride(0), heads, -1.0 if back else 1.0,
            HALF=half, HEADS=_power_of_2(heads),
        )  # fmt: skip
        return
    sign = -1 if back else 1
    c, s = cos[:, None, :half], sin[:, None, :half] * sign
    first, second = source.reshape(-1, heads, 2, half).unbind(2)
    turned = torch.stack((first * c - second * s, second * c + first * s), 2)
    target.copy_(turned.reshape(-1, heads * head_dim))


def score_rows(logits: Tensor, target: Tensor, *, grad: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(log p(target), entropy, target is largest) of each row; with `grad` the logits become d log p / d logits."""
    if not _on_card(logits):
        log_p = torch.log_softmax(logits.float(), -1)
        chosen = log_p.gather(1, target[:, None])[:, 0]
        entropy, top1 = -(log_p.exp() * log_p).sum(-1), logits.argmax(-1) == target
        if grad:
            logits.copy_(log_p.exp_().neg_())
            logits[torch.arange(len(target)), target] += 1
        return chosen, entropy, top1
    from holdfast.train import kernels

    rows = len(target)
    log_prob, entropy = (torch.empty(rows, device=logits.device) for _ in range(2))
    top1 = torch.empty(rows, dtype=torch.bool, device=logits.device)
    kernels.cross_entropy[(rows,)](
        logits, target, log_prob, entropy, top1, logits.stride(0), width=logits.shape[1],
        GRAD=grad, BLOCK=_LOSS_BLOCK, num_warps=8,
    )  # fmt: skip
    return log_prob, entropy, top1


def gather_rows(table: Tensor, ids: Tensor) -> Tensor:
    """Rows `ids` (any shape) of a table on the host; on a card they are read from pinned memory, without waiting."""
    if not _on_card(ids):
        return torch.nn.functional.embedding(ids, table)
    from holdfast.train import kernels

    flat, width = ids.reshape(-1), table.shape[1]
    found = torch.empty(flat.numel(), width, dtype=table.dtype, device=ids.device)
    kernels.gather_rows[(flat.numel(),)](table, flat, found, width, BLOCK=_power_of_2(width), num_warps=8)
    return found.view(*ids.shape, width)


def unpack_nf4(packed: Tensor, state: object, out: Tensor) -> None:
    """De-quantise bitsandbytes NF4 into `out` (rows, columns), rows may be strided. CUDA only.

    state: bitsandbytes' QuantState; source of the layout: bitsandbytes 0.50 csrc/kernels.cu, kDequantizeBlockwise.
    """
    from holdfast.train import kernels

    nested = bool(state.nested)  # type: ignore[attr-defined]
    absmax, code = state.absmax, state.code  # type: ignore[attr-defined]
    second = state.state2 if nested else None  # type: ignore[attr-defined]
    kernels.nf4[(-(-packed.numel() // _NF4_BYTES),)](
        packed, absmax, code,
        second.absmax if second else absmax, second.code if second else code,
        state.offset if nested else absmax,  # type: ignore[attr-defined]
        out, packed.numel(), out.shape[1], out.stride(0),
        BLOCK_SIZE=state.blocksize,  # type: ignore[attr-defined]
        BLOCK_SIZE2=second.blocksize if second else 1, NESTED=nested, BYTES=_NF4_BYTES,
    )  # fmt: skip


def _on_card(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()
