"""Bytes by component for training. Evaluating is in evaluate_memory.py, the other phases are in phases.py.

Pure arithmetic on a ModelShape and a RunConfig. Every number that is not arithmetic comes from constants.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

from holdfast.core.config import RunConfig, TrainConfig
from holdfast.core.errors import ConfigError
from holdfast.plan.constants import constant
from holdfast.plan.fused_memory import Recompute, Widths, fused_activations, is_fused, is_varlen
from holdfast.plan.lengths import Lengths
from holdfast.plan.recompute_choice import least_memory
from holdfast.plan.several import accumulation, add_processes, process_count
from holdfast.plan.shape import Linear, ModelShape

Place = Literal["gpu", "ram", "disk"]
Components = dict[str, int]


@dataclass(frozen=True)
class Demand:
    """What one phase needs in one place: bytes by component."""

    phase: str
    place: Place
    components: Mapping[str, int]

    @property
    def total(self) -> int:
        """Sum of the components, bytes."""
        return sum(self.components.values())


def train_memory(
    shape: ModelShape,
    config: RunConfig,
    lengths: Lengths,
    rows: int,
    *,
    on_gpu: bool,
    policy: Recompute | None = None,
) -> Components:
    """Peak of one training step: `rows` rows packed to `sequence_len`, or padded to the longest row."""
    wide = 2 if on_gpu else 4
    tokens, pairs = batch_tokens(config, lengths, rows)
    adapter = adapter_parameters(shape, config.train)
    parts = {
        "weights": weight_bytes(shape, config.train.adapter, wide),
        "adapter": int(adapter * constant("adapter_bytes")),
        "optimizer": optimizer_bytes(adapter, config.train, on_gpu=on_gpu),
    }
    if on_gpu and is_fused(shape, config.train):
        chosen = policy or least_memory(shape, config.train)
        parts["weights"] -= wide * shape.movable_embedding if chosen.host_embedding else 0
        quantized = config.train.quantization != "none"
        accumulating = accumulation(config.train, rows) > 1
        parts |= fused_activations(
            shape, config.train, tokens, adapter, chosen, quantized=quantized, accumulating=accumulating,
            documents=batch_documents(config, lengths, rows), labelled=lengths.labelled,
        )  # fmt: skip
        return with_process(_of_one_process(parts, shape, config.train, wide), on_gpu=True)
    small = shape.linear_weights <= constant("cpu_unpacked_weights")
    if not on_gpu and config.train.quantization != "none" and small:
        parts["unpacked weights"] = wide * shape.linear_weights
    parts |= {
        "gradients": int(adapter * constant("adapter_bytes")),
        **activation_bytes(shape, config.train, tokens, on_gpu=on_gpu),
        "attention mask": 0 if on_gpu and is_varlen(shape, config.train) else int(pairs * constant("sdpa_mask")),
        "workspace": workspace_bytes(shape, config.train.adapter, wide),
    }
    if config.train.use_dora:
        parts["dora"] = dora_bytes(shape, config.train, tokens)
    if not on_gpu:
        parts |= adapter_copies(adapter, config.train, on_gpu=False)
    return with_process(_of_one_process(parts, shape, config.train, wide), on_gpu=on_gpu)


def _of_one_process(parts: Components, shape: ModelShape, train: TrainConfig, wide: int) -> Components:
    embedding = wide * (shape.embedding_weights + shape.small_weights)
    frozen = weight_bytes(shape, train.adapter, wide) - embedding
    largest = {linear.name: linear.size for linear in shape.linears}
    whole = nf4_bytes(shape.largest_linear)  # as it is stored; 16-bit matrices of an MLP are whole together
    if train.adapter != "qlora":
        whole = wide * (largest["gate_proj"] + largest["up_proj"] + largest["down_proj"])
    found = add_processes(parts, train, adapter_parameters(shape, train), frozen, whole)
    return found | ({"nccl buffers": int(constant("nccl_buffers"))} if wide == 2 and process_count(train) > 1 else {})


def offloaded(shape: ModelShape, config: RunConfig, tokens: int, policy: Recompute | None) -> Components:
    """Pinned host memory of the input embedding and of kept activations. torch pins powers of two
    (aten/src/ATen/core/CachingHostAllocator.h)."""
    chosen = policy or least_memory(shape, config.train)
    found = {"input embedding": _power_of_2(2 * shape.movable_embedding)} if chosen.host_embedding else {}
    if not chosen.offload:
        return found
    width = Widths.of(shape, config.train, quantized=config.train.quantization != "none")
    widths = width.tensors(chosen.level, config.train.lora_r)
    return found | {"offloaded activations": shape.layers * sum(_power_of_2(int(2 * tokens * w)) for w in widths)}


def _power_of_2(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()


def batch_tokens(config: RunConfig, lengths: Lengths, rows: int) -> tuple[int, int]:
    """Tokens in a micro-batch, and token pairs in its attention mask.

    TRL flattens packed rows into one row (`bfd` implies padding_free), so that the mask is square in all tokens.
    """
    if not config.train.sample_packing:
        return rows * lengths.longest, rows * lengths.longest**2
    tokens = rows * config.sequence_len
    tokens = tokens if lengths.total is None else min(tokens, lengths.total)
    return tokens, tokens**2


def batch_documents(config: RunConfig, lengths: Lengths, rows: int) -> int:
    """Documents in a micro-batch, at most."""
    found = rows * (lengths.most_documents(config.sequence_len) if config.train.sample_packing else 1)
    return found if lengths.rows is None else min(found, lengths.rows)


def nf4_bytes(weights: int) -> int:
    """NF4, double quantisation: 4 bits a weight, 8 bits a block of 64, 32 bits for 256 blocks: 0.516 bytes a weight."""
    blocks = ceil(weights / constant("nf4_block"))
    return ceil(weights / 2) + blocks + 4 * ceil(blocks / constant("nf4_scale_block"))


def weight_bytes(shape: ModelShape, adapter: str, wide: int) -> int:
    """The base model: NF4 matrices for `qlora`, bytes and row scales for `int8`; all else in `wide` bytes a weight."""
    if adapter == "int8":
        matrices = shape.layers * sum(linear.size + 4 * linear.rows for linear in shape.linears)
        return matrices + wide * (shape.embedding_weights + shape.small_weights)
    if adapter != "qlora":
        return wide * shape.parameters
    matrices = shape.layers * sum(nf4_bytes(linear.size) for linear in shape.linears)
    return matrices + wide * (shape.embedding_weights + shape.small_weights)


def adapter_parameters(shape: ModelShape, train: TrainConfig) -> int:
    """Trainable parameters: r x (inputs + outputs) for each target, and with DoRA one magnitude an output.

    Raises ConfigError for a module that is not there.
    """
    targets = target_linears(shape, train)
    magnitudes = sum(linear.rows for linear in targets) if train.use_dora else 0
    return shape.layers * (magnitudes + sum(train.lora_r * (linear.rows + linear.columns) for linear in targets))


def target_linears(shape: ModelShape, train: TrainConfig) -> list[Linear]:
    """The matrices of one layer that get an adapter. Raises ConfigError when one is not there, or there is none."""
    known = {linear.name: linear for linear in shape.linears}
    names = set(known) if train.lora_target_linear else set(train.lora_target_modules)
    if not names:
        raise ConfigError("train: nothing to adapt: lora_target_linear is false and lora_target_modules is empty")
    missing = sorted(names - set(known))
    if missing:
        raise ConfigError(
            f"train.lora_target_modules names {', '.join(missing)}; a {shape.family} model has {', '.join(known)}",
            hint="correct the names, or leave them out and set lora_target_linear: true",
        )
    return [linear for linear in shape.linears if linear.name in names]


def dora_bytes(shape: ModelShape, train: TrainConfig, tokens: int) -> int:
    """What DoRA adds to a step: the norm of the largest adapted matrix in float32 (an identity, B A, the sum), and
    float32 values of each output of the layers that are kept (one when they are computed again)."""
    targets = target_linears(shape, train)
    norm = max(linear.columns**2 + 2 * linear.size for linear in targets)
    kept = 1 if train.gradient_checkpointing else shape.layers
    return int(4 * (norm + constant("dora_values") * kept * tokens * sum(linear.rows for linear in targets)))


def optimizer_bytes(adapter: int, train: TrainConfig, *, on_gpu: bool) -> int:
    """Two moments a parameter. Paged states are counted here too: they are paged out only when the card is full."""
    if "8bit" in train.optimizer:
        return ceil(2 * adapter * (1 + 4 / constant("optimizer_8bit_block")))
    return 8 * adapter


def adapter_copies(adapter: int, train: TrainConfig, *, on_gpu: bool) -> Components:
    """What training keeps of the adapter in RAM besides weights, gradients and moments: the weights before the first
    update (train/retry.py), those that are written to a checkpoint, and on the CPU those that the fused layers use,
    twice while they are made anew (train/groups.py). Measured with r 4096 on pebble: 8.4 times the adapter in all."""
    one = int(adapter * constant("adapter_bytes"))
    fused = {} if on_gpu or train.kernels.use == "never" else {"adapter copies": 2 * one}
    return {"adapter as it began": one, "checkpoint": one, **fused}


def layer_bytes(shape: ModelShape, wide: int) -> int:
    """What one layer keeps for its backward pass for one token, at best (fused): (8 hidden + 2 kv + 3 intermediate)."""
    hidden = constant("layer_values_hidden") * max(shape.hidden, shape.heads * shape.head_dim)
    return int(wide * (hidden + 2 * shape.kv_width + 3 * shape.intermediate))


def activation_bytes(shape: ModelShape, train: TrainConfig, tokens: int, *, on_gpu: bool) -> Components:
    """Activations and logits at the peak of a step.

    With recompute each layer keeps its input; then comes the loss or the recomputed layer, never both at once:
    the larger one counts. Without recompute all layers are whole while the loss is taken.
    """
    wide = 2 if on_gpu else 4
    layer = int(tokens * layer_bytes(shape, wide) * constant("stock_layer_factor"))
    loss = loss_bytes(shape, tokens, wide, on_gpu=on_gpu)
    if not train.gradient_checkpointing:
        return {"activations": shape.layers * layer, "logits": loss}
    larger = {"logits": loss} if loss > layer else {"recomputed layer": layer}
    return {"activations": shape.layers * tokens * shape.hidden * wide, **larger}


def loss_bytes(shape: ModelShape, tokens: int, wide: int, *, on_gpu: bool) -> int:
    """TRL's tiled loss: one tile of logits, the last hidden states and their gradient; never tokens x vocabulary."""
    tile = min(tokens, constant("loss_tile_tokens")) * min(shape.vocabulary, constant("loss_tile_vocabulary")) * wide
    copies = 1 if on_gpu else constant("loss_tile_copies_cpu")
    return int(tile * copies + tokens * shape.hidden * (wide + 4))


def workspace_bytes(shape: ModelShape, adapter: str, wide: int) -> int:
    """The largest matrix, de-quantised for its product."""
    return 0 if adapter == "lora" else wide * shape.largest_linear


def kv_bytes(shape: ModelShape, tokens: int, wide: int) -> int:
    """Keys and values of `tokens` positions in all layers."""
    return shape.layers * 2 * shape.kv_width * tokens * wide


def with_process(parts: Components, *, on_gpu: bool) -> Components:
    """Add what the allocator cannot use again, and what the process itself takes (on a card: the CUDA context)."""
    parts["fragmentation"] = int(sum(parts.values()) * constant("fragmentation"))
    parts["cuda context" if on_gpu else "process"] = int(constant("cuda_context" if on_gpu else "process_train"))
    return parts
