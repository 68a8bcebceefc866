"""Quantise an F16 GGUF file to Q4_K_M, Q5_K_M, Q6_K or Q8_0 with the C code of llama.cpp.

The kernels are called in xllamacpp's library (ggml_quantize_chunk); which tensor gets which type is repeated here
from llama.cpp v0.5.0, src/llama-quant.cpp, for dense models without an importance matrix. The result is byte for byte
that of llama_model_quantize; tests/reference_gguf.py compares them. One tensor is in memory at a time.
"""

import ctypes
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import ModelError, StageError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader, GGUFWriter, ReaderTensor

CHUNK_VALUES = 1 << 21  # values given to one thread at a time: 8 MiB of float32


class Mix(NamedTuple):
    """`base`: type of most tensors. `more`: also give some layers' attn_v and ffn_down 6 bits (the _M in a name)."""

    base: str
    file_type: str
    more: bool


MIXES = {
    "Q4_K_M": Mix("Q4_K", "MOSTLY_Q4_K_M", more=True),
    "Q5_K_M": Mix("Q5_K", "MOSTLY_Q5_K_M", more=True),
    "Q6_K": Mix("Q6_K", "MOSTLY_Q6_K", more=False),
    "Q8_0": Mix("Q8_0", "MOSTLY_Q8_0", more=False),
}
BLOCK_VALUES = {"Q4_K": 256, "Q5_K": 256, "Q6_K": 256, "Q8_0": 32, "Q5_0": 32, "Q5_1": 32}
FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def quantize_gguf(source: Path, target: Path, quantization: str, *, threads: int = 0) -> None:
    """Write `target` from the F16 file `source`.

    quantization: Q4_K_M, Q5_K_M, Q6_K or Q8_0. threads: 0 = one for each processor; the bytes do not depend on it.
    Raises ModelError for a source that is not a 16- or 32-bit GGUF, StageError when the library lacks the kernels.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

    kernel = _kernel()
    reader = _open(source, GGUFReader)
    architecture = _value(reader, "general.architecture")
    shapes = {t.name: tuple(int(n) for n in t.shape) for t in reader.tensors}
    layers = int(_value(reader, f"{architecture}.block_count"))
    chosen = choose_types(shapes, quantization, layers, is_70b=_is_70b(reader, architecture, layers))
    writer = GGUFWriter(target, architecture)
    try:
        _copy_metadata(reader, writer, MIXES[quantization].file_type)
        plan = [(t, chosen[t.name] or t.tensor_type.name) for t in sorted(reader.tensors, key=lambda t: _order(t.name))]
        for tensor, name in plan:
            kind = GGMLQuantizationType[name]
            if kind == tensor.tensor_type:
                writer.add_tensor_info(tensor.name, tensor.data.shape, tensor.data.dtype, int(tensor.n_bytes), kind)
            else:
                shape = _byte_shape(tensor, name)
                writer.add_tensor_info(tensor.name, shape, _uint8(), shape[0] * shape[1], kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            for tensor, name in plan:
                same = name == tensor.tensor_type.name
                writer.write_tensor_data(tensor.data if same else _quantized(tensor, name, kernel, pool))
    finally:
        writer.close()


def count_types(path: Path) -> dict[str, int]:
    """How many tensors of each type a GGUF file has."""
    from gguf import GGUFReader

    return dict(sorted(Counter(t.tensor_type.name for t in GGUFReader(path).tensors).items()))


def choose_types(
    shapes: Mapping[str, tuple[int, ...]], quantization: str, layers: int, *, is_70b: bool = False
) -> dict[str, str | None]:
    """Type of each tensor by name; None = as it is. `shapes` are in ggml's order: columns first.

    is_70b: llama.cpp counts the model among those whose small attn_v it gives 5 bits instead of 4.
    """
    mix = MIXES[quantization]
    tied = "output.weight" not in shapes
    seen = {"attn_v": 0, "ffn_down": 0}
    totals = {"attn_v": sum(name.endswith("attn_v.weight") for name in shapes), "ffn_down": layers}
    chosen: dict[str, str | None] = {}
    for name in sorted(shapes, key=_order):
        shape = shapes[name]
        if len(shape) < 2 or not name.endswith("weight") or name.endswith("_norm.weight"):
            chosen[name] = None
            continue
        kind = mix.base
        part = name.split(".")[-2]
        if name == "output.weight" or (tied and name == "token_embd.weight"):
            kind = "Q8_0" if mix.base == "Q8_0" or shape[0] % BLOCK_VALUES[mix.base] else "Q6_K"
        elif part in seen:
            if mix.more and _wants_more_bits(seen[part], totals[part]):
                kind = "Q6_K"
            elif part == "attn_v" and kind == "Q4_K" and is_70b:
                kind = "Q5_K"
            seen[part] += 1
        if shape[0] % BLOCK_VALUES[kind]:
            kind = FALLBACKS.get(kind, kind)
        chosen[name] = "F16" if shape[0] % BLOCK_VALUES[kind] else kind
    return chosen


def _wants_more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's use_more_bits: the first and last eighth, and every third layer between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _order(name: str) -> tuple[int, str]:
    """llama.cpp's order of weights: by layer, then by name."""
    parts = name.split(".")
    return (int(parts[1]) if parts[0] == "blk" else -1, name)


