import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import ContractError, IntegrityError
from holdfast.evaluate.compare import compare_samples, estimate_difference, list_items, mcnemar_p_value, sensitivity


def rows(values: list[int], prefix: str = "i") -> list[dict[str, Any]]:
    return [
        {"id": f"{prefix}{n}", "source": f"t:{n}", "prompt_text": "p", "expected": "e", "output": str(value),
         "scores": {"label_accuracy": value}}
        for n, value in enumerate(values)
    ]  # fmt: skip


def test_wins_losses_and_ties_are_counted_on_pairs_whatever_the_order() -> None:
    before, after = rows([0, 0, 1, 1, 0]), rows([1, 1, 0, 1, 0])
    comparison = compare_samples(before, after[::-1], "label_accuracy", 0.05)
    assert (comparison.wins, comparison.losses, comparison.ties, comparison.items) == (2, 1, 2, 5)
    assert comparison.difference.estimate == pytest.approx(0.2)
    assert comparison.p_value == 1.0
    assert comparison.smallest_p_value == pytest.approx(2 / 2**5)


def test_items_that_repeat_each_other_count_as_one() -> None:
    before, after = rows([0] * 30 + [1, 1]), rows([1] * 30 + [0, 1])
    repeats = {f"i{n}": "i0" for n in range(1, 28)}
    alone, grouped = (compare_samples(before, after, "label_accuracy", 0.05, of) for of in (None, repeats))
    assert (grouped.items, grouped.wins, grouped.losses, grouped.independent) == (32, 30, 1, 5)
    assert grouped.p_value == mcnemar_p_value(3, 1) > 0.05 > alone.p_value
    assert grouped.difference.estimate == pytest.approx((1 + 1 + 1 - 1 + 0) / 5)
    assert grouped.difference.low < 0 < alone.difference.low
    assert alone.independent == 32


def test_a_family_of_repeats_with_wins_and_losses_weighs_their_mean() -> None:
    before, after = rows([0, 0, 1, 0]), rows([1, 1, 0, 1])
    comparison = compare_samples(before, after, "label_accuracy", 0.05, {"i1": "i0", "i2": "i0"})
    assert comparison.difference.estimate == pytest.approx((1 / 3 + 1) / 2)
    assert comparison.smallest_p_value == mcnemar_p_value(2, 0)


def test_items_are_listed_with_wins_first() -> None:
    listed = list_items(rows([0, 1, 1]), rows([0, 0, 1]), "label_accuracy")
    assert [row["outcome"] for row in listed] == ["loss", "tie", "tie"]
    assert (listed[0]["baseline_output"], listed[0]["tuned_output"]) == ("1", "0")


def test_different_items_are_an_integrity_error_with_counts() -> None:
    with pytest.raises(IntegrityError, match="3 only in baseline .*, 2 only in tuned"):
        compare_samples(rows([1, 1, 1], "a"), rows([1, 1], "b"), "label_accuracy", 0.05)


def test_same_item_twice_is_a_contract_error() -> None:
    with pytest.raises(ContractError, match="t:0 and t:0 are the same item"):
        compare_samples(rows([1]) * 2, rows([1]), "label_accuracy", 0.05)


def test_no_items_are_a_contract_error() -> None:
    with pytest.raises(ContractError, match="0 items"):
        compare_samples([], [], "label_accuracy", 0.05)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_two_sided_binomial_tail(wins: int, losses: int) -> None:
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    assert mcnemar_p_value(wins, losses) == pytest.approx(min(1.0, 2 * tail))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=80))
def test_interval_is_ordered_repeatable_and_never_nan(differences: list[int]) -> None:
    first = estimate_difference(differences, 0.95)
    assert -1 <= first.low <= first.high <= 1
    assert first == estimate_difference(differences, 0.95)
    assert (first.method == "Tango score") == (len(set(differences)) == 1)
    assert first.low < first.high


