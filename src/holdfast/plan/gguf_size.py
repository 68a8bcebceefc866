"""How large a GGUF file becomes: the type that llama.cpp gives each tensor, times its block size.

Block sizes are GGML's (ggml-common.h; the same numbers as gguf.GGML_QUANT_SIZES, which a test compares). The mix of
types follows llama.cpp's `llama_tensor_get_type` for dense models, which the quantiser of stage export repeats.
"""

from collections.abc import Iterator
from math import ceil

from holdfast.plan.constants import constant
from holdfast.plan.shape import ModelShape

# type: (weights in a block, bytes of a block)
BLOCKS = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34), "Q6_K": (256, 210), "Q5_K": (256, 176),
    "Q4_K": (256, 144), "Q5_0": (32, 22), "Q5_1": (32, 24),
}  # fmt: skip
_BASE = {"F16": "F16", "BF16": "BF16", "Q8_0": "Q8_0", "Q6_K": "Q6_K", "Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K"}
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def gguf_bytes(shape: ModelShape, quantization: str) -> int:
    """Size of the file in bytes, header included. `quantization` is one of F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M."""
    tensors = sum(rows * _row_bytes(kind, columns) for rows, columns, kind in _tensors(shape, quantization))
    small = shape.small_weights * BLOCKS["F32"][1]
    return int(tensors + small + shape.vocabulary * constant("gguf_vocabulary"))


def _tensors(shape: ModelShape, quantization: str) -> Iterator[tuple[int, int, str]]:
    """(rows, columns, type) of every matrix."""
    base = _BASE[quantization]
    head = base if base in ("F16", "BF16", "Q8_0") else "Q6_K"
    yield shape.vocabulary, shape.hidden, head if shape.tied else base
    if not shape.tied:
        yield shape.vocabulary, shape.hidden, head
    for layer in range(shape.layers):
        for linear in shape.linears:
            better = quantization in ("Q4_K_M", "Q5_K_M") and linear.name in ("v_proj", "down_proj")
            yield linear.rows, linear.columns, "Q6_K" if better and _more_bits(layer, shape.layers) else base


def _more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's `use_more_bits`: the first and last eighth of the layers, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _row_bytes(kind: str, columns: int) -> int:
    """Bytes of one row; a row that k-quants cannot divide by 256 takes their fallback type."""
    if columns % BLOCKS[kind][0]:
        kind = _FALLBACK.get(kind, "F16")
    if columns % BLOCKS[kind][0]:
        kind = "F16"
    weights, size = BLOCKS[kind]
    return ceil(columns / weights) * size
