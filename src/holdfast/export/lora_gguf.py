"""The adapter alone as a GGUF file, for `llama-server --lora`: one base model, many adapters.

The tensors are byte for byte those of llama.cpp's converter (v0.5.0, convert_lora_to_gguf.py);
tests/reference_gguf.py compares them. llama.cpp scales by alpha / r, so for rsLoRA the alpha written is alpha · √r
(its converter writes alpha, and the adapter is then too weak). What it cannot hold is refused: DoRA, replaced modules.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.errors import ModelError
from holdfast.export.checkpoint import ARCHITECTURES, read_checkpoint
from holdfast.export.lora import Adapter, Module, as_torch, read_adapter

if TYPE_CHECKING:
    import torch


def convert_adapter(base: Path, adapter: Path, target: Path, *, name: str) -> int:
    """Write the adapter to `target` as float32; returns the number of adapted weights.

    Needs only config.json of `base`. Raises ModelError for an adapter that llama.cpp cannot apply as PEFT does.
    """
    from gguf import GGML_QUANT_VERSION, MODEL_ARCH_NAMES, GGUFWriter, LlamaFileType, get_tensor_name_map

    config, parts = read_checkpoint(base), read_adapter(adapter)
    architecture = ARCHITECTURES[config.architectures[0]]
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads or config.num_attention_heads}
    kind = next(k for k, text in MODEL_ARCH_NAMES.items() if text == architecture.name)
    table = get_tensor_name_map(kind, config.num_hidden_layers)
    alpha = _one_alpha(parts)
    writer = GGUFWriter(target, architecture.name)
    try:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_name(name)
        writer.add_float32("adapter.lora.alpha", alpha)
        writer.add_file_type(int(LlamaFileType.ALL_F32))
        writer.add_quantization_version(GGML_QUANT_VERSION)
        for weight, module in parts.modules.items():
            mapped = table.get_name(weight, try_suffixes=(".weight",))
            if mapped is None or module.embedding:
                raise ModelError(f"{adapter}: llama.cpp has no place for an adapter of {weight}")
            turned = heads.get(weight.rsplit(".", 2)[-2], 0) if architecture.permuted else 0
            a, b = as_torch(module.a).float(), _permuted(as_torch(module.b).float(), turned)
            writer.add_tensor(f"{mapped}.lora_a", a.contiguous().numpy())
            writer.add_tensor(f"{mapped}.lora_b", b.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return len(parts.modules)


def _one_alpha(adapter: Adapter) -> float:
    """The alpha that makes llama.cpp's alpha / r the adapter's scaling; it has one alpha for all modules."""
    if adapter.replaced or any(module.magnitude is not None for module in adapter.modules.values()):
        what = "whole modules" if adapter.replaced else "DoRA magnitudes"
        raise ModelError(
            f"{adapter.folder} holds {what}, which llama.cpp cannot apply beside a base model",
            hint="--set export.lora_gguf=false; the merged files hold everything",
        )
    wanted = {_alpha(module) for module in adapter.modules.values()}
    if len(wanted) != 1:
        raise ModelError(
            f"{adapter.folder} has modules with {len(wanted)} different scalings (alpha_pattern, or rsLoRA with "
            "rank_pattern); llama.cpp has one alpha for all",
            hint="--set export.lora_gguf=false; the merged files hold everything",
        )
    return wanted.pop()


def _alpha(module: Module) -> float:
    return round(module.scaling * int(module.a.shape[0]), 9)


def _permuted(b: "torch.Tensor", heads: int) -> "torch.Tensor":
    """Rows from half rotation to interleaved, as for the weight itself."""
    return b.reshape(heads, 2, len(b) // heads // 2, -1).swapaxes(1, 2).reshape(b.shape) if heads else b
