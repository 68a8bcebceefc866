"""Several runs: corrected for how many pairs were looked at."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import UsageError
from holdfast.evaluate.compare_runs import holm, rank_runs


def rows(scores: list[int]) -> list[dict[str, Any]]:
    return [{"id": f"{i}", "source": f"t:{i}", "scores": {"label_accuracy": s}} for i, s in enumerate(scores)]


def test_the_best_run_beats_all_others() -> None:
    found = rank_runs({"a": rows([0] * 60), "b": rows([1] * 60), "c": rows([1, 0] * 30)}, "label_accuracy", 0.05)
    assert found.best == "b"
    assert [score["run"] for score in found.scores] == ["b", "c", "a"]
    assert {(pair.first, pair.second): pair.better for pair in found.pairs} == {
        ("a", "b"): "b", ("a", "c"): "c", ("b", "c"): "b",
    }  # fmt: skip


def test_runs_that_cannot_be_told_apart_have_no_best() -> None:
    found = rank_runs({"a": rows([1, 0] * 30), "b": rows([0, 1] * 30)}, "label_accuracy", 0.05)
    assert found.best is None
    assert found.pairs[0].better is None


def test_a_difference_that_counts_alone_may_not_count_among_many() -> None:
    base, better = [1] * 10 + [0] * 20, [1] * 17 + [0] * 13  # 7 won, 0 lost: p = 0.016
    assert rank_runs({"a": rows(base), "b": rows(better)}, "label_accuracy", 0.05).best == "b"
    more = {name: rows(base[i:] + base[:i]) for i, name in enumerate("cdef", 1)}
    pair = rank_runs({"a": rows(base), "b": rows(better), **more}, "label_accuracy", 0.05).pairs[0]
    assert (pair.comparison.wins, pair.comparison.losses) == (7, 0)
    assert pair.better is None


def test_holm_as_in_the_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_adjusting_never_helps_and_keeps_the_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    assert [x for _, x in sorted(zip(values, adjusted, strict=True))] == sorted(adjusted)


def test_equal_models_are_rarely_called_different_however_many_there_are() -> None:
    draw, false = random.Random(3), 0
    for _ in range(100):
        runs = {name: rows([draw.randint(0, 1) for _ in range(40)]) for name in "abcd"}
        false += any(pair.better for pair in rank_runs(runs, "label_accuracy", 0.05).pairs)
    assert false <= 9  # 5 expected at most; 9 or more has probability 0.06 at exactly 5 %


def test_fewer_than_two_runs_and_other_items_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 2 different runs, got 1"):
        rank_runs({"a": rows([1])}, "label_accuracy", 0.05)
    with pytest.raises(
        UsageError, match="a and c did not answer the same items: 1 are common, 1 only in a, 0 only in c"
    ):
        rank_runs({"a": rows([1, 1]), "b": rows([1, 0]), "c": rows([1])}, "label_accuracy", 0.05)


def test_a_run_without_the_score_of_the_first_one_is_named() -> None:
    with pytest.raises(UsageError, match="b has no score 'close', which the first run is decided by; it has label_acc"):
        rank_runs({"a": [{**row, "scores": {"close": 1}} for row in rows([1])], "b": rows([1])}, "close", 0.05)
