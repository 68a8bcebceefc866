"""Does a gain on average hide a loss somewhere? The same pairs, cut by label, source, length and every tag.

Each slice has its share before and after (Wilson intervals) and the paired difference with Newcombe's interval for
paired proportions (Newcombe 1998, Statistics in Medicine 17:2635, method 10). With many slices some look worse by
chance, so the exact tests of the losing side are corrected by Holm's procedure over all slices of a run.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.evaluate.compare import Row, mcnemar_p_value, pair_samples
from holdfast.evaluate.compare_runs import holm
from holdfast.evaluate.scorers import CONFIDENCE, MAXIMUM_SLICES, wilson_interval

SMALLEST = 5  # items; a smaller slice says nothing, and would only make the correction stricter
LENGTHS = ("short", "middle", "long")  # thirds of the items by characters of the prompt

Pair = tuple[Row, Row]


def slice_samples(baseline: Sequence[Row], tuned: Sequence[Row], metric: str, alpha: float) -> list[dict[str, Any]]:
    """Every slice of at least SMALLEST items: the `slices` of slices.json, the worst loss first.

    `p_adjusted` is of the test for a loss; `regressed`: it is below alpha. Raises as `pair_samples`.
    """
    pairs = pair_samples(baseline, tuned)
    found = [
        _measure(by, value, members, metric)
        for by, values in _cut(pairs).items()
        for value, members in values.items()
        if SMALLEST <= len(members) < len(pairs)
    ]
    adjusted = holm([_p_of_a_loss(slice_) for slice_ in found])
    slices = [{**s, "p_adjusted": p, "regressed": p < alpha} for s, p in zip(found, adjusted, strict=True)]
    return sorted(slices, key=lambda s: (s["difference"], s["by"], s["value"]))


def describe_slices(
    baseline: Sequence[Row], tuned: Sequence[Row], metric: str, alpha: float
) -> tuple[dict[str, Any], str]:
    """The document slices.json, and one line for people."""
    slices = slice_samples(baseline, tuned, metric, alpha)
    document = {
        "metric": metric, "alpha": alpha, "smallest": SMALLEST, "confidence": CONFIDENCE,
        "interval": "Newcombe 1998, method 10", "correction": f"Holm over {len(slices)} slices", "slices": slices,
    }  # fmt: skip
    worse = [s for s in slices if s["regressed"]]
    if not slices:
        return document, f"no slice has {SMALLEST} items"
    named = ", ".join(f"{s['by']} {s['value']} ({100 * s['difference']:+.0f} points, {s['n']} items)" for s in worse)
    return document, f"{len(slices)} slices, " + (f"significantly worse: {named}" if worse else "none got worse")


def paired_interval(both: int, wins: int, losses: int, neither: int) -> tuple[float, float]:
    """95 % interval of the paired difference (tuned - baseline) from the four counts; needs at least one item."""
    n = both + wins + losses + neither
    after, before = (both + wins) / n, (both + losses) / n
    (low_a, high_a), (low_b, high_b) = wilson_interval(both + wins, n), wilson_interval(both + losses, n)
    product = (both + wins) * (losses + neither) * (both + losses) * (wins + neither)
    covariance = both * neither - wins * losses
    # Method 10 shrinks a positive covariance by n/2, but not below 0.
    covariance_ = max(covariance - n / 2, 0) if covariance > 0 else covariance
    phi = covariance_ / math.sqrt(product) if product else 0.0
    d = after - before

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    low = d - reach(after - low_a, high_b - before)
    high = d + reach(high_a - after, before - low_b)
    return max(-1.0, low), min(1.0, high)


def _cut(pairs: Sequence[Pair]) -> dict[str, dict[str, list[Pair]]]:
    groups: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    borders = _borders([len(row["prompt_text"]) for _, row in pairs])
    for pair in pairs:
        row = pair[1]
        if row.get("expected_label") is not None:
            groups["label"][row["expected_label"]].append(pair)
        groups["source"][row["source"].rsplit(":", 1)[0]].append(pair)
        groups["length"][LENGTHS[sum(len(row["prompt_text"]) > border for border in borders)]].append(pair)
        for tag, value in row.get("tags", {}).items():
            groups[f"tag {tag}"][str(value).lower() if isinstance(value, bool) else str(value)].append(pair)
    return {by: dict(sorted(values.items())) for by, values in sorted(groups.items()) if len(values) < MAXIMUM_SLICES}


def _borders(lengths: Sequence[int]) -> tuple[int, int]:
    ordered = sorted(lengths)
    return ordered[(len(ordered) - 1) // 3], ordered[2 * (len(ordered) - 1) // 3]


def _measure(by: str, value: str, members: Sequence[Pair], metric: str) -> dict[str, Any]:
    scores = [(before["scores"][metric], after["scores"][metric]) for before, after in members]
    n, wins, losses = len(scores), scores.count((0, 1)), scores.count((1, 0))
    both, neither = scores.count((1, 1)), scores.count((0, 0))
    low, high = paired_interval(both, wins, losses, neither)
    return {
        "by": by, "value": value, "n": n,
        "baseline": (both + losses) / n, "baseline_interval": wilson_interval(both + losses, n),
        "tuned": (both + wins) / n, "tuned_interval": wilson_interval(both + wins, n),
        "difference": (wins - losses) / n, "low": low, "high": high, "wins": wins, "losses": losses,
        "p_value": mcnemar_p_value(wins, losses),
    }  # fmt: skip


def _p_of_a_loss(measured: Mapping[str, Any]) -> float:
    """The two-sided p-value where the slice lost; 1 where it did not."""
    return float(measured["p_value"]) if measured["losses"] > measured["wins"] else 1.0
