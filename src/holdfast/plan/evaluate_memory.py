"""Bytes by component for answering and scoring test items in torch: `baseline`, `evaluate`, and of `verify` the merged
model.

The layers are PEFT's here, not holdfast's fused ones. Its adapters compute in float32 (PEFT 0.21 tuners/lora/layer.py),
so that an adapted product has two float32 copies of its output beside it; what is live at once was counted tensor by
tensor (tests/integration/test_evaluate_memory.py).
"""

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
from holdfast.plan.shape import ModelShape

MLP = ("gate_proj", "up_proj", "down_proj")


def evaluate_memory(shape: ModelShape, config: RunConfig, lengths: Lengths, *, on_gpu: bool) -> Components:
    """What `evaluate.batch_size` items at once need; the baseline needs less, it has no adapter."""
    wide = 2 if on_gpu else 4
    live = adapted_layer_bytes(shape, config.train, wide)
    parts = {
        "weights": weight_bytes(shape, config.train.adapter, wide),
        "adapter": int(adapter_parameters(shape, config.train) * constant("adapter_bytes")),
        "workspace": workspace_bytes(shape, config.train.adapter, wide) + norm_bytes(shape, config.train),
    }
    moments = (
        _reading(shape, config, lengths, wide, live),
        _writing(shape, config, lengths, wide),
        _scoring(shape, config, lengths, wide, live),
    )
    return with_process(parts | max(moments, key=_total), on_gpu=on_gpu)


def merged_memory(shape: ModelShape, config: RunConfig, lengths: Lengths, *, on_gpu: bool) -> Components:
    """The merged model answering the test items, none of its weights quantised."""
    wide = 2 if on_gpu else 4
    moments = (
        _reading(shape, config, lengths, wide, layer_bytes(shape, wide)),
        _writing(shape, config, lengths, wide),
    )
    return with_process({"weights": weight_bytes(shape, "lora", wide)} | max(moments, key=_total), on_gpu=on_gpu)


def _total(parts: Components) -> int:
    return sum(parts.values())


def _reading(shape: ModelShape, config: RunConfig, lengths: Lengths, wide: int, live: int) -> Components:
    """All prompts of a batch at once; only their last tokens are scored."""
    batch, prompt = config.evaluate.batch_size, lengths.longest_prompt
    return {
        "kv cache": kv_bytes(shape, batch * prompt, wide),
        "activations": batch * prompt * live,
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


def _scoring(shape: ModelShape, config: RunConfig, lengths: Lengths, wide: int, live: int) -> Components:
    """Reference answers: whole rows through the layers, then their scores (likelihood.py takes fewer rows at once
    where the answers are long)."""
    answer = lengths.longest_answer + 1
    batch = max(1, min(config.evaluate.batch_size, int(constant("scored_positions")) // answer))
    tokens = batch * lengths.longest_test
    layers: Components = {"activations": tokens * live, "attention mask": tokens * lengths.longest_test * wide}
    scores: Components = {
        "activations": 2 * tokens * shape.hidden * wide,
        "logits": int(batch * answer * wide + 8 * constant("scored_floats")) * shape.vocabulary,
    }
    return max(layers, scores, key=_total)


def layer_bytes(shape: ModelShape, wide: int) -> int:
    """Most bytes a token that live at once in a layer without adapter: in its MLP."""
    return wide * (3 * shape.intermediate + 4 * shape.hidden)


def adapted_layer_bytes(shape: ModelShape, train: TrainConfig, wide: int) -> int:
    """Most bytes a token that live at once in a layer: in its MLP, or where an adapter is added to a product."""
    cast = 4 if wide < 4 else 0  # the input in float32
    adapted = (
        linear.rows * (wide + 8) + linear.columns * cast + 3 * wide * shape.hidden
        + (wide * shape.intermediate if linear.name in MLP else 0)
        for linear in target_linears(shape, train)
    )  # fmt: skip
    return max(layer_bytes(shape, wide), *adapted)


def norm_bytes(shape: ModelShape, train: TrainConfig) -> int:
    """DoRA: the norm of the largest adapted matrix in float32 (its identity, B A and the sum)."""
    if not train.use_dora:
        return 0
    return 4 * max(linear.columns**2 + 2 * linear.size for linear in target_linears(shape, train))
