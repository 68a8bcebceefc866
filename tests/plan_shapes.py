"""Shapes of public models, as in their config.json. Data for tests/unit/plan."""

import json
from pathlib import Path
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.plan.constants import GIB
from holdfast.plan.hardware import Gpu, Hardware
from holdfast.plan.shape import ModelShape, shape_of

_KEYS = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip

CONFIGS: dict[str, dict[str, Any]] = {
    name: dict(zip(_KEYS, values, strict=True))
    for name, values in {
        "Qwen2.5-7B": ("qwen2", 3584, 18944, 28, 28, 4, 152064, False),
        "Qwen2.5-0.5B": ("qwen2", 896, 4864, 24, 14, 2, 151936, True),
        "Llama-3-8B": ("llama", 4096, 14336, 32, 32, 8, 128256, False),
        "Llama-3.2-1B": ("llama", 2048, 8192, 16, 32, 8, 128256, True),
        "SmolLM2-135M": ("llama", 576, 1536, 30, 9, 3, 49152, True),
        "Mistral-7B-v0.1": ("mistral", 4096, 14336, 32, 32, 8, 32000, False),
        "Qwen3-0.6B": ("qwen3", 1024, 3072, 28, 16, 8, 151936, True),
        "gemma-2b": ("gemma", 2048, 16384, 18, 8, 1, 256000, None),
        "pebble-like": ("qwen2", 512, 1408, 5, 8, 2, 6144, True),
        "stack.md tiny": ("qwen2", 256, 768, 4, 8, 2, 4096, True),
    }.items()
}
CONFIGS["Qwen3-0.6B"]["head_dim"] = 128


def shape_named(name: str) -> ModelShape:
    return shape_of(CONFIGS[name], Path("config.json"))


def write_config(folder: Path, name: str) -> Path:
    (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
    return folder


def run_config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate({"name": "t", "collect": {"sources": [{"path": "x.jsonl"}]}, **sections})


def hardware_with(*, gpu_gib: float = 0, ram_gib: float = 64, disk_gib: float = 500) -> Hardware:
    total = int(gpu_gib * GIB)
    gpus = (Gpu("Test card", total, total, "580.1"),) if gpu_gib else ()
    ram, disk = int(ram_gib * GIB), int(disk_gib * GIB)
    return Hardware(gpus, ram, ram, "/runs", disk, cores=2)
