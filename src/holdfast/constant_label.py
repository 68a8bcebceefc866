"""Is a model better than one that gives every item the same label? What beats a baseline without form may not be."""

from typing import Literal

from holdfast.core.config import DecideConfig
from holdfast.next_change import Results, percent

Verdict = Literal["keep", "iterate", "discard", "undecidable"]
ONE_LABEL = "Next: test items of the other labels, about as many of each as there will be in use."


def only_label(tuned: Results) -> str | None:
    """The label that all test items have; None when there are several, or none."""
    labels = list(tuned["confusion"])
    return str(labels[0]) if len(labels) == 1 else None


def judge_constant(tuned: Results, gates: DecideConfig) -> tuple[Verdict, str] | None:
    """A model that learned only the form beats a baseline that has none; so it must also beat the commonest label.

    None when it does, or when there are no labels.
    """
    from scipy.stats import binom

    totals = {label: sum(given.values()) for label, given in tuned["confusion"].items()}
    if not totals:
        return None
    if label := only_label(tuned):
        return "undecidable", (
            f"All {totals[label]} test items have the label {label!r}: a model that gives every item this label would "
            "be as good, so nothing is known about telling labels apart."
        )
    label, n = max(totals, key=lambda name: totals[name]), sum(totals.values())
    share, hits = totals[label] / n, sum(given.get(name, 0) for name, given in tuned["confusion"].items())
    p_value = float(binom.sf(hits - 1, n, share))
    if p_value < gates.alpha:
        return None
    close = hits / n > share + gates.minimum_gain
    return "undecidable" if close else "discard", (
        f"Form is learned, labels are not: {percent(hits / n)} right, and answering {label!r} every time would have "
        f"{percent(share)} (p = {p_value:.2g}, limit {gates.alpha:g})."
    )
