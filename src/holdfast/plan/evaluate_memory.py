"""Bytes by component for answering and scoring test items in torch: `baseline`, `evaluate`, and of `verify` the merged
model.

The layers are PEFT's here, not holdfast's fused ones. Its adapters compute in float32 (PEFT 0.21 tuners/lora/layer.py),
so that an adapted product has two float32 copies of its output beside it, with DoRA four and two of its matrix; what is
live at once was counted tensor by tensor (tests/integration/test_evaluate_memory.py).
"""

from collections.abc import Callable

from holdfast.core.config import RunConfig, TrainConfig
from holdfast.plan.constants import constant
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import (
    Components,
    adapter_parameters,
    kv_bytes,
    target_linears,
    weight_bytes,
    with_process,
    workspace_bytes,
)
from holdfast.plan.shape import Linear, ModelShape

Layer = Callable[[int], int]  # tokens at once → most bytes that are live in a layer
MLP = ("gate_proj", "up_proj", "down_proj")


def evaluate_memory(shape: ModelShape, config: RunConfig, lengths: Lengths, *, on_gpu: bool) -> Components:
    """What `evaluate.batch_size` items at once need; the baseline needs less, it has no adapter."""
    wide = 2 if on_gpu else 4
    parts = {
        "weights": weight_bytes(shape, config.train.adapter, wide),
        "adapter": int(adapter_parameters(shape, config.train) * constant("adapter_bytes")),
        "workspace": workspace_bytes(shape, config.train.adapter, wide),
    }
    layer = adapted_layer(shape, config.train, wide)
    moments = (
        _reading(shape, config, lengths, wide, layer),
        _writing(shape, config, lengths, wide),
        _scoring(shape, lengths, config.evaluate.batch_size, wide, layer),
    )
    return _in_process(parts | max(moments, key=_total), on_gpu=on_gpu)


def merged_memory(shape: ModelShape, config: RunConfig, lengths: Lengths, *, on_gpu: bool) -> Components:
    """The merged model answering the test items, and scored at one reference at a time; no weight is quantised."""
    wide = 2 if on_gpu else 4
    layer = plain_layer(shape, wide)
    moments = (
        _reading(shape, config, lengths, wide, layer),
        _writing(shape, config, lengths, wide),
        _scoring(shape, lengths, 1, wide, layer),
    )
    return _in_process({"weights": weight_bytes(shape, "lora", wide)} | max(moments, key=_total), on_gpu=on_gpu)


def _in_process(parts: Components, *, on_gpu: bool) -> Components:
    if on_gpu:
        parts["product workspaces"] = int(constant("product_workspaces"))
    return with_process(parts, on_gpu=on_gpu)


def _total(parts: Components) -> int:
    return sum(parts.values())


def _reading(shape: ModelShape, config: RunConfig, lengths: Lengths, wide: int, layer: Layer) -> Components:
    """All prompts of a batch at once; only their last tokens are scored."""
    batch, prompt = config.evaluate.batch_size, lengths.longest_prompt
    return {
        "kv cache": kv_bytes(shape, batch * prompt, wide),
        "activations": layer(batch * prompt),
        "attention mask": batch * prompt * prompt * wide,
        "logits": batch * shape.vocabulary * (wide + 4),
    }


def _writing(shape: ModelShape, config: RunConfig, lengths: Lengths, wide: int) -> Components:
    """The last token of the longest answers: one layer's keys and values as a new copy, and repeated for all heads."""
    batch = config.evaluate.batch_size
    tokens = batch * (lengths.longest_prompt + config.evaluate.max_new_tokens)
    return {
        "kv cache": kv_bytes(shape, tokens, wide),
        "activations": tokens * wide * 2 * (shape.kv_width + shape.hidden),
        "logits": batch * shape.vocabulary * (wide + 4),
    }


def _scoring(shape: ModelShape, lengths: Lengths, rows: int, wide: int, layer: Layer) -> Components:
    """Reference answers: `rows` whole ones through the layers, then their scores (likelihood.py takes fewer at once
    where the answers are long)."""
    answer = lengths.longest_answer + 1
    batch = max(1, min(rows, int(constant("scored_positions")) // answer))
    tokens = batch * lengths.longest_test
    layers: Components = {"activations": layer(tokens), "attention mask": tokens * lengths.longest_test * wide}
    scores: Components = {
        "activations": 2 * tokens * shape.hidden * wide,
        "logits": int(batch * answer * wide + 8 * constant("scored_floats")) * shape.vocabulary,
    }
    return max(layers, scores, key=_total)


def plain_layer(shape: ModelShape, wide: int) -> Layer:
    """A layer without adapter: most is live in its MLP."""
    return lambda tokens: tokens * wide * (3 * shape.intermediate + 4 * shape.hidden)


def adapted_layer(shape: ModelShape, train: TrainConfig, wide: int) -> Layer:
    """A layer with adapters: most is live in its MLP, or where an adapter is added to a product."""
    plain, linears, add = plain_layer(shape, wide), target_linears(shape, train), _dora if train.use_dora else _lora
    cast = 4 if wide < 4 else 0  # the input in float32

    def live(tokens: int) -> int:
        beside = (
            tokens * (linear.columns * cast + wide * (3 * shape.hidden + shape.intermediate * (linear.name in MLP)))
            for linear in linears
        )
        return max(plain(tokens), *(at + add(linear, tokens, wide) for at, linear in zip(beside, linears, strict=True)))

    return live


def _lora(linear: Linear, tokens: int, wide: int) -> int:
    """The product, and two float32 copies of its size."""
    return tokens * linear.rows * (wide + 8)


def _dora(linear: Linear, tokens: int, wide: int) -> int:
    """The product; then, in float32, the identity that makes B A, or the norm's sum beside B A and the matrix, or these
    two beside four tensors of the product's size (PEFT 0.21 tuners/lora/dora.py)."""
    identity, norm = linear.columns**2 + linear.size, 4 * linear.size
    added = 2 * linear.size + 4 * tokens * linear.rows
    bias = tokens * linear.rows * wide if linear.bias else 0
    return tokens * linear.rows * wide + max(4 * identity, 4 * norm, 4 * added + bias)
