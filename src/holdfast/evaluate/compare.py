"""Is the tuned model better? Paired statistics over the same items, item by item.

Both models answer the same items, so every test is on pairs: the exact McNemar test (a two-sided binomial test on the
items where exactly one model is right; McNemar 1947) and a BCa bootstrap interval of the mean difference (Efron 1987),
or Tango's score interval where every item has the same difference.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

from holdfast.core.errors import ContractError, IntegrityError
from holdfast.evaluate.score_interval import score_interval

Row = Mapping[str, Any]
RESAMPLES = 10_000
SEED = 20260731  # fixed: the same answers give the same interval
POWER = 0.8
BATCH_VALUES = 5_000_000  # numbers that the bootstrap may hold in memory at once


@dataclass(frozen=True)
class Difference:
    """Mean of tuned - baseline over the items (−1 … 1) with its interval, and how the interval was made."""

    estimate: float
    low: float
    high: float
    confidence: float
    method: Literal["BCa bootstrap", "percentile bootstrap", "Tango score", "none"]


@dataclass(frozen=True)
class Sensitivity:
    """What this many items can show. Sizes after Connor 1987 (paired proportions), None where there is no answer.

    minimum_detectable_effect: the smallest difference found with `power`, at the share of discordant items seen here.
    items_needed: items for which a difference as large as the one seen is found with `power`.
    """

    power: float
    minimum_detectable_effect: float | None
    items_needed: int | None
    more_items: int | None


@dataclass(frozen=True)
class BothValid:
    """The items that both models answered in valid form: there a gain in form cannot hide worse content."""

    items: int
    wins: int
    losses: int
    p_value: float
    difference: float


@dataclass(frozen=True)
class Comparison:
    """Baseline against tuned for one score. `smallest_p_value` is what all items won would give; `both_valid` is None
    where no row has a `valid_json` score. `independent` counts items that repeat each other as one; where that is fewer
    than `items`, test, interval and sizes are those of the independent items, each with the mean of its repeats."""

    metric: str
    items: int
    wins: int
    losses: int
    ties: int
    p_value: float
    smallest_p_value: float
    alpha: float
    difference: Difference
    sensitivity: Sensitivity
    both_valid: BothValid | None
    independent: int

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def compare_samples(
    baseline: Sequence[Row], tuned: Sequence[Row], metric: str, alpha: float, repeats: Mapping[str, str] | None = None
) -> Comparison:
    """Compare rows of two samples.jsonl files on one 0/1 score, paired by id; intervals have confidence 1 - alpha.

    repeats: id → id of the item that it repeats (repeats.json of `prepare`).
    Raises ContractError for no items or an id that occurs twice, IntegrityError when the items are not the same.
    """
    pairs = pair_samples(baseline, tuned)
    differences = [after["scores"][metric] - before["scores"][metric] for before, after in pairs]
    wins, losses = differences.count(1), differences.count(-1)
    n = len(pairs)
    families: dict[str, list[int]] = {}
    for (_, row), difference in zip(pairs, differences, strict=True):
        families.setdefault((repeats or {}).get(row["id"], row["id"]), []).append(difference)
    means = [sum(family) / len(family) for family in families.values()] if len(families) < n else differences
    won, lost = sum(mean > 0 for mean in means), sum(mean < 0 for mean in means)
    return Comparison(
        metric=metric, items=n, wins=wins, losses=losses, ties=n - wins - losses,
        p_value=mcnemar_p_value(won, lost), smallest_p_value=mcnemar_p_value(len(means), 0), alpha=alpha,
        difference=estimate_difference(means, 1 - alpha), sensitivity=sensitivity(len(means), won, lost, alpha),
        both_valid=_both_valid(pairs, metric), independent=len(means),
    )  # fmt: skip


def _both_valid(pairs: Sequence[tuple[Row, Row]], metric: str) -> BothValid | None:
    if any("valid_json" not in row["scores"] for pair in pairs for row in pair):
        return None
    if metric == "valid_json":  # where both are valid it cannot differ: what is worth knowing there is the content
        metric = "label_accuracy" if "label_accuracy" in pairs[0][0]["scores"] else metric
    kept = [(a["scores"], b["scores"]) for a, b in pairs if a["scores"]["valid_json"] and b["scores"]["valid_json"]]
    differences = [after[metric] - before[metric] for before, after in kept]
    wins, losses = differences.count(1), differences.count(-1)
    mean = sum(differences) / len(differences) if differences else 0.0
    return BothValid(len(kept), wins, losses, mcnemar_p_value(wins, losses), mean)


def list_items(baseline: Sequence[Row], tuned: Sequence[Row], metric: str) -> list[dict[str, Any]]:
    """Each item with both answers and its outcome: wins first, then losses, then ties. Raises as `compare_samples`."""
    outcomes = {1: "win", -1: "loss", 0: "tie"}
    order = {"win": 0, "loss": 1, "tie": 2}
    rows = [
        {
            "id": after["id"], "source": after["source"],
            "outcome": outcomes[after["scores"][metric] - before["scores"][metric]],
            "baseline": before["scores"][metric], "tuned": after["scores"][metric],
            "prompt_text": after["prompt_text"], "expected": after["expected"],
            "baseline_output": before["output"], "tuned_output": after["output"],
        }
        for before, after in pair_samples(baseline, tuned)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: order[row["outcome"]])


def pair_samples(baseline: Sequence[Row], tuned: Sequence[Row]) -> list[tuple[Row, Row]]:
    """(baseline row, tuned row) for every item, in the order of `tuned`. Raises as `compare_samples`."""
    before, after = _by_id(baseline, "baseline"), _by_id(tuned, "tuned")
    if before.keys() != after.keys():
        only_before, only_after = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
        raise IntegrityError(
            f"baseline and tuned did not answer the same items: {len(only_before)} only in baseline "
            f"({', '.join(only_before[:3]) or 'none'}), {len(only_after)} only in tuned "
            f"({', '.join(only_after[:3]) or 'none'}); 0 are allowed",
            hint="holdfast run -c FILE --from baseline",
        )
    if not after:
        raise ContractError("there are 0 items to compare; at least 1 is needed", hint="check the test file")
    return [(before[key], row) for key, row in after.items()]


@functools.lru_cache(4096)
def mcnemar_p_value(wins: int, losses: int) -> float:
    """Exact two-sided McNemar p-value; 1.0 when no item differs."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def estimate_difference(differences: Sequence[float], confidence: float) -> Difference:
    """Mean paired difference with its interval: BCa bootstrap, the percentile interval where BCa does not exist,
    Tango's score interval where all differences are equal; -1 … 1 for a single item."""
    import numpy as np

    estimate = sum(differences) / len(differences)
    if len(differences) < 2:
        return Difference(estimate, -1.0, 1.0, confidence, "none")
    if len(set(differences)) == 1:
        low, high = score_interval(estimate, len(differences), confidence)
        return Difference(estimate, low, high, confidence, "Tango score")
    whole = all(isinstance(value, int) for value in differences)
    values = np.asarray(differences, dtype=np.int8 if whole else np.float64)
    low, high = _bootstrap(values, confidence, "BCa")
    if math.isfinite(low) and math.isfinite(high):
        return Difference(estimate, low, high, confidence, "BCa bootstrap")
    low, high = _bootstrap(values, confidence, "percentile")
    return Difference(estimate, low, high, confidence, "percentile bootstrap")


