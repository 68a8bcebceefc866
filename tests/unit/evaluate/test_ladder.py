"""Facts about the ladder's arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.distributions import Thoughts
from holdfast.evaluate.ladder import Rung, answer_loss, choose, describe_steps, divergence, mean_divergence

PROBABILITIES = st.lists(st.floats(0.01, 1), min_size=3, max_size=8)


def logs(*shares: float) -> dict[int, float]:
    total = sum(shares)
    return {token: math.log(share / total) for token, share in enumerate(shares)}


def thought(*shares: float) -> list[Thoughts]:
    return [Thoughts([logs(*shares)], [math.log(shares[0] / sum(shares)), None])]


def sample(number: int, right: int) -> dict[str, object]:
    return {"id": str(number), "source": f"a:{number}", "scores": {"label_accuracy": right}}


def rung(name: str, right: list[int], *shares: float) -> Rung:
    return Rung({"rung": name}, [sample(n, r) for n, r in enumerate(right)], thought(*shares))


@given(PROBABILITIES, st.integers(0, 2**32))
def test_divergence_of_full_lists_is_the_kl(shares: list[float], seed: int) -> None:
    p, q = logs(*shares), logs(*[1 + (seed >> n & 7) for n in range(len(shares))])
    wanted = sum(math.exp(p[t]) * (p[t] - q[t]) for t in p)
    assert divergence(p, q) == pytest.approx(wanted, abs=1e-9)


@given(PROBABILITIES, PROBABILITIES, st.integers(1, 3))
def test_divergence_of_cut_lists_is_never_more_than_the_kl(left: list[float], right: list[float], kept: int) -> None:
    size = min(len(left), len(right))
    p, q = logs(*left[:size]), logs(*right[:size])
    full = sum(math.exp(p[t]) * (p[t] - q[t]) for t in p)

    def cut(d: dict[int, float]) -> dict[int, float]:
        return dict(sorted(d.items(), key=lambda pair: -pair[1])[:kept])

    assert 0 <= divergence(cut(p), cut(q)) <= full + 1e-9


def test_lists_without_a_common_token_still_have_a_divergence() -> None:
    assert divergence({1: math.log(0.9)}, {2: math.log(0.9)}) == 0  # all that is known of either is "something else"
    assert divergence({1: math.log(0.9)}, {1: math.log(0.1)}) > 1


def test_changes_of_the_first_token_are_counted() -> None:
    assert mean_divergence(thought(3, 1), thought(1, 3))["first_token_changes"] == 1
    assert mean_divergence(thought(3, 1), thought(2, 1))["first_token_changes"] == 0


def test_answer_loss_leaves_out_the_end() -> None:
    assert answer_loss(thought(1, 1)) == pytest.approx(math.log(2))


def test_each_step_has_its_name_and_its_points() -> None:
    rungs = [
        rung("adapter", [1] * 10, 8, 1, 1), rung("merged", [1] * 9 + [0], 7, 2, 1), rung("F16", [1] * 9 + [0], 7, 2, 1),
        rung("Q8_0", [1] * 9 + [0], 7, 2, 1), rung("Q4_K_M", [1] * 5 + [0] * 5, 1, 8, 1),
    ]  # fmt: skip
    steps = describe_steps(rungs, "label_accuracy", 0.05, "10 of 10")
    assert [s["step"] for s in steps] == ["template", "merge", "conversion", "quantisation", "quantisation"]
    assert [s["points"] for s in steps] == pytest.approx([0, 0.1, 0, 0, 0.4])
    assert steps[-1]["above"] == "F16"
    assert steps[-1]["low"] <= 0.4 <= steps[-1]["high"]
    assert steps[-1]["kl"] > steps[1]["kl"] > steps[2]["kl"] == 0
    assert rungs[-1].line["kl_to_above"]["first_token_changes"] == 1


def test_without_the_merged_model_its_step_and_the_next_are_one() -> None:
    rungs = [rung("adapter", [1] * 10, 8, 1, 1), rung("F16", [1] * 9 + [0], 7, 2, 1), rung("Q8_0", [0] * 10, 7, 2, 1)]
    steps = describe_steps(rungs, "label_accuracy", 0.05, "10 of 10")
    assert [s["step"] for s in steps] == ["template", "merge and conversion", "quantisation"]
    assert [s["points"] for s in steps] == pytest.approx([0, 0.1, 0.9])


FILES = [
    {"rung": "F16", "size_bytes": 100, "label_accuracy": 0.90, "valid_json": 1.0, "stopped": 1.0},
    {"rung": "Q8_0", "size_bytes": 50, "label_accuracy": 0.89, "valid_json": 1.0, "stopped": 1.0},
    {"rung": "Q4_K_M", "size_bytes": 30, "label_accuracy": 0.80, "valid_json": 1.0, "stopped": 1.0},
]
TUNED = {"label_accuracy": 0.9, "valid_json": 1.0, "stopped": 1.0}


@pytest.mark.parametrize(("allowed", "wanted"), [(0.0, "F16"), (0.01, "Q8_0"), (0.05, "Q8_0"), (0.1, "Q4_K_M")])
def test_the_smallest_file_within_the_allowed_loss_is_chosen(allowed: float, wanted: str) -> None:
    assert choose(FILES, TUNED, "label_accuracy", allowed)[0] == wanted


def test_a_small_file_that_forgets_to_stop_is_not_chosen() -> None:
    files = [*FILES[:2], {**FILES[2], "label_accuracy": 0.9, "stopped": 0.5}]
    assert choose(files, TUNED, "label_accuracy", 0.05)[0] == "Q8_0"


def test_when_no_file_is_good_enough_the_best_is_named_as_such() -> None:
    name, why = choose(FILES[1:], {**TUNED, "label_accuracy": 1.0}, "label_accuracy", 0.05)
    assert name == "Q8_0"
    assert "no file is within" in why


def test_what_was_not_measured_is_not_said_to_be_nothing() -> None:
    assert mean_divergence([], []) is None
    assert answer_loss([]) is None
    above, below = (Rung({"rung": name}, [sample(0, 1)], []) for name in ("adapter", "merged"))
    steps = describe_steps([above, below], "label_accuracy", 0.05, "")
    assert steps[1]["kl"] is None and below.line["kl_to_above"] is None
