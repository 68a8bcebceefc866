"""Which recompute policy is the fastest that fits: policies in order of their measured cost, and the speed of each."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf

from holdfast.core.config import TrainConfig
from holdfast.plan.constants import constant
from holdfast.plan.fused_memory import LEVELS, Level, Recompute
from holdfast.plan.several import is_sharded
from holdfast.plan.shape import ModelShape

GRAPH_TOKENS = 2048  # train/recompute.py: up to here a step is replayed as a graph
_PART = 4096  # tokens that pass an MLP at once where memory is short: the products stay large


def least_memory(shape: ModelShape, train: TrainConfig) -> Recompute:
    """The policy that needs the least memory among those that the configuration allows."""
    levels = _allowed(train)
    offload = _may_offload(train, levels[0])
    host_embedding = _on_host(shape, train)[-1]
    return Recompute(levels[0], levels[0], 0, offload=offload, mlp_tokens=_PART, host_embedding=host_embedding)


def _on_host(shape: ModelShape, train: TrainConfig) -> tuple[bool, ...]:
    """Where the input embedding may lie: on the card (False), on the host (True)."""
    if not shape.movable_embedding:
        return (False,)
    return (False, True) if train.embedding_offloading == "auto" else (train.embedding_offloading,)


def _may_offload(train: TrainConfig, level: Level) -> bool:
    """`auto` sends only what is small beside its layer's work; what `cheap` keeps would wait for the bus."""
    return train.activation_offloading is True or (
        train.activation_offloading == "auto" and level not in ("cheap", "none")
    )


def cost(policy: Recompute, layers: int, tokens: int, *, host: float = 1.0) -> float:
    """Time a token, relative to a large step that recomputes nothing (1.0). host: 2 = launches take twice as long."""
    share = policy.fast / layers
    level = (1 - share) * constant(f"cost_{policy.level}") + share * constant(f"cost_{policy.upper}")
    level += constant("cost_offload") if policy.offload else 0
    level -= constant("gain_keep_weights") if policy.keep_weights else 0
    level += constant("cost_host_embedding") if policy.host_embedding else 0
    once = constant("step_overhead_graph" if tokens <= policy.graph_tokens else "step_overhead")
    return level + host * once / max(1, tokens)


def fastest(
    shape: ModelShape, train: TrainConfig, tokens: int, fits: Callable[[Recompute], bool], *, below: float = inf
) -> tuple[float, Recompute] | None:
    """(cost, policy) of the fastest policy that fits and costs less than `below`; None when none does."""
    options = [
        replace(policy, host_embedding=on_host)
        for policy in _candidates(shape, train, tokens)
        for on_host in _on_host(shape, train)
    ]
    costs = ((cost(policy, shape.layers, tokens), policy) for policy in options)
    for found in sorted((pair for pair in costs if pair[0] < below), key=lambda pair: pair[0]):
        if fits(found[1]):
            return found
    return None


def _allowed(train: TrainConfig) -> tuple[Level, ...]:
    if train.recompute != "auto":
        return (train.recompute,)
    return LEVELS if train.gradient_checkpointing else ("none",)


def _candidates(shape: ModelShape, train: TrainConfig, tokens: int) -> Iterator[Recompute]:
    levels, offload = _allowed(train), train.activation_offloading
    graph = GRAPH_TOKENS if tokens <= GRAPH_TOKENS and not is_sharded(train) else 0
    for index, level in enumerate(levels):
        parts = (0, _PART) if tokens > _PART and level not in ("cheap", "none") else (0,)
        for part in parts:
            if offload is not True:
                for graph_tokens in {graph, 0}:
                    yield Recompute(level, level, 0, False, part, False, graph_tokens)
                if not is_sharded(train):
                    yield Recompute(level, level, 0, False, part, keep_weights=True, graph_tokens=graph)
                for upper in levels[index + 1 :]:
                    for fast in range(1, shape.layers):
                        yield Recompute(level, upper, fast, False, part, False, graph)
            if _may_offload(train, level) and tokens > GRAPH_TOKENS:
                yield Recompute(level, level, 0, True, part, False, 0)
    yield least_memory(shape, train)
