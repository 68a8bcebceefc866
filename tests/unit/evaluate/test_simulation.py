"""Do the statistics keep their word? Synthetic experiments whose truth is known, each judged as a run is judged.

python -m pytest tests/unit/evaluate/test_simulation.py -s     prints the rates
"""

import dataclasses
import functools
import random
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pytest

from holdfast.core.config import DecideConfig
from holdfast.decide import decide
from holdfast.evaluate.compare import (
    POWER,
    Comparison,
    Difference,
    compare_samples,
    mcnemar_p_value,
    sensitivity,
)

EXPERIMENTS = 2_000
ALPHA = 0.05
PARITY = {"rows": 200, "identical": 200, "bos_ok": True, "stop_ok": True}
GATES = DecideConfig(minimum_gain=0.0, alpha=ALPHA)


class World(NamedTuple):
    """A truth: on `discordant` of the items the two models differ, and the tuned one is `difference` better."""

    items: int
    discordant: float
    difference: float


class Rates(NamedTuple):
    """Shares of the experiments. `covered`: the interval held the true difference."""

    keep: float
    covered: float


@functools.cache
def real_comparison(items: int, wins: int, losses: int) -> Comparison:
    """The comparison of sample files, as a run makes it."""
    outcomes = [(0, 1)] * wins + [(1, 0)] * losses + [(1, 1)] * (items - wins - losses)
    rows = [
        [{"id": f"{i}", "source": f"test.jsonl:{i}", "scores": {"label_accuracy": pair[side]}} for i, pair in
         enumerate(outcomes)] for side in (0, 1)
    ]  # fmt: skip
    return compare_samples(rows[0], rows[1], "label_accuracy", ALPHA)


@functools.cache
def comparison_of(items: int, wins: int, losses: int) -> Comparison:
    """The same with the interval that endless resampling would give: a thousand times faster, and held to the real one
    by `test_the_exact_interval_is_the_one_that_a_run_gets`."""
    estimate = (wins - losses) / items
    low, high = exact_interval(items, wins, losses)
    difference = Difference(estimate, low, high, 1 - ALPHA, "BCa bootstrap")
    return Comparison(
        metric="label_accuracy", items=items, wins=wins, losses=losses, ties=items - wins - losses,
        p_value=mcnemar_p_value(wins, losses), smallest_p_value=mcnemar_p_value(items, 0), alpha=ALPHA,
        difference=difference, sensitivity=sensitivity(items, wins, losses, ALPHA), both_valid=None,
        independent=items,
    )  # fmt: skip


def exact_interval(items: int, wins: int, losses: int) -> tuple[float, float]:
    """BCa interval of the mean (Efron 1987) from the whole bootstrap distribution: each resample is a multinomial draw,
    so its mean has a distribution that can be written down."""
    ties, estimate = items - wins - losses, (wins - losses) / items
    if max(wins, losses, ties) == items:  # Tango's score interval: the bootstrap would have no width
        room = NormalDist().inv_cdf(1 - ALPHA / 2) ** 2 / (items + NormalDist().inv_cdf(1 - ALPHA / 2) ** 2)
        return (-room, room) if ties == items else (1 - 2 * room, 1.0) if wins else (-1.0, 2 * room - 1)
    one = np.zeros(2 * items + 1)
    one[[-1, 0, 1]] = np.array([losses, ties, wins]) / items
    chances = np.fft.irfft(np.fft.rfft(one) ** items, 2 * items + 1)
    chances = np.clip(np.roll(chances, items), 0, None)  # of the sums -items … items
    below = np.concatenate([[0.0], np.cumsum(chances)])
    at = wins - losses + items
    normal = NormalDist()
    shift = normal.inv_cdf(float(below[at] + below[at + 1]) / 2)
    leave_out = np.repeat([1.0, -1.0, 0.0], [wins, losses, ties])
    pull = (leave_out - estimate) / (items - 1)
    acceleration = float((pull**3).sum() / (6 * (pull**2).sum() ** 1.5))
    ends = []
    for z in (normal.inv_cdf(ALPHA / 2), normal.inv_cdf(1 - ALPHA / 2)):
        level = normal.cdf(shift + (shift + z) / (1 - acceleration * (shift + z)))
        ends.append((int(np.searchsorted(below[1:], level)) - items) / items)
    return ends[0], ends[1]


def results(share: float) -> dict[str, Any]:
    return {"valid_json": 1.0, "label_accuracy": share, "stopped": 1.0, "n": 1, "confusion": {}}


@functools.cache
def verdict_of(items: int, wins: int, losses: int) -> str:
    before, after = results(0.5), results(0.5 + (wins - losses) / items)
    document = comparison_of(items, wins, losses).document()
    return decide(before, after, after | {"rung": "Q4_K_M"}, document, GATES, parity=PARITY).verdict


