"""Triton kernels for what is memory-bound in a decoder layer. Imported only where there is a CUDA card.

Each kernel reads its inputs once and writes its outputs once; arithmetic is float32, storage keeps its type. The
torch functions with the same names in `elementwise.py` say what they compute.
"""

import triton
import triton.language as tl


@triton.jit
def add_norm(
    x, o, w, h, n, x_stride, o_stride, h_stride, n_stride, width, eps, ADD: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One row a program: h = x + o (when ADD), n = h / rms(h) * w."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(x + row * x_stride + column, mask=inside, other=0.0)
    if ADD:
        value = (value.to(tl.float32) + tl.load(o + row * o_stride + column, mask=inside, other=0.0).to(tl.float32)).to(
            x.dtype.element_ty
        )
        tl.store(h + row * h_stride + column, value, mask=inside)
    wide = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    weight = tl.load(w + column, mask=inside, other=0.0).to(tl.float32)
    normed = (wide * scale).to(x.dtype.element_ty).to(tl.float32) * weight
    tl.store(n + row * n_stride + column, normed.to(x.dtype.element_ty), mask=inside)


@triton.jit
def norm_backward(
    dn, h, w, residual, dh, n_stride, h_stride, r_stride, d_stride, width, eps, ADD: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One row a program: the gradient of h through its norm, plus the gradient that went around it (when ADD)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    wide = tl.load(h + row * h_stride + column, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(w + column, mask=inside, other=0.0).to(tl.float32)
    weighted = tl.load(dn + row * n_stride + column, mask=inside, other=0.0).to(tl.float32) * weight
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    normed = wide * scale
    grad = scale * (weighted - normed * (tl.sum(weighted * normed, axis=0) / width))
    if ADD:
        grad += tl.load(residual + row * r_stride + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(dh + row * d_stride + column, grad.to(h.dtype.element_ty), mask=inside)


@triton.jit
def swiglu(gu, m, gu_stride, m_stride, width, BLOCK: tl.constexpr):
    """m = silu(gate) * up, gate and up side by side in each row of gu."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    gate = tl.load(gu + row * gu_stride + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gu + row * gu_stride + width + column, mask=inside, other=0.0).to(tl.float32)
    act = (gate * tl.sigmoid(gate)).to(gu.dtype.element_ty).to(tl.float32)
    tl.store(m + row * m_stride + column, (act * up).to(gu.dtype.element_ty), mask=inside)


@triton.jit
def swiglu_backward(gu, dm, gu_stride, m_stride, width, BLOCK: tl.constexpr):
    """In place: gu becomes its gradient, dm becomes m again (the adapter of down_proj needs it)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    gate = tl.load(gu + row * gu_stride + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gu + row * gu_stride + width + column, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(dm + row * m_stride + column, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(gate)
    act = (gate * share).to(gu.dtype.element_ty).to(tl.float32)
    d_gate = grad * up * share * (1.0 + gate * (1.0 - share))
    tl.store(gu + row * gu_stride + column, d_gate.to(gu.dtype.element_ty), mask=inside)
    tl.store(gu + row * gu_stride + width + column, (grad * act).to(gu.dtype.element_ty), mask=inside)
    tl.store(dm + row * m_stride + column, (act * up).to(gu.dtype.element_ty), mask=inside)


@triton.jit
def rotate(
    src, dst, cos, sin, src_stride, dst_stride, angle_stride, heads, sign,
    HALF: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Rotary embedding of one token's heads; sign -1 turns back (the gradient)."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS)[:, None]
    column = tl.arange(0, HALF)[None, :]
    inside = head < heads
    c = tl.load(cos + row * angle_stride + column).to(tl.float32)
    s = tl.load(sin + row * angle_stride + column).to(tl.float32) * sign
    place = head * (2 * HALF) + column
    first = tl.load(src + row * src_stride + place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(src + row * src_stride + place + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(dst + row * dst_stride + place, (first * c - second * s).to(dst.dtype.element_ty), mask=inside)
    tl.store(dst + row * dst_stride + place + HALF, (second * c + first * s).to(dst.dtype.element_ty), mask=inside)


@triton.jit
def gather_rows(table, ids, out, width, BLOCK: tl.constexpr):
    """One row a program: out[row] = table[ids[row]]; the table may lie in pinned host memory."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    source = tl.load(ids + row).to(tl.int64)
    tl.store(out + row * width + column, tl.load(table + source * width + column, mask=inside), mask=inside)


@triton.jit
def nf4(
    packed, absmax, code, absmax2, code2, offset, out, count, width, out_stride,
    BLOCK_SIZE: tl.constexpr, BLOCK_SIZE2: tl.constexpr, NESTED: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """Unpack bitsandbytes NF4: two codes a byte (high half first), one scale a block, scales in 8 bits when NESTED."""
    start = tl.program_id(0) * BYTES
    at = start + tl.arange(0, BYTES)
    inside = at < count
    byte = tl.load(packed + at, mask=inside, other=0).to(tl.int32)
    block = at // (BLOCK_SIZE // 2)
    if NESTED:
        index = tl.load(absmax + block, mask=inside, other=0).to(tl.int32)
        scale = tl.load(code2 + index) * tl.load(absmax2 + block // BLOCK_SIZE2, mask=inside, other=0.0)
        scale += tl.load(offset)
    else:
        scale = tl.load(absmax + block, mask=inside, other=0.0)
    high = tl.load(code + (byte >> 4)) * scale
    low = tl.load(code + (byte & 15)) * scale
    value = tl.interleave(high, low)
    element = 2 * start + tl.arange(0, 2 * BYTES)
    row = element // width
    tl.store(
        out + row.to(tl.int64) * out_stride + (element - row * width),
        value.to(out.dtype.element_ty),
        mask=element < 2 * count,
    )


@triton.jit
def cross_entropy(
    logits, target, log_prob, entropy, top1, stride, width: tl.constexpr, GRAD: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One row a program: log p(target), entropy, whether the target is the largest; with GRAD logits become
    d log p(target) / d logits."""
    row = tl.program_id(0).to(tl.int64)
    base = logits + row * stride
    label = tl.load(target + row)
    most = -float("inf")
    total = 0.0
    weighted = 0.0
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        z = tl.load(base + column, mask=column < width, other=-float("inf")).to(tl.float32)
        above = tl.maximum(most, tl.max(z, axis=0))
        shrink = tl.exp(most - above)
        e = tl.exp(z - above)
        total = total * shrink + tl.sum(e, axis=0)
        weighted = weighted * shrink + tl.sum(tl.where(column < width, e * z, 0.0), axis=0)
        most = above
    chosen = tl.load(base + label).to(tl.float32)
    log_total = most + tl.log(total)
    tl.store(log_prob + row, chosen - log_total)
    tl.store(entropy + row, log_total - weighted / total)
    tl.store(top1 + row, chosen >= most)
    if GRAD:
        for start in range(0, width, BLOCK):
            column = start + tl.arange(0, BLOCK)
            z = tl.load(base + column, mask=column < width, other=-float("inf")).to(tl.float32)
            p = tl.exp(z - log_total)
            tl.store(
                base + column,
                (tl.where(column == label, 1.0, 0.0) - p).to(logits.dtype.element_ty),
                mask=column < width,
            )
