"""The ladder: from what was trained to what is deployed, step by step, and which step costs what.

    4-bit + adapter → merged 16-bit → GGUF F16 → each quantisation

A step's cost is measured twice. By the answers: the paired difference of the primary score, item by item. By the
distributions: mean KL(above ‖ below) over the positions of reference answers. Each side reports its likeliest tokens
only, so the KL is that of the distributions with all other tokens (those not on both lists) counted as one: by the data
processing inequality never more than the full KL, and near to it, as these tokens hold nearly all of the probability.
The template's cost is zero by proof: verify goes on only when every prompt has the same token ids on both sides.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from holdfast.distributions import TOP, Distribution, Thoughts
from holdfast.evaluate.compare import compare_samples

Row = Mapping[str, Any]
MEASURE = "coarse-grained KL(above || below) in nats: the tokens that both sides name, all others as one"
STEPS = {"merged": "merge", "F16": "conversion"}  # below → name of the step; all others are quantisations
ROUNDING = 1e-9
FORM = ("valid_json", "stopped")  # what else a smaller file must not lose


class Rung(NamedTuple):
    """One rung. `line`: its entry of ladder.json (rung, scores, size_bytes …); `samples`: rows of samples.jsonl."""

    line: dict[str, Any]
    samples: Sequence[Row]
    thoughts: Sequence[Thoughts]


def divergence(above: Distribution, below: Distribution) -> float:
    """Coarse-grained KL(above ‖ below) in nats at one position; never negative."""
    shared = above.keys() & below.keys()
    total = sum(math.exp(above[token]) * (above[token] - below[token]) for token in shared)
    rest_above = max(0.0, 1 - math.fsum(math.exp(above[token]) for token in shared))
    rest_below = max(1e-12, 1 - math.fsum(math.exp(below[token]) for token in shared))
    if rest_above > 0:
        total += rest_above * math.log(rest_above / rest_below)
    return max(0.0, total)


def mean_divergence(above: Sequence[Thoughts], below: Sequence[Thoughts]) -> dict[str, float] | None:
    """Mean and largest divergence over all positions, and the share of the positions where the first token changes;
    None where nothing could be measured."""
    pairs = [
        pair for a, b in zip(above, below, strict=True) for pair in zip(a.distributions, b.distributions, strict=True)
    ]
    values = [divergence(a, b) for a, b in pairs]
    flips = sum(max(a, key=a.__getitem__) != max(b, key=b.__getitem__) for a, b in pairs)
    if not values:
        return None
    count = len(values)
    return {"mean": sum(values) / count, "largest": max(values), "first_token_changes": flips / count}


def answer_loss(thoughts: Sequence[Thoughts]) -> float | None:
    """Mean negative log-likelihood of the reference answers' tokens, in nats; None where nothing was measured."""
    own = [value for thought in thoughts for value in thought.own if value is not None]
    return -sum(own) / len(own) if own else None


def describe_steps(rungs: Sequence[Rung], metric: str, alpha: float, proof: str) -> list[dict[str, Any]]:
    """What each step costs: `losses` of ladder.json. rungs: adapter, merged, F16, then the quantisations (made of F16).

    Without `merged` the step to F16 is both, `merge and conversion`. `points` are those lost (positive = worse below),
    with the interval of the paired difference.
    """
    steps: list[dict[str, Any]] = [{"step": "template", "points": 0.0, "proof": proof}]
    for number, below in enumerate(rungs[1:], 1):
        above = rungs[number - 1] if below.line["rung"] in STEPS else _named(rungs, "F16")
        compared = compare_samples(above.samples, below.samples, metric, alpha)
        gap = compared.difference
        kl = mean_divergence(above.thoughts, below.thoughts)
        below.line.update(above=above.line["rung"], kl_to_above=kl)
        steps.append({
            "step": _step(above, below),
            "above": above.line["rung"], "below": below.line["rung"], "points": -gap.estimate or 0.0,
            "low": -gap.high or 0.0, "high": -gap.low or 0.0, "won": compared.wins, "lost": compared.losses,
            "p_value": compared.p_value, "kl": kl and kl["mean"],
        })  # fmt: skip
    return steps


def _step(above: Rung, below: Rung) -> str:
    if (above.line["rung"], below.line["rung"]) == ("adapter", "F16"):
        return "merge and conversion"
    return STEPS.get(below.line["rung"], "quantisation")


def choose(rungs: Sequence[Row], tuned: Row, metric: str, allowed: float) -> tuple[str, str]:
    """The smallest file that loses at most `allowed` (of the primary score and of form), and why.

    When none is within, the one that loses least: the gate of `decide` then says no.
    """

    def loss(rung: Row) -> float:
        return max(float(tuned[name] - rung[name]) for name in {metric, *FORM} if name in tuned and name in rung)

    within = [rung for rung in rungs if loss(rung) <= allowed + ROUNDING]
    if not within:
        best = min(rungs, key=lambda rung: (loss(rung), rung["size_bytes"]))
        return best[
            "rung"
        ], f"no file is within the allowed loss of {allowed:g}; this one loses least ({loss(best):.3f})"
    chosen = min(within, key=lambda rung: rung["size_bytes"])
    return chosen["rung"], f"the smallest of {len(within)} files within the allowed loss of {allowed:g}"


def kl_document(items: int, thoughts: Sequence[Thoughts]) -> dict[str, Any]:
    """How the divergences were measured."""
    positions = sum(len(thought.distributions) for thought in thoughts)
    return {"items": items, "positions": positions, "top": TOP, "measure": MEASURE}


def _named(rungs: Sequence[Rung], name: str) -> Rung:
    return next(rung for rung in rungs if rung.line["rung"] == name)