def draw_counts(world: World, seed: int) -> list[tuple[int, int]]:
    """(wins, losses) of each experiment, drawn item by item."""
    win = (world.discordant + world.difference) / 2
    rolls = np.random.default_rng(seed).random((EXPERIMENTS, world.items))
    wins, either = (rolls < win).sum(1), (rolls < world.discordant).sum(1)
    return [(int(w), int(e - w)) for w, e in zip(wins, either, strict=True)]


def simulate(world: World, seed: int) -> Rates:
    """Draw experiments, decide each, and look whether it was right."""
    keep = covered = 0
    for wins, losses in draw_counts(world, seed):
        interval = comparison_of(world.items, wins, losses).difference
        keep += verdict_of(world.items, wins, losses) == "keep"
        covered += interval.low - 1e-9 <= world.difference <= interval.high + 1e-9
    rates = Rates(keep / EXPERIMENTS, covered / EXPERIMENTS)
    print(f"\n{world}: keep {100 * rates.keep:.2f} %, interval holds the truth {100 * rates.covered:.2f} %", end="")
    return rates


@pytest.mark.parametrize(
    "world", [World(40, 0.3, 0.0), World(120, 0.3, 0.1), World(120, 0.8, 0.6), World(300, 0.1, 0.0)]
)
def test_the_exact_interval_is_the_one_that_a_run_gets(world: World) -> None:
    for wins, losses in sorted(set(draw_counts(world, seed=6)))[::40]:
        real, exact = (of(world.items, wins, losses) for of in (real_comparison, comparison_of))
        assert dataclasses.replace(real, difference=exact.difference) == exact
        # 10,000 resamples may miss the end of the interval by one item.
        assert abs(real.difference.low - exact.difference.low) <= 1.01 / world.items, (wins, losses)
        assert abs(real.difference.high - exact.difference.high) <= 1.01 / world.items, (wins, losses)


@pytest.mark.parametrize(
    ("items", "gain", "verdict"),
    [(20, 0.05, "undecidable"), (40, 0.05, "undecidable"), (120, 0.05, "discard"), (120, 0.0, "undecidable")],
)
def test_equal_answers_are_thrown_away_only_when_the_items_could_have_shown_the_gain(
    items: int, gain: float, verdict: str
) -> None:
    document = real_comparison(items, 0, 0).document()
    same, gates = results(0.5), DecideConfig(minimum_gain=gain)
    assert decide(same, same, same | {"rung": "Q4_K_M"}, document, gates, parity=PARITY).verdict == verdict
    # The same in counts: had the tuned model gained that much, would there be a win at all?
    assert ((1 - gain) ** items < ALPHA / 2) == (verdict == "discard")


@pytest.mark.parametrize("items", [6, 20, 300])
def test_where_every_item_has_the_same_outcome_the_exact_interval_is_the_real_one(items: int) -> None:
    for wins, losses in ((0, 0), (items, 0), (0, items)):
        real, exact = (of(items, wins, losses).difference for of in (real_comparison, comparison_of))
        assert (real.low, real.high) == pytest.approx((exact.low, exact.high), abs=1e-6)


@pytest.mark.parametrize(
    "world", [World(40, 0.3, 0.0), World(120, 0.3, 0.0), World(120, 0.6, 0.0), World(300, 0.1, 0.0)]
)
def test_without_effect_at_most_five_in_a_hundred_are_kept(world: World) -> None:
    assert simulate(world, seed=1).keep <= ALPHA


@pytest.mark.parametrize("world", [World(20, 0.4, 0.0), World(120, 0.5, -0.2), World(120, 0.3, -0.05)])
def test_a_model_that_is_worse_is_never_kept_by_luck(world: World) -> None:
    assert simulate(world, seed=2).keep <= ALPHA / 2


@pytest.mark.parametrize(
    "world",
    [World(120, 0.3, 0.0), World(120, 0.3, 0.1), World(120, 0.8, 0.6), World(200, 0.5, 0.2), World(300, 0.2, 0.05)],
)
def test_intervals_hold_the_truth_in_95_of_100(world: World) -> None:
    assert abs(simulate(world, seed=3).covered - (1 - ALPHA)) <= 0.015


@pytest.mark.parametrize(("discordant", "difference"), [(0.3, 0.1), (0.5, 0.2), (0.2, 0.1)])
def test_the_items_that_the_power_analysis_asks_for_find_the_effect(discordant: float, difference: float) -> None:
    n = 1000
    wins, losses = round(n * (discordant + difference) / 2), round(n * (discordant - difference) / 2)
    items = sensitivity(n, wins, losses, ALPHA).items_needed
    assert items is not None
    found = simulate(World(items, discordant, difference), seed=4).keep
    # The exact test is a little more careful than the normal approximation of Connor's formula.
    assert POWER - 0.06 <= found <= POWER + 0.03


def test_the_simulation_would_notice_a_lax_rule() -> None:
    draw, keep = random.Random(5), 0
    for _ in range(EXPERIMENTS):
        rolls = [draw.random() for _ in range(120)]
        keep += sum(r < 0.15 for r in rolls) > sum(0.15 <= r < 0.3 for r in rolls)  # "more wins than losses will do"
    assert keep / EXPERIMENTS > ALPHA
