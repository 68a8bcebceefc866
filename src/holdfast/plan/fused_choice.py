"""Which micro-batch and which recompute policy together are the fastest that fit on a card with fused layers.

A plan asks for some hundred policies at each micro-batch that divides the effective batch, and most of them are far too
large: a sum of what they keep alone says so, before all that they need is counted.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf

from holdfast.core.config import RunConfig
from holdfast.plan.fused_memory import Level, Recompute
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import Components, Place, batch_tokens, train_memory
from holdfast.plan.phases import training_demands
from holdfast.plan.recompute_choice import fastest
from holdfast.plan.several import row_choices
from holdfast.plan.shape import ModelShape

_ROUNDED = 16  # bytes: each component is a whole number of them
_BETTER = 0.99  # of the time of more rows at once, or it is not worth fewer


def fastest_rows(
    shape: ModelShape, config: RunConfig, lengths: Lengths, usable: Mapping[Place, int]
) -> tuple[int, Recompute] | None:
    """Rows and policy with the least time a token; None when training fits with none of them.

    usable: bytes; a place that is not there is not looked at.
    """

    def fits(rows: int, floor: Callable[[Recompute], int], policy: Recompute) -> bool:
        if floor(policy) > usable.get("gpu", inf):
            return False
        needed = training_demands(shape, config, lengths, rows, "gpu", policy)
        return all(demand.total <= usable.get(demand.place, inf) for demand in needed)

    best, found = inf, None
    for rows in row_choices(config.train):
        floor = floor_of(shape, config, lengths, rows)
        tokens = batch_tokens(config, lengths, rows)[0]
        option = fastest(shape, config.train, tokens, partial(fits, rows, floor), below=_BETTER * best)
        if option is not None:
            best, found = option[0], (rows, option[1])
    return found


def floor_of(shape: ModelShape, config: RunConfig, lengths: Lengths, rows: int) -> Callable[[Recompute], int]:
    """policy → bytes on the card that a step of `rows` rows needs at least.

    What a policy keeps is exact; its working set, and what only some policies have beside it, count as nothing. All is
    counted once for each level (and place of the embedding), not for the mixtures of two levels.
    """
    known: dict[tuple[Level, bool], tuple[int, int]] = {}
    layers = shape.layers

    def of_level(level: Level, on_host: bool) -> tuple[int, int]:
        """(what does not depend on the policy, what all layers keep)."""
        if (level, on_host) not in known:
            policy = Recompute(level, level, 0, host_embedding=on_host)
            parts: Components = train_memory(shape, config, lengths, rows, on_gpu=True, policy=policy)
            kept = parts["kept activations"]
            known[level, on_host] = (sum(parts.values()) - kept - parts["working set"], kept)
        return known[level, on_host]

    def floor(policy: Recompute) -> int:
        rest, lower = of_level(policy.level, policy.host_embedding)
        if policy.offload:  # two layers at a time
            return rest + 2 * lower // layers - _ROUNDED
        _, upper = of_level(policy.upper, policy.host_embedding)
        return rest + ((layers - policy.fast) * lower + policy.fast * upper) // layers - _ROUNDED

    return floor
