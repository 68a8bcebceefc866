"""Memory of a merge with the widths of an 8 B model: a random Llama-3-8B checkpoint with fewer layers. One JSON line.

The merge holds one tensor at a time and its check one layer, so the peak is that of the widest tensor (the embedding of
128,256 tokens) and does not grow with the layers: --layers 32 is the whole model. Measured are the three things that
`export` does: the choice of the base (both bases, on validation answers), the merge, and the check of its logits. Peaks
are VmHWM: resident memory with the mapped pages of the weights. Exit 1 above the limit of 6 GB.

Run:  python bench/merge.py [--layers 4] [--folder DIR]     (4 layers: 8 GB of disk, some minutes)
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from random_weights import write_random_weights  # noqa: E402

HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY, RANK = 4096, 14336, 32, 8, 128_256, 16
LIMIT = 6_000_000_000
SHARDS = 4
PHASES = {
    "choose the base": "choose_base(base, adapter, talks, ('original', 'nf4'), 'nf4')",
    "merge": "merge_adapter(base, adapter, merged, kind='nf4')",
    "check": "check_merge(base, adapter, merged, [talk.input_ids for talk in talks], kind='nf4')",
}
CHILD = """
import json, re, sys, time
from pathlib import Path
from holdfast import models
models.go_offline()
import torch
from holdfast.export.base_choice import choose_base
from holdfast.export.merge import check_merge, merge_adapter
base, adapter, merged = map(Path, sys.argv[1:4])
torch.set_num_threads(int(sys.argv[4]))
talks = [models.TrainingTokens(list(range(n, n + 64)), [-100] * 32 + list(range(n + 32, n + 64))) for n in (5, 500)]
clock = time.monotonic()
WORK
status = Path("/proc/self/status").read_text()
kilobytes = {name: int(re.search(name + r":\\s+(\\d+)", status)[1]) for name in ("VmHWM", "RssAnon")}
print(json.dumps({"seconds": round(time.monotonic() - clock, 1), "peak_bytes": 1024 * kilobytes["VmHWM"]}))
"""


def main() -> int:
    """Make the model and the adapter, run each phase in a process of its own, print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where the model goes; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        parameters = make_model(folder / "base", options.layers)
        make_adapter(folder / "adapter", options.layers)
        places = [str(folder / name) for name in ("base", "adapter", "merged")]
        phases = {}
        for name, work in PHASES.items():
            command = [sys.executable, "-c", CHILD.replace("WORK", work), *places, str(options.threads)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            phases[name] = json.loads(done.stdout.splitlines()[-1])
        size = sum(file.stat().st_size for file in (folder / "merged").glob("*.safetensors"))
    peak = max(phase["peak_bytes"] for phase in phases.values())
    print(json.dumps({
        "bench": "merge", "widths": "Llama-3-8B", "layers": options.layers, "parameters": parameters,
        "merged_bytes": size, "largest_tensor_bytes": 2 * VOCABULARY * HIDDEN, "phases": phases, "peak_bytes": peak,
        "limit_bytes": LIMIT, "within": peak <= LIMIT,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "peft", "transformers")},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "platform": platform.platform()},
    }))  # fmt: skip
    return 0 if peak <= LIMIT else 1


def make_model(folder: Path, layers: int) -> int:
    """A Llama checkpoint with random bfloat16 weights in SHARDS files; returns the parameters."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "tie_word_embeddings": False, "rope_theta": 500000.0, "eos_token_id": 128_001, "torch_dtype": "bfloat16",
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')
    shapes = dict(_shapes(layers))
    names = list(shapes)
    places = {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        part = names[number * len(names) // SHARDS : (number + 1) * len(names) // SHARDS]
        write_random_weights(folder / file, {name: shapes[name] for name in part}, 0.02, number)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return sum(int(np.prod(shape)) for shape in shapes.values())


def make_adapter(folder: Path, layers: int) -> None:
    """A LoRA adapter on all linear layers, as PEFT saves it."""
    folder.mkdir()
    targets = [f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none",
              "target_modules": targets, "inference_mode": True, "base_model_name_or_path": "base"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    parts: dict[str, tuple[int, ...]] = {}
    for name, shape in _shapes(layers):
        if "_proj" in name:
            place = "base_model.model." + name.removesuffix(".weight")
            parts |= {f"{place}.lora_A.weight": (RANK, shape[1]), f"{place}.lora_B.weight": (shape[0], RANK)}
    write_random_weights(folder / "adapter_model.safetensors", parts, 0.01, 99)


def _shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    rows = HIDDEN // HEADS * KV_HEADS
    for number in range(layers):
        at = f"model.layers.{number}."
        for part, size in (("q", HIDDEN), ("k", rows), ("v", rows), ("o", HIDDEN)):
            yield f"{at}self_attn.{part}_proj.weight", (size, HIDDEN)
        for part in ("gate", "up"):
            yield f"{at}mlp.{part}_proj.weight", (FEED_FORWARD, HIDDEN)
        yield f"{at}mlp.down_proj.weight", (HIDDEN, FEED_FORWARD)
        for part in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}{part}.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


if __name__ == "__main__":
    sys.exit(main())
