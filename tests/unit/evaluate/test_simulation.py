"""Do the statistics keep their word? Synthetic experiments whose truth is known, each judged as a run is judged.

python -m pytest tests/unit/evaluate/test_simulation.py -s     prints the rates
"""

import functools
import random
from typing import Any, NamedTuple

import pytest

from holdfast.core.config import DecideConfig
from holdfast.decide import decide
from holdfast.evaluate.compare import POWER, Comparison, compare_samples, sensitivity

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
def comparison_of(items: int, wins: int, losses: int) -> Comparison:
    """The real comparison of sample files; equal counts give equal intervals, whatever the order."""
    outcomes = [(0, 1)] * wins + [(1, 0)] * losses + [(1, 1)] * (items - wins - losses)
    rows = [
        [{"id": f"{i}", "source": f"test.jsonl:{i}", "scores": {"label_accuracy": pair[side]}} for i, pair in
         enumerate(outcomes)] for side in (0, 1)
    ]  # fmt: skip
    return compare_samples(rows[0], rows[1], "label_accuracy", ALPHA)


def results(share: float) -> dict[str, Any]:
    return {"valid_json": 1.0, "label_accuracy": share, "stopped": 1.0, "n": 1, "confusion": {"a": {"a": 1, "b": 1}}}


@functools.cache
def verdict_of(items: int, wins: int, losses: int) -> str:
    before, after = results(0.5), results(0.5 + (wins - losses) / items)
    document = comparison_of(items, wins, losses).document()
    return decide(before, after, after | {"rung": "Q4_K_M"}, document, GATES, parity=PARITY).verdict


def simulate(world: World, seed: int) -> Rates:
    """Draw wins and losses item by item, decide, and look whether it was right."""
    draw = random.Random(seed)
    win = (world.discordant + world.difference) / 2
    keep = covered = 0
    for _ in range(EXPERIMENTS):
        rolls = [draw.random() for _ in range(world.items)]
        wins, losses = sum(r < win for r in rolls), sum(win <= r < world.discordant for r in rolls)
        interval = comparison_of(world.items, wins, losses).difference
        keep += verdict_of(world.items, wins, losses) == "keep"
        covered += interval.low <= world.difference <= interval.high
    rates = Rates(keep / EXPERIMENTS, covered / EXPERIMENTS)
    print(f"\n{world}: keep {100 * rates.keep:.2f} %, interval holds the truth {100 * rates.covered:.2f} %", end="")
    return rates


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