def sensitivity(items: int, wins: int, losses: int, alpha: float) -> Sensitivity:
    """How small a difference these items can show, and how many items the difference seen would need."""
    discordant = (wins + losses) / items
    difference = abs(wins - losses) / items
    needed = _items_needed(discordant, difference, alpha) if difference else None
    more = max(0, needed - items) if needed is not None else None
    return Sensitivity(POWER, _detectable_effect(items, discordant, alpha), needed, more)


def _items_needed(discordant: float, difference: float, alpha: float) -> int:
    return math.ceil((_reach(discordant, difference, alpha) / difference) ** 2)


def _detectable_effect(items: int, discordant: float, alpha: float) -> float | None:
    """Smallest difference d with d · √items ≥ reach(d), by bisection; d cannot exceed the share of discordant items."""
    low, high = 0.0, discordant
    if not discordant or _reach(discordant, high, alpha) > high * math.sqrt(items):
        return None
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if _reach(discordant, middle, alpha) <= middle * math.sqrt(items) else (middle, high)
    return high


def _reach(discordant: float, difference: float, alpha: float) -> float:
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(POWER)
    return z_alpha * math.sqrt(discordant) + z_power * math.sqrt(max(0.0, discordant - difference**2))


def _bootstrap(values: Any, confidence: float, method: Literal["BCa", "percentile"]) -> tuple[float, float]:
    import numpy as np
    from scipy.stats import bootstrap

    batch = max(1, min(RESAMPLES, BATCH_VALUES // len(values)))
    result = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=batch, vectorized=True, confidence_level=confidence,
        method=method, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _by_id(rows: Sequence[Row], name: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        if row["id"] in found:
            raise ContractError(
                f"{name}: {row['source']} and {found[row['id']]['source']} are the same item; it would count twice",
                hint="remove one of the rows, then repeat the command",
            )
        found[row["id"]] = row
    return found
