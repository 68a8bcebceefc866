"""Every number of the plan that arithmetic alone does not give: name, value, unit, where it comes from.

A row is either a *format* fact (it follows from a file format or a library's source), *measured* (date and place),
or an *estimate* (nobody has measured it yet; a better number replaces it here and nowhere else).
"""

from typing import NamedTuple

MIB = 2**20
GIB = 2**30


class Constant(NamedTuple):
    """One number. `kind` is `format`, `measured` or `estimate`; `source` says where it can be checked."""

    name: str
    value: float
    unit: str
    kind: str
    source: str


_RUN = "2026-11-21, one H200, driver 580, torch 2.11: bench/train_gpu.py --cases bench/plan_cases.json"
_CARDS = "2026-11-21, one H200, driver 580, torch 2.11: bench/gpu_cards.py"
_H200 = "2026-11-20, one H200, driver 580, torch 2.11, shape of Qwen2.5-7B"

TABLE = (
    Constant("nf4_block", 64, "weights", "format", "bitsandbytes 0.50 Linear4bit: one 8-bit scale a block"),
    Constant("nf4_scale_block", 256, "scales", "format", "bitsandbytes 0.50 double quantisation: one float32 a block"),
    Constant("optimizer_8bit_block", 256, "values", "format", "bitsandbytes 0.50 8-bit optimisers: float32 a block"),
    Constant("loss_tile_tokens", 4096, "tokens", "format", "TRL 1.16 kernels/chunked_logprob.py TOKEN_CHUNK_SIZE"),
    Constant("loss_tile_vocabulary", 32768, "tokens", "format", "TRL 1.16 trainer/utils.py"),
    Constant("adapter_bytes", 4, "byte/parameter", "format", "LoRA weights are float32: exact resume needs it"),
    Constant("cuda_context", 885 * MIB, "byte", "measured", f"{_CARDS}: process less reserved, all kernels loaded"),
    Constant(
        "layer_values_hidden", 8, "x hidden", "measured",
        f"{_H200}: 79.3 GiB at 16k tokens without recompute = 28 layers x (8 hidden + 2 kv + 3 intermediate) x 2 bytes",
    ),
    Constant(
        "stock_layer_factor", 1.42, "ratio", "measured",
        f"{_H200}: TRL + varlen 8.80 GiB at 8k, 12.2 at 16k: 445 kB a token less 28 layer inputs, over a layer's 173",
    ),
    Constant("dora_values", 3, "float32/output", "estimate", "PEFT 0.21 tuners/lora/dora.py: products kept a token"),
    Constant("sdpa_mask", 9.4, "byte/token pair", "measured", f"{_H200}: 9.39 - 8.80 GiB at 8,192 packed tokens"),
    Constant(
        "loss_tile_copies_cpu", 10, "tiles", "measured",
        "2026-11-21, TRL 1.16 on CPU, 21 M parameters, 300 to 4,096 tokens: fitted to peaks of 0.73 to 1.87 GiB",
    ),
    Constant("scored_positions", 1024, "tokens", "format", "likelihood.py POSITIONS: logits of so many at once"),
    Constant("scored_floats", 64, "tokens", "format", "likelihood.py FLOATS: two float32 copies of their logits"),
    Constant("checked_rows", 40, "rows", "format", "export/base_choice.py ITEMS: validation rows at once"),
    Constant("checked_positions", 1024, "tokens", "format", "export/merge.py CHECKED_POSITIONS: logits that are kept"),
    Constant("streamed_piece", 64, "tokens", "format", "export/streamed.py PIECE: logits on the device, 20 bytes each"),
    Constant("streamed_tokens", 32768, "tokens", "format", "export/base_choice.py TOKENS, imatrix.py LARGEST_TOKENS"),
    Constant("loss_rows", 2048, "rows", "format", "train/chunked_loss.py ROWS: logits of so many rows at once"),
    Constant("cpu_unpacked_weights", 2**28, "weights", "format", "train/fast_path.py SMALL: kept unpacked on the CPU"),
    Constant("labelled_share", 2 / 3, "share", "estimate", "tokens with a label, until `prepare` has counted"),
    Constant("document_tokens", 350, "tokens", "estimate", "length of a document, until `prepare` has counted"),
    Constant(
        "document_padding", 128, "rows", "format",
        "flash attention's sums in float32 (backward, variable lengths): tokens + 128 for each document",
    ),
    Constant(
        "product_workspaces", 195e6, "byte", "measured",
        f"{_RUN}: first case of each process, peak less arithmetic: 164 to 212 MB (one 107)",
    ),
    Constant("cost_none", 1.0, "ratio", "measured", f"{_RUN}: 19.3k tokens/s; the other levels in proportion"),
    Constant("cost_cheap", 1.02, "ratio", "measured", f"{_RUN}: 19.38k tokens/s"),
    Constant("cost_mlp", 1.25, "ratio", "measured", f"{_RUN}: 15.50k tokens/s with offload"),
    Constant("cost_attention", 1.30, "ratio", "measured", f"{_RUN}: 14.87k tokens/s at 8k"),
    Constant("cost_layer", 1.33, "ratio", "measured", f"{_RUN}: 14.86k tokens/s"),
    Constant("cost_offload", 0.02, "ratio", "measured", f"{_RUN}: 14.55k against 14.86k tokens/s"),
    Constant("cost_host_embedding", 0.005, "ratio", "estimate", "7 kB a token over the bus, of a step's 60 us a token"),
    Constant("gain_keep_weights", 0.015, "ratio", "measured", f"{_RUN}: 12 ms of unpacking in a step of 840 ms"),
    Constant("step_overhead_graph", 640, "tokens", "measured", f"{_RUN}: 78 ms for 900 tokens, 46 of them work"),
    Constant("step_overhead", 900, "tokens", "measured", f"{_RUN}: 132 against 117 ms at 1k without the graph"),
    Constant(
        "nccl_buffers", 1000 * MIB, "byte", "measured",
        "2026-11-21, two H200, torch 2.11: bench/train_two.py: beside torch and the context fsdp 0.97, ddp 0.70 GiB",
    ),
    Constant(
        "fragmentation", 0.04, "share", "measured",
        f"{_CARDS} --tight (bench/results): 8B at 8k trains with 4 % more than its peak, not with 2 %",
    ),
    Constant(
        "process_train", 0.75 * GIB, "byte", "estimate",
        "2026-11-21, torch 2.13+cpu: 516 MiB resident after all imports; rounded up by half",
    ),
    Constant("process_cuda", 3.0 * GIB, "byte", "estimate", "resident host memory of a CUDA process with the same"),
    Constant("process_light", 0.25 * GIB, "byte", "estimate", "resident Python with numpy and gguf, or llama.cpp"),
    Constant("serve_batch", 512, "tokens", "format", "llama.cpp n_ubatch: one batch of float32 logits and activations"),
    Constant("gguf_vocabulary", 40, "byte/token", "estimate", "tokens, types and merges in a GGUF header"),
    Constant("tokenizer_files", 12 * MIB, "byte", "estimate", "tokenizer beside each checkpoint and the merged model"),
)  # fmt: skip

_VALUES = {row.name: row.value for row in TABLE}


def constant(name: str) -> float:
    """The value of one row of the table."""
    return _VALUES[name]
