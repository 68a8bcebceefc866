"""Which of several runs is best, on the same items? Every pair is compared; the more pairs, the stricter the test.

p-values are adjusted by Holm's step-down procedure (Holm 1979), intervals by Bonferroni's (confidence 1 - alpha/pairs):
together they hold the chance of any false "better" below alpha, however many runs are looked at.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from holdfast.core.errors import UsageError
from holdfast.evaluate.compare import Comparison, Row, compare_samples
from holdfast.evaluate.scorers import wilson_interval


class Pair(NamedTuple):
    """`second` against `first` (names of runs). `p_adjusted` counts all pairs; `better`: the winner's name or None."""

    first: str
    second: str
    comparison: Comparison
    p_adjusted: float
    better: str | None


class Ranking(NamedTuple):
    """Runs from best to worst, and every pair. `best` is None when no run beats all others."""

    scores: list[dict[str, Any]]
    pairs: list[Pair]
    best: str | None


def rank_runs(samples: Mapping[str, Sequence[Row]], metric: str, alpha: float) -> Ranking:
    """Rank runs by their samples on one 0/1 score; `samples` maps a run's name to its rows of samples.jsonl.

    Raises UsageError for fewer than two runs, one without that score, or one that answered other items.
    """
    if len(samples) < 2:
        raise UsageError(f"comparing needs at least 2 different runs, got {len(samples)}")
    for name, rows in samples.items():
        if any(metric not in row["scores"] for row in rows):
            raise UsageError(
                f"{name} has no score {metric!r}, which the first run is decided by; it has "
                f"{', '.join(rows[0]['scores'])}",
                hint="name first a run whose decide.primary all of them have",
            )
    _require_same_items(samples)
    couples = list(itertools.combinations(samples, 2))
    found = [compare_samples(samples[a], samples[b], metric, alpha / len(couples)) for a, b in couples]
    adjusted = holm([comparison.p_value for comparison in found])
    pairs = [
        Pair(a, b, comparison, p, _better(a, b, comparison, p, alpha))
        for (a, b), comparison, p in zip(couples, found, adjusted, strict=True)
    ]
    scores = [_score(name, rows, metric) for name, rows in samples.items()]
    scores.sort(key=lambda score: -score["score"])
    beaten = {name: sum(pair.better == name for pair in pairs) for name in samples}
    best = next((name for name, count in beaten.items() if count == len(samples) - 1), None)
    return Ranking(scores, pairs, best)


def _require_same_items(samples: Mapping[str, Sequence[Row]]) -> None:
    first, *others = samples
    known = {row["id"] for row in samples[first]}
    for name in others:
        found = {row["id"] for row in samples[name]}
        if found != known:
            raise UsageError(
                f"{first} and {name} did not answer the same items: {len(known & found)} are common, "
                f"{len(known - found)} only in {first}, {len(found - known)} only in {name}",
                hint="compare runs that have one test split (prepare.split_lock keeps it), or measure both with "
                "holdfast eval RUN --data FILE",
            )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _better(first: str, second: str, comparison: Comparison, p_adjusted: float, alpha: float) -> str | None:
    difference = comparison.difference
    if p_adjusted >= alpha or difference.low <= 0 <= difference.high:
        return None
    return second if difference.estimate > 0 else first


def _score(name: str, rows: Sequence[Row], metric: str) -> dict[str, Any]:
    hits = sum(row["scores"][metric] for row in rows)
    low, high = wilson_interval(hits, len(rows))
    return {"run": name, "score": hits / len(rows), "low": low, "high": high, "n": len(rows)}
