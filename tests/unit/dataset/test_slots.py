"""Slots are filled the same way from the same seed. pytest tests/unit/dataset/test_slots.py"""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.dataset.slots import fill, fill_all, find_faults, seeded

SLOTS = {
    "node": ["pve1", "pve2", "pve3"],
    "place": ["{node} in {rack}", "rack {rack}"],
    "rack": ["A", "B"],
    "alert": [{"text": "pool full on {node}", "priority": "high"}, {"text": "fan noisy", "priority": "low"}],
}


def test_a_name_has_one_value_in_the_whole_row() -> None:
    for n in range(30):
        text, answer = fill_all(("{node}: {place}, {alert}", "{alert.priority} {node} {rack}"), SLOTS, {}, seeded(n))
        priority, node, rack = answer.split()
        assert text.startswith(f"{node}: ")
        assert f"rack {rack}" in text or f"{node} in {rack}" in text
        assert ("pool full" in text) == (priority == "high")
        assert "{" not in text + answer


def test_json_is_no_slot_and_rows_words_are_not_filled_in() -> None:
    given_values = {"input": "the word {node} of a row"}
    text = fill('{"a":{"b":1}} {input} {node}', SLOTS, given_values, seeded(1))
    assert text.startswith('{"a":{"b":1}} the word {node} of a row pve')


@given(st.integers(), st.text(max_size=30))
def test_the_same_parts_draw_the_same_values(seed: int, name: str) -> None:
    one, other = (fill("{place} {alert}", SLOTS, {}, seeded(seed, name)) for _ in range(2))
    assert one == other


def test_seeds_differ() -> None:
    assert len({fill("{place} {alert}", SLOTS, {}, seeded(n)) for n in range(50)}) > 5


def test_faults_are_all_named() -> None:
    slots = {"a": ["{b}"], "b": ["{a}"], "c": ["{missing}"], "r": [{"text": "x"}], "empty": []}
    faults = find_faults({"one": ["{nod} {r.label} {c.text} {input}"]}, slots, {"one": ("input",)})
    joined = "\n".join(faults)
    assert "slot 'a' holds itself: a → b → a" in joined
    assert "slot 'c' names {missing}" in joined
    assert "rule 'one' names {nod}" in joined
    assert "{r.label}, but a value of slot 'r' has only text" in joined
    assert "{c.text}, but a value of slot 'c' is plain text" in joined
    assert "slot 'empty' has no values" in joined
    assert "{input}" not in joined


def test_good_slots_have_no_fault() -> None:
    assert find_faults({"r": ["{place} {alert} {alert.priority} {input}"]}, SLOTS, {"r": ("input",)}) == []
