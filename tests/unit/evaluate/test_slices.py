import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.evaluate.slices import SMALLEST, describe_slices, paired_interval, slice_samples

ALPHA = 0.05


def row(number: int, score: int, label: str = "a", words: str = "x", **tags: Any) -> dict[str, Any]:
    return {
        "id": str(number), "source": f"test.jsonl:{number}", "tags": tags, "prompt_text": words * (number + 1),
        "expected_label": label, "scores": {"m": score},
    }  # fmt: skip


def samples(outcomes: list[tuple[int, int]], **tags: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return [row(i, a, **tags) for i, (a, _) in enumerate(outcomes)], [
        row(i, b, **tags) for i, (_, b) in enumerate(outcomes)
    ]


def test_items_are_cut_by_label_source_length_and_every_tag() -> None:
    before = [
        row(i, 0, label="ab"[i % 2], domain="net" if i < 12 else "disk", borderline=i % 3 == 0) for i in range(24)
    ]
    after = [{**r, "scores": {"m": 1}} for r in before]
    found = {(s["by"], s["value"]): s for s in slice_samples(before, after, "m", ALPHA)}
    assert {by for by, _ in found} == {"label", "length", "tag domain", "tag borderline"}, "one source is all items"
    assert found["tag borderline", "true"]["n"] == 8
    assert [found["length", name]["n"] for name in ("short", "middle", "long")] == [8, 8, 8]
    one = found["label", "a"]
    assert (one["baseline"], one["tuned"], one["difference"], one["wins"], one["losses"]) == (0.0, 1.0, 1.0, 12, 0)
    assert not any(s["regressed"] for s in found.values())


def test_small_slices_and_those_of_all_items_are_left_out() -> None:
    before = [row(i, 0, kind="rare" if i < SMALLEST - 1 else "common") for i in range(20)]
    assert ("tag kind", "rare") not in {(s["by"], s["value"]) for s in slice_samples(before, before, "m", ALPHA)}


def test_a_loss_in_one_domain_is_found_below_a_gain_on_average() -> None:
    before = [row(i, int(i < 20), domain="disk" if i < 20 else "net") for i in range(80)]
    after = [{**r, "scores": {"m": int(i >= 20)}} for i, r in enumerate(before)]
    document, line = describe_slices(before, after, "m", ALPHA)
    worst = document["slices"][0]
    assert (worst["by"], worst["value"], worst["difference"], worst["regressed"]) == ("tag domain", "disk", -1.0, True)
    assert worst["p_adjusted"] > worst["p_value"]
    assert "significantly worse" in line and "tag domain disk (-100 points, 20 items)" in line


def test_without_an_effect_a_run_reports_a_false_regression_in_at_most_5_percent() -> None:
    drawn, false = random.Random(5), 0
    experiments = 400
    for _ in range(experiments):
        before = [row(i, drawn.randint(0, 1), label="abcd"[i % 4], tag=i % 5, other=i % 7) for i in range(140)]
        after = [{**r, "scores": {"m": drawn.randint(0, 1)}} for r in before]
        false += any(s["regressed"] for s in slice_samples(before, after, "m", ALPHA))
    print(f"false regressions in {false} of {experiments} runs without an effect")
    assert false <= 0.05 * experiments + 3 * (0.05 * 0.95 * experiments) ** 0.5


@pytest.mark.parametrize(
    ("counts", "interval"),
    # Newcombe 1998, table II, method 10: (both, wins, losses, neither) gives its published limits.
    [((36, 12, 2, 0), (0.0569, 0.3404)), ((20, 12, 2, 16), (0.0562, 0.3292)), ((54, 0, 0, 0), (-0.0664, 0.0664))],
)  # fmt: skip
def test_the_interval_is_newcombes(counts: tuple[int, int, int, int], interval: tuple[float, float]) -> None:
    both, wins, losses, neither = counts
    assert paired_interval(both, wins, losses, neither) == pytest.approx(interval, abs=6e-4)


def test_the_interval_covers_the_truth_in_95_percent() -> None:
    drawn, covered, experiments = random.Random(3), 0, 4000
    for _ in range(experiments):
        outcomes = drawn.choices(("both", "win", "loss", "neither"), (0.4, 0.3, 0.1, 0.2), k=30)
        low, high = paired_interval(*(outcomes.count(name) for name in ("both", "win", "loss", "neither")))
        covered += low <= 0.2 <= high
    print(f"interval of a slice of 30 items covered in {100 * covered / experiments:.1f} %")
    assert 0.935 <= covered / experiments <= 0.985


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_the_interval_holds_the_estimate_and_stays_in_range(counts: tuple[int, int, int, int]) -> None:
    both, wins, losses, neither = counts
    low, high = paired_interval(both, wins, losses, neither)
    assert -1 <= low <= (wins - losses) / sum(counts) <= high <= 1
