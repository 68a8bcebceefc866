"""Tango's score interval of a paired difference (Tango 1998, Statistics in Medicine 17:891).

The bootstrap cannot say how sure a difference is that every item has: each resample is the same. This interval can: it
holds every difference that a score test does not refuse. Where no item differs it is ± z² / (n + z²), however many are
right; Newcombe's interval of the same items becomes too narrow when about half of them are right.
"""

import math
from statistics import NormalDist


def score_interval(estimate: float, n: int, confidence: float) -> tuple[float, float]:
    """Limits (−1 … 1) of a difference that each of `n` ≥ 1 pairs has: 1 all won, −1 all lost, 0 no pair differs.

    A mean between them (families of repeats, all with the same mean) counts as that share of won or lost pairs.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    wins, losses = max(estimate, 0.0), max(-estimate, 0.0)
    return -_upper(losses, wins, n, z), _upper(wins, losses, n, z)


def _upper(wins: float, losses: float, n: int, z: float) -> float:
    """The largest difference that is not refused, by bisection; wins and losses are shares of the `n` pairs."""
    low, high = wins - losses, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        refused = middle - (wins - losses) > z * _standard_error(wins, losses, middle, n)
        low, high = (low, middle) if refused else (middle, high)
    return high


def _standard_error(wins: float, losses: float, difference: float, n: int) -> float:
    """Of the observed difference if `difference` is the true one, with the share of losses that is then likeliest."""
    b = difference * (2 - wins + losses) - wins - losses
    c = -losses * difference * (1 - difference)
    lost = (math.sqrt(max(0.0, b * b - 8 * c)) - b) / 4
    return math.sqrt(max(0.0, 2 * lost + difference * (1 - difference)) / n)