Z2 = 1.959964**2


@pytest.mark.parametrize("n", [2, 3, 20, 120, 3000])
def test_equal_differences_have_the_score_interval_and_say_so(n: int) -> None:
    none, won, lost = (estimate_difference([value] * n, 0.95) for value in (0, 1, -1))
    assert {none.method, won.method, lost.method} == {"Tango score"}
    assert (none.low, none.high) == pytest.approx((-Z2 / (n + Z2), Z2 / (n + Z2)), abs=1e-6)
    assert (won.low, won.high) == pytest.approx(((n - Z2) / (n + Z2), 1.0), abs=1e-6)
    assert (lost.low, lost.high) == pytest.approx((-won.high, -won.low), abs=1e-6)


def test_three_wins_of_three_do_not_exclude_a_loss() -> None:
    comparison = compare_samples(rows([0] * 3), rows([1] * 3), "label_accuracy", 0.05)
    assert comparison.difference.low < 0 < comparison.difference.estimate == comparison.difference.high == 1.0


def test_the_score_interval_holds_every_difference_that_few_items_may_hide() -> None:
    for n in (10, 40, 74, 200):
        high = estimate_difference([0] * n, 0.95).high
        assert (1 - high) ** n < 0.05, "a gain beyond the limit would hardly ever show no win at all"
        assert (1 - high / 2) ** n > 0.05, "the limit is not twice as far as it must be"


def test_single_item_has_no_interval() -> None:
    only = estimate_difference([1], 0.95)
    assert (only.low, only.high, only.method) == (-1.0, 1.0, "none")


def test_bca_interval_agrees_with_the_normal_interval_when_n_is_large() -> None:
    differences = [1] * 300 + [-1] * 100 + [0] * 600
    half = 1.96 * math.sqrt((0.4 - 0.04) / 1000)
    got = estimate_difference(differences, 0.95)
    assert (got.low, got.high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.005)
    assert got.method == "BCa bootstrap"


def test_items_needed_matches_connor() -> None:
    # (1.959964 · √0.3 + 0.841621 · √(0.3 − 0.01))² / 0.01 = 233.2
    assert sensitivity(100, 20, 10, 0.05).items_needed == 234
    assert sensitivity(100, 20, 10, 0.05).more_items == 134
    assert sensitivity(100, 10, 10, 0.05).items_needed is None


def test_detectable_effect_needs_exactly_the_items_there_are() -> None:
    effect = sensitivity(400, 80, 40, 0.05).minimum_detectable_effect
    assert effect is not None
    reach = 1.959964 * math.sqrt(0.3) + 0.841621 * math.sqrt(0.3 - effect**2)
    assert effect * math.sqrt(400) == pytest.approx(reach, abs=1e-4)
    assert sensitivity(10, 1, 0, 0.05).minimum_detectable_effect is None


def test_items_that_both_answered_in_form_are_compared_by_themselves() -> None:
    def row(number: int, valid: int, right: int) -> dict[str, Any]:
        return {"id": f"{number}", "source": f"t:{number}", "scores": {"valid_json": valid, "label_accuracy": right}}

    before = [row(i, int(i < 10), int(i < 10)) for i in range(30)]  # a third in form, and all of those right
    after = [row(i, 1, int(i >= 8)) for i in range(30)]  # all in form, but wrong where the other was right
    form = compare_samples(before, after, "valid_json", 0.05)
    assert form.both_valid is not None and form.both_valid.losses == 8, "also when form decides"
    found = compare_samples(before, after, "label_accuracy", 0.05)
    assert (found.wins, found.losses) == (20, 8) and found.difference.estimate > 0
    assert found.both_valid is not None
    assert (found.both_valid.items, found.both_valid.wins, found.both_valid.losses) == (10, 0, 8)
    assert found.both_valid.difference == pytest.approx(-0.8) and found.both_valid.p_value < 0.01
