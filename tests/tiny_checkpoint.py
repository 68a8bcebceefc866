"""Tiny deterministic Hugging Face checkpoints (and adapters) for tests: the same bytes on every machine.

Needs numpy only; adapters need torch. Weights come from a fixed integer generator (no library's random numbers), the
tokenizer is byte-level BPE with a few
hand-written merges. Random weights: good for plumbing and parity, useless for quality.
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' "
    "}}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MERGES = (
    "t h", "th e", "Ġ the", "i n", "e r", "a n", "o n", "r e", "Ġ a", "Ġ s", "s t", "c r", "i t", "c a", "l o", "w o",
    "1 2", "0 0", "Ġ i", "in g", "an d", "Ġa n", "h i", "g h", "hi gh", "lo w", "Ċ Ċ", "Ġ Ġ", "ĠĠ ĠĠ", "u s",
)  # fmt: skip
TARGETS = ("q_proj", "v_proj", "down_proj")
CLASSES = {
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mistral": "MistralForCausalLM",
}


def make_checkpoint(
    folder: Path, model_type: str = "qwen2", *, hidden: int = 256, layers: int = 2, tied: bool = False,
    dtype: str = "BF16", shards: int = 1, template: str = CHATML, rope: dict[str, Any] | None = None,
    bos: bool = False,
) -> Path:  # fmt: skip
    """Write a checkpoint with 320 embeddings, 8 heads and 2 key-value heads; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    split = r"\p{N}" if model_type.startswith("qwen") else r"\p{N}{1,3}"
    words = write_tokenizer(folder, SPLIT.replace("DIGITS", split), template=template, bos=bos)
    head = 64 if model_type in ("qwen3", "mistral") else hidden // 8
    config: dict[str, Any] = {
        "architectures": [CLASSES[model_type]], "model_type": model_type, "vocab_size": 320, "hidden_size": hidden,
        "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": 8, "hidden_act": "silu",
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied,
        "rope_parameters": rope or {"rope_theta": 1e6, "rope_type": "default"}, "bos_token_id": None,
        "eos_token_id": words["<|im_end|>"], "pad_token_id": words["<|endoftext|>"],
        "dtype": {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype], "transformers_version": "5.23.0",
    }  # fmt: skip
    if model_type in ("qwen3", "mistral"):
        config["head_dim"] = head
    if model_type == "mistral":
        config["sliding_window"] = None
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shapes = _shapes(model_type, hidden, layers, head, tied)
    tensors = {name: _values(number, shape, name) for number, (name, shape) in enumerate(shapes.items())}
    _write_shards(folder, tensors, dtype, shards)
    return folder


def make_adapter(base: Path, folder: Path, *, scale: float = 0.02, modules: tuple[str, ...] = TARGETS) -> Path:
    """A LoRA adapter whose B matrices are random (`scale` 0 = untrained)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=list(modules)))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale) if scale else torch.nn.init.zeros_(parameter)
    model.save_pretrained(folder)
    return folder


def digest_tensors(path: Path) -> str:
    """Digest of names, types, shapes and bytes of all tensors, in the order of the file."""
    import gguf

    digest = hashlib.sha256()
    for tensor in gguf.GGUFReader(path).tensors:
        digest.update(f"{tensor.name} {tensor.tensor_type.name} {[int(n) for n in tensor.shape]}\n".encode())
        digest.update(tensor.data.tobytes())
    return digest.hexdigest()


def write_tokenizer(folder: Path, split: str, *, template: str = CHATML, bos: bool = False) -> dict[str, int]:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja; returns the ids of all tokens."""
    words = [*_byte_letters(), *("".join(m.split()) for m in MERGES)]
    ids = {word: number for number, word in enumerate([*words, *SPECIAL])}
    steps = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
    ]
    first = {"SpecialToken": {"id": SPECIAL[0], "type_id": 0}}
    single, pair = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    post = {
        "type": "TemplateProcessing", "single": [first, single], "pair": [first, single, pair],
        "special_tokens": {SPECIAL[0]: {"id": SPECIAL[0], "ids": [ids[SPECIAL[0]]], "tokens": [SPECIAL[0]]}},
    }  # fmt: skip
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    document = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": ids[s], "content": s, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for s in SPECIAL
        ],
        "normalizer": None, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": post if bos else plain, "decoder": {**plain, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": "{1,3}" in split,  # as Llama 3: " an" is a word that no merges make
            "vocab": {word: ids[word] for word in words}, "merges": [m.split() for m in MERGES],
        },
    }  # fmt: skip
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "pad_token": SPECIAL[0],
        "bos_token": SPECIAL[0] if bos else None, "clean_up_tokenization_spaces": False, "model_max_length": 2048,
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(template)
    return ids


def _shapes(model_type: str, hidden: int, layers: int, head: int, tied: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (320, hidden), "model.norm.weight": (hidden,)}
    if not tied:
        shapes["lm_head.weight"] = (320, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        rows = {"q": 8 * head, "k": 2 * head, "v": 2 * head}
        for part, size in rows.items():
            shapes[f"{at}self_attn.{part}_proj.weight"] = (size, hidden)
            if model_type == "qwen2":
                shapes[f"{at}self_attn.{part}_proj.bias"] = (size,)
        shapes[f"{at}self_attn.o_proj.weight"] = (hidden, 8 * head)
        if model_type == "qwen3":
            shapes[f"{at}self_attn.q_norm.weight"] = shapes[f"{at}self_attn.k_norm.weight"] = (head,)
        for part in ("gate", "up"):
            shapes[f"{at}mlp.{part}_proj.weight"] = (2 * hidden, hidden)
        shapes[f"{at}mlp.down_proj.weight"] = (hidden, 2 * hidden)
        shapes[f"{at}input_layernorm.weight"] = shapes[f"{at}post_attention_layernorm.weight"] = (hidden,)
    return shapes


def _values(number: int, shape: tuple[int, ...], name: str) -> Any:
    """Sums of four hashed uniform numbers: nearly normal, and exact integer arithmetic until the last step."""
    count = int(np.prod(shape))
    state = np.arange(count * 4, dtype=np.uint64) + np.uint64((number + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for multiplier, shift in ((0xBF58476D1CE4E5B9, 30), (0x94D049BB133111EB, 27)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(multiplier)
    parts = (state ^ (state >> np.uint64(31))) >> np.uint64(48)
    centred = parts.reshape(count, 4).astype(np.int64).sum(1) - 2 * 65535
    values = (centred.astype(np.float32) * np.float32(0.05 / 37837)).reshape(shape)
    return values + np.float32(1) if "norm" in name else values


def _write_shards(folder: Path, tensors: dict[str, np.ndarray], dtype: str, shards: int) -> None:
    names = sorted(tensors)
    groups = [names[start::shards] for start in range(shards)]
    files = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
    files = ["model.safetensors"] if shards == 1 else files
    for file, group in zip(files, groups, strict=True):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        blobs = []
        offset = 0
        for name in group:
            blob = _encode(tensors[name], dtype)
            place = [offset, offset + len(blob)]
            header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": place}
            offset += len(blob)
            blobs.append(blob)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    if shards > 1:
        weights = {name: file for file, group in zip(files, groups, strict=True) for name in group}
        total = sum(t.nbytes for t in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weights}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _encode(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (rounded >> np.uint32(16)).astype(np.uint16).tobytes()
    return values.astype(np.float16 if dtype == "F16" else np.float32).tobytes()


def _byte_letters() -> list[str]:
    """The 256 letters that byte-level BPE uses for bytes (GPT-2's bytes_to_unicode)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(extra)) for b in range(256)]
