"""Convert a Hugging Face checkpoint (dense Llama, Mistral, Qwen2, Qwen3) to a GGUF file with 16-bit weights.

The tensors are byte for byte those of llama.cpp's own converter (v0.5.0, conversion/base.py and llama.py), in the
same order; tests/reference_gguf.py compares them. The checkpoint is mapped, a few slabs are in memory at a time.
Limits: no mixture of experts; sliding windows are not written, as there.
"""

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from holdfast.core.errors import ModelError
from holdfast.export.checkpoint import ARCHITECTURES, Architecture, Checkpoint, read_checkpoint, read_tensors
from holdfast.export.ggml import kernels
from holdfast.export.gguf_file import pad
from holdfast.export.vocabulary import add_vocabulary

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from gguf.utility import LocalTensor

SLAB_VALUES = 1 << 20  # values given to one thread at a time: 4 MiB of float32
AHEAD = 16  # slabs in the making
LARGEST_HALF = 65520.0  # float32 values from here on become infinite in float16
SourceType = Literal["F16", "BF16"]


class Entry(NamedTuple):
    """One tensor to write: GGUF name, where its bytes are, heads to permute by (0 = as it is)."""

    name: str
    source: "LocalTensor"
    heads: int


def convert_to_gguf(folder: Path, target: Path, *, name: str, kind: SourceType = "F16", threads: int = 0) -> int:
    """Write `target` from the checkpoint in `folder`; returns the number of tensors.

    `name` becomes general.name; matrices are stored as `kind`, vectors as float32. threads: 0 = one for each processor.
    Raises ModelError for what llama.cpp would not run as the model was trained.
    """
    from gguf import MODEL_ARCH_NAMES, GGUFWriter

    config = read_checkpoint(folder)
    architecture = ARCHITECTURES[config.architectures[0]]
    number = next(k for k, text in MODEL_ARCH_NAMES.items() if text == architecture.name)
    entries = _entries(folder, config, architecture, number)
    extra = _rope_factors(config) if config.rope["rope_type"] == "llama3" else None
    writer = GGUFWriter(target, architecture.name)
    try:
        if extra is not None:
            writer.add_tensor_info("rope_freqs.weight", extra.shape, extra.dtype, extra.nbytes)
        for entry in entries:
            _add_info(writer, entry, kind)
        _add_metadata(writer, config, architecture, name, kind)
        add_vocabulary(writer, folder, config.vocab_size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if extra is not None:
            writer.write_tensor_data(extra)
        out = (writer.fout or [])[0]
        pad(out)
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            for data, last in _in_order(pool, entries, kind):
                out.write(data.data)
                if last:
                    pad(out)
    finally:
        writer.close()
    return len(entries) + (extra is not None)


def _add_info(writer: "GGUFWriter", entry: Entry, kind: SourceType) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType

    shape = entry.source.shape
    matrix = len(shape) > 1
    stored = GGMLQuantizationType[kind] if matrix else GGMLQuantizationType.F32
    plain = np.dtype("float16" if matrix else "float32")
    writer.add_tensor_info(entry.name, shape, plain, math.prod(shape) * plain.itemsize, stored)


def _in_order(
    pool: ThreadPoolExecutor, entries: list[Entry], kind: SourceType
) -> "Iterator[tuple[np.ndarray[Any, Any], bool]]":
    """(values, last slab of its tensor?) in file order; a few slabs more than there are threads are in the making."""
    waiting: deque[tuple[Future[Any], bool]] = deque()
    for entry in entries:
        raw = _raw(entry)
        stored = kind if len(entry.source.shape) > 1 else "F32"
        for start in range(0, raw.size, SLAB_VALUES):
            part = raw[start : start + SLAB_VALUES]
            waiting.append((pool.submit(_slab, part, entry, stored), start + SLAB_VALUES >= raw.size))
            if len(waiting) > AHEAD:
                future, last = waiting.popleft()
                yield future.result(), last
    for future, last in waiting:
        yield future.result(), last


def _add_metadata(
    writer: "GGUFWriter", config: Checkpoint, architecture: Architecture, name: str, kind: SourceType
) -> None:
    """General and architecture keys, in the order of llama.cpp's converter."""
    from gguf import GGML_QUANT_VERSION, GGUFType, LlamaFileType, RopeScalingType, size_label

    writer.add_type(GGUFType.MODEL)
    writer.add_name(name)
    total, shared, expert, experts = writer.get_total_parameter_count()
    writer.add_size_label(size_label(total, shared, expert, experts))
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    if config.rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope["factor"])
    writer.add_rope_freq_base(float(config.rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.head_dim or architecture.name == "llama":
        writer.add_key_length(config.rotated)
        writer.add_value_length(config.rotated)
    writer.add_file_type(int(LlamaFileType[f"MOSTLY_{kind}"]))
    if architecture.name == "llama":
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(config.rotated)
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _entries(folder: Path, config: Checkpoint, architecture: Architecture, kind: Any) -> list[Entry]:
    """What to write, in the order of the files and of the names in them. Raises ModelError for a foreign tensor."""
    from gguf import get_tensor_name_map

    names = get_tensor_name_map(kind, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads or config.num_attention_heads}
    entries = []
    for name, source in read_tensors(folder).items():
        if name.endswith("rotary_emb.inv_freq") or (config.tie_word_embeddings and name == "lm_head.weight"):
            continue
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            raise ModelError(
                f"{folder}: tensor {name} has no place in llama.cpp's {architecture.name} architecture",
                hint="only dense models without extra heads can be converted",
            )
        module = name.rsplit(".", 2)[-2]
        entries.append(Entry(mapped, source, heads.get(module, 0) if architecture.permuted else 0))
    return entries


def _raw(entry: Entry) -> "np.ndarray[Any, Any]":
    """The values of one tensor in a row, as they are stored, mapped; permuted where llama.cpp wants it (a copy).

    Raises ModelError for a type that is not 16- or 32-bit.
    """
    import numpy as np

    types = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
    if entry.source.dtype not in types:
        raise ModelError(f"{entry.name} is stored as {entry.source.dtype}; known: {', '.join(types)}")
    raw = entry.source.mmap_bytes().view(types[entry.source.dtype])
    if entry.heads:
        raw = raw.reshape(entry.source.shape)
        raw = raw.reshape(entry.heads, 2, raw.shape[0] // entry.heads // 2, *raw.shape[1:]).swapaxes(1, 2)
    return raw.reshape(-1)


def _slab(part: "np.ndarray[Any, Any]", entry: Entry, stored: str) -> "np.ndarray[Any, Any]":
    """Some values in the type that is stored: F16, BF16 (as uint16) or F32.

    Raises ModelError for NaN and infinity, and for values beyond what float16 holds (65504).
    """
    import numpy as np

    part = np.ascontiguousarray(part)
    wide = np.empty(part.size, np.float32)
    if entry.source.dtype == "F32":
        wide = part
    elif entry.source.dtype == "F16":
        kernels().half_to_float(part.ctypes.data, wide.ctypes.data, part.size)
    else:
        kernels().brain_to_float(part.ctypes.data, wide.ctypes.data, part.size)
    limit = LARGEST_HALF if stored == "F16" else np.inf
    if not (wide.max() < limit and wide.min() > -limit):
        largest = float(np.abs(wide).max())
        raise ModelError(
            f"{entry.name} holds values that {stored} cannot (largest {largest:g}, limit 65504 for F16)",
            hint="look at the training log: a loss of NaN or a far too large learning rate makes such weights",
        )
    if stored == "F32" or stored == entry.source.dtype:
        return wide if stored == "F32" else part
    narrow = np.empty(part.size, np.uint16)
    convert = kernels().float_to_half if stored == "F16" else kernels().float_to_brain
    convert(wide.ctypes.data, narrow.ctypes.data, part.size)
    return narrow


def _rope_factors(config: Checkpoint) -> "np.ndarray[Any, Any]":
    """Llama 3's factor of each rotary frequency, float32 [head size / 2]; by torch, whose rounding is the reference."""
    import numpy as np
    import torch

    rope = config.rope
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    old = rope.get("original_max_position_embeddings", 8192)
    steps = torch.arange(0, config.rotated, 2, dtype=torch.float32) / config.rotated
    factors = []
    for frequency in 1.0 / (rope["rope_theta"] ** steps):
        length = 2 * math.pi / frequency
        smooth = (old / length - low) / (high - low)
        middle = 1 / ((1 - smooth) / rope["factor"] + smooth)
        factors.append(1.0 if length < old / high else rope["factor"] if length > old / low else middle)
    return np.asarray(torch.tensor(factors, dtype=torch.float32).numpy())
