"""The general set is sound, and a loss on it is seen."""

import pytest

from holdfast.evaluate.forgetting import is_right, measure_forgetting, read_general_items, score_general

ITEMS = read_general_items()


def test_every_item_has_its_own_id_and_a_right_answer() -> None:
    assert len({item.id for item in ITEMS}) == len({item.prompt for item in ITEMS}) == len(ITEMS) >= 40
    assert {item.kind for item in ITEMS} == {"facts", "labels", "form", "knowledge"}
    assert all(is_right(item, f"It is {accepted}.") for item in ITEMS for accepted in item.accept)


def test_no_item_is_right_with_nothing_or_with_the_answer_of_a_triage_model() -> None:
    assert not any(is_right(item, text) for item in ITEMS for text in ("", '{"priority":"low","reason":"unclear"}'))


@pytest.mark.parametrize(("output", "right"), [("22", 1), ("Port 22.", 1), ("2222", 0), ("port22", 0), ("23", 0)])
def test_only_whole_words_count(output: str, right: int) -> None:
    item = next(item for item in ITEMS if "SSH listen" in item.prompt)
    assert is_right(item, output) == right


def test_forgetting_everything_is_a_significant_loss() -> None:
    before = score_general(ITEMS, [item.accept[0] for item in ITEMS])
    after = score_general(ITEMS, ["low"] * len(ITEMS))
    found = measure_forgetting(before, after, 0.05)
    assert (found["baseline"], found["tuned"], found["loss"]) == (1.0, 0.0, 1.0)
    assert found["significant"] and found["unchanged_answers"] == 0
    assert found["by_kind"]["facts"] == {"n": 16, "baseline": 1.0, "tuned": 0.0}


def test_equal_models_lose_nothing() -> None:
    rows = score_general(ITEMS, [item.accept[0] for item in ITEMS])
    found = measure_forgetting(rows, rows, 0.05)
    assert (found["loss"], found["significant"], found["unchanged_answers"]) == (0.0, False, 1.0)


def test_the_system_prompt_of_the_run_is_asked_with() -> None:
    assert [m.role for m in ITEMS[0].example("You are terse.").prompt] == ["system", "user"]
    assert [m.role for m in ITEMS[0].example("").prompt] == ["user"]
