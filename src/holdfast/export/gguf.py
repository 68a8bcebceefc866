"""Convert a Hugging Face checkpoint (dense Llama, Mistral, Qwen2, Qwen3) to a GGUF file with 16-bit weights.

The tensors are byte for byte those of llama.cpp's own converter (v0.5.0, conversion/base.py and llama.py), in the
same order; tests/reference_gguf.py compares them. One tensor is in memory at a time.
Limits: byte-level BPE tokenizers (vocabulary.py), no mixture of experts; sliding windows are not written, as there.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import ModelError
from holdfast.export.checkpoint import ARCHITECTURES, Architecture, Checkpoint, read_checkpoint, read_tensors
from holdfast.export.vocabulary import add_vocabulary

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from gguf.utility import LocalTensor

CHUNK_VALUES = 1 << 24  # values widened to float32 at a time: 64 MiB


class Entry(NamedTuple):
    """One tensor to write: GGUF name, where its bytes are, heads to permute by (0 = as it is)."""

    name: str
    source: "LocalTensor"
    heads: int


def convert_to_gguf(folder: Path, target: Path, *, name: str) -> int:
    """Write `target` (F16) from the checkpoint in `folder`; returns the number of tensors.

    `name` becomes general.name. Peak memory is about the largest tensor in 16 bits.
    Raises ModelError for what llama.cpp would not run as the model was trained.
    """
    from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter

    config = read_checkpoint(folder)
    architecture = ARCHITECTURES[config.architectures[0]]
    kind = next(k for k, text in MODEL_ARCH_NAMES.items() if text == architecture.name)
    entries = _entries(folder, config, architecture, kind)
    extra = _rope_factors(config) if config.rope["rope_type"] == "llama3" else None
    writer = GGUFWriter(target, architecture.name)
    try:
        if extra is not None:
            writer.add_tensor_info("rope_freqs.weight", extra.shape, extra.dtype, extra.nbytes)
        for entry in entries:
            stored = _stored_type(entry)
            count = _count(entry.source.shape)
            size = 2 if stored == "float16" else 4
            raw = GGMLQuantizationType.F16 if size == 2 else GGMLQuantizationType.F32
            writer.add_tensor_info(entry.name, entry.source.shape, _dtype(stored), count * size, raw)
        _add_metadata(writer, config, architecture, name)
        add_vocabulary(writer, folder, config.vocab_size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if extra is not None:
            writer.write_tensor_data(extra)
        for entry in entries:
            writer.write_tensor_data(read_values(entry))
    finally:
        writer.close()
    return len(entries) + (extra is not None)


def _add_metadata(writer: "GGUFWriter", config: Checkpoint, architecture: Architecture, name: str) -> None:
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
    writer.add_file_type(int(LlamaFileType.MOSTLY_F16))
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


def read_values(entry: Entry) -> "np.ndarray[Any, Any]":
    """One tensor as it is stored: float16, or float32 when it has one dimension.

    Raises ModelError for a type that is not 16- or 32-bit, for NaN, and for values beyond what float16 holds (65504).
    """
    import numpy as np

    types = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
    if entry.source.dtype not in types:
        raise ModelError(f"{entry.name} is stored as {entry.source.dtype}; known: {', '.join(types)}")
    raw = entry.source.mmap_bytes().view(types[entry.source.dtype])
    raw = raw.reshape(entry.source.shape)
    if entry.heads:
        raw = raw.reshape(entry.heads, 2, raw.shape[0] // entry.heads // 2, *raw.shape[1:]).swapaxes(1, 2)
        raw = raw.reshape(entry.source.shape)
    flat = raw.reshape(-1)
    values = np.empty(flat.shape, _dtype(_stored_type(entry)))
    for start in range(0, flat.size, CHUNK_VALUES):
        part = flat[start : start + CHUNK_VALUES]
        if entry.source.dtype == "BF16":
            part = (part.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            values[start : start + part.size] = part
        if not np.isfinite(values[start : start + part.size]).all():
            largest = float(np.abs(part.astype(np.float32)).max())
            raise ModelError(
                f"{entry.name} holds values that float16 cannot (largest {largest:g}, limit 65504)",
                hint="look at the training log: a loss of NaN or a far too large learning rate makes such weights",
            )
    return values.reshape(entry.source.shape)


def _rope_factors(config: Checkpoint) -> "np.ndarray[Any, Any]":
    """Llama 3's factor of each rotary frequency, float32 [head size / 2]; by torch, whose rounding is the reference."""
    import math

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


def _stored_type(entry: Entry) -> str:
    return "float32" if len(entry.source.shape) <= 1 else "float16"


def _dtype(name: str) -> "np.dtype[Any]":
    import numpy as np

    return np.dtype(name)


def _count(shape: tuple[int, ...]) -> int:
    import math

    return math.prod(shape)