def _quantized(tensor: "ReaderTensor", name: str, kernel: Any, pool: ThreadPoolExecutor) -> "np.ndarray[Any, Any]":
    """Bytes of one tensor, uint8 [rows, bytes of a row]; the kernel is run outside the GIL."""
    import numpy as np
    from gguf import GGMLQuantizationType

    rows, row_bytes = _byte_shape(tensor, name)
    columns = int(tensor.shape[0])
    values = tensor.data.reshape(rows, columns)
    out = np.empty((rows, row_bytes), np.uint8)
    step = max(1, CHUNK_VALUES // columns)

    def one(start: int) -> None:
        part = np.ascontiguousarray(values[start : start + step], np.float32)
        place = out[start : start + step]
        kind = int(GGMLQuantizationType[name])
        size = kernel(kind, part.ctypes.data, place.ctypes.data, 0, len(part), columns, None)
        if size != place.nbytes:
            raise StageError(f"quantising {tensor.name} to {name} gave {size} bytes, expected {place.nbytes}")

    list(pool.map(one, range(0, rows, step)))
    return out


def _byte_shape(tensor: "ReaderTensor", name: str) -> tuple[int, int]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    columns = int(tensor.shape[0])
    return int(tensor.n_elements) // columns, columns // block * size


def _copy_metadata(reader: "GGUFReader", writer: "GGUFWriter", file_type: str) -> None:
    """Every key of the source in its order, except the two that llama.cpp sets anew, which it puts last."""
    from gguf import GGML_QUANT_VERSION, GGUFValueType, LlamaFileType

    renewed = ("general.architecture", "general.file_type", "general.quantization_version")

    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in renewed:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, inner)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_file_type(int(LlamaFileType[file_type]))


def _open(source: Path, reader: "type[GGUFReader]") -> "GGUFReader":
    try:
        opened = reader(source)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{source} is no readable GGUF file: {error}", hint="holdfast export -c FILE makes it"
        ) from None
    foreign = {t.tensor_type.name for t in opened.tensors} - {"F16", "F32"}
    if foreign:
        raise ModelError(f"{source} holds {', '.join(sorted(foreign))}; only an F16 file can be quantised")
    return opened


def _is_70b(reader: "GGUFReader", architecture: str, layers: int) -> bool:
    """llama.cpp's LLM_TYPE_70B: 80 layers, and for Llama grouped heads (the 65B of Llama 1 had none)."""
    heads = [_value(reader, f"{architecture}.attention.{key}") for key in ("head_count", "head_count_kv")]
    return layers == 80 and (architecture == "qwen2" or (architecture == "llama" and heads[0] != heads[1]))


def _value(reader: "GGUFReader", key: str) -> Any:
    field = reader.fields.get(key)
    if field is None:
        raise ModelError(f"the GGUF file has no {key}", hint="holdfast export -c FILE makes it anew")
    return field.contents()


def _uint8() -> "np.dtype[Any]":
    import numpy as np

    return np.dtype("uint8")


@cache
def _kernel() -> Any:
    """ggml_quantize_chunk of the installed xllamacpp; its library is opened without starting anything in it."""
    found = util.find_spec("xllamacpp")
    folder = Path(found.origin).parent if found and found.origin else None
    libraries = sorted(folder.glob("xllamacpp*.so")) if folder else []
    if not libraries:
        raise StageError("xllamacpp is not installed, and it has the quantiser", hint="pip install xllamacpp")
    library = ctypes.CDLL(str(libraries[0]))
    if not hasattr(library, "ggml_quantize_chunk"):
        raise StageError(
            f"{libraries[0].name} does not export ggml_quantize_chunk", hint="pip install xllamacpp==2026.10.11549"
        )
    kernel = library.ggml_quantize_chunk
    kernel.restype = ctypes.c_size_t
    numbers = [ctypes.c_int64] * 3
    kernel.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *numbers, ctypes.c_void_p]
    return kernel
