"""Exact and near duplicates: pytest tests/unit/dataset"""

import tracemalloc
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdfast.core.records import Example, Message, Split
from holdfast.dataset.duplicates import find_conflicts, find_exact_duplicates, link_rows, subject_of
from holdfast.dataset.similarity import jaccard, largest_across, shingle_texts, shingles, similar_pairs
from holdfast.dataset.table import Reading, table_of

texts = st.lists(st.text("abcd .é_-\nßA", max_size=25), min_size=2, max_size=12)


def row(asked: str, answer: str = "yes", source: str = "a:1", split: Split | None = None) -> Example:
    turns = (Message(role="user", content=asked), Message(role="assistant", content=answer))
    return Example(messages=turns, source=source, split=split)


def dropped(rows: list[Example]) -> list[tuple[str, str]]:
    """(source of the dropped row, source of the kept one)."""
    dropped = find_exact_duplicates(table_of(rows, Reading(None)))
    return [(rows[n].source, rows[kept].source) for n, kept in zip(*map(list, dropped), strict=True)]


def subjects(rows: list[Example], instruction: str) -> list[str]:
    subject = subject_of(table_of(rows, Reading(None)), np.ones(len(rows), dtype=bool), instruction)
    return [subject.text(row) for row in rows]


def test_an_exact_duplicate_is_dropped_whatever_its_case_and_spaces() -> None:
    found = dropped([row("Disk full", source="a:1"), row(" disk  FULL\n", source="a:2"), row("b", source="a:3")])
    assert sorted(found[0]) == ["a:1", "a:2"]
    assert len(found) == 1


def test_a_row_with_a_fixed_split_is_kept_before_one_without() -> None:
    assert dropped([row("x", source="a:1"), row("x", source="b:1", split="test")]) == [("a:1", "b:1")]
    both = [row("x", source="a:1"), row("x", source="b:1", split="train"), row("x", source="c:1", split="test")]
    assert dropped(both) == [("a:1", "c:1")]


def test_copies_in_two_fixed_splits_stay_for_the_split_check() -> None:
    assert dropped([row("x", split="train"), row("x", split="test")]) == []


@given(st.lists(st.tuples(st.sampled_from("abA "), st.sampled_from([None, None, "train", "test"])), max_size=12),
       st.randoms(use_true_random=False))  # fmt: skip
def test_which_copy_stays_does_not_depend_on_the_order(kinds: list[tuple[str, Split | None]], rng: Any) -> None:
    rows = [row(text, source=f"a:{n}", split=split) for n, (text, split) in enumerate(kinds)]
    before = sorted(dropped(rows))
    rng.shuffle(rows)
    assert sorted(dropped(rows)) == before


def test_preference_rows_are_duplicates_only_when_both_answers_are() -> None:
    pairs = [replace(row("x", "good", f"a:{n}"), rejected=text) for n, text in enumerate(("bad", "worse", "bad"))]
    assert [kept for _, kept in dropped(pairs)] in (["a:0"], ["a:2"])
    assert find_conflicts([replace(pairs[0], messages=row("x", "other").messages), pairs[1]]) == []


def test_one_prompt_with_two_answers_is_a_conflict() -> None:
    rows = [row("x", '{"a": 1, "b": 2}', "a:1"), row("X", '{"b":2,"a":1}', "a:2"), row("x", '{"a":2}', "a:3")]
    assert [(v.rule, v.source) for v in find_conflicts(rows)] == [("conflicting_answers", "a:3")]


def test_a_shared_instruction_does_not_make_rows_alike() -> None:
    lead = "Classify the support ticket priority and return strict JSON."
    rows = [row(f"{lead}\n\n{text}") for text in ("disk full", "mail is late", "page looks odd")]
    assert subjects(rows, lead) == ["disk full", "mail is late", "page looks odd"]
    assert subjects(rows, "") == ["disk full", "mail is late", "page looks odd"]
    assert subjects(rows[:2], "")[0].startswith(lead)


def test_near_duplicates_are_found_and_strangers_are_not() -> None:
    one = "Checkout fails for every customer after the latest payment deployment."
    other = "Checkout fails for every customer since the latest payment deployment!"
    pairs = similar_pairs(shingle_texts([one, "The printer on floor two is jammed.", other]), 0.6)
    assert [(p.a, p.b) for p in pairs] == [(0, 2)]


def test_millions_of_pairs_are_numbers_and_not_objects() -> None:
    shingled = shingle_texts([f"the same boilerplate of every alert, number {n % 3}" for n in range(400)])
    similar_pairs(shingled, 0.5)
    tracemalloc.start()
    pairs = similar_pairs(shingled, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == 400 * 399 // 2
    assert peak < 100 * len(pairs)  # bytes; a tuple of three numbers has more
    assert pairs.similarity[0] == 1.0 > pairs.similarity[-1]


def test_groups_link_rows_through_others() -> None:
    assert link_rows(5, [(np.array([3, 1]), np.array([4, 3]))]).tolist() == [0, 1, 2, 1, 1]


@given(texts, st.floats(0.1, 1.0))
def test_the_inverted_index_agrees_with_sets(rows: list[str], threshold: float) -> None:
    expected = {
        (a, b): jaccard(shingles(rows[a]), shingles(rows[b])) for a in range(len(rows)) for b in range(a + 1, len(rows))
    }
    found = {(p.a, p.b): p.similarity for p in similar_pairs(shingle_texts(rows), threshold)}
    assert found == {pair: value for pair, value in expected.items() if value >= threshold}


@given(texts)
def test_the_largest_across_is_the_largest(rows: list[str]) -> None:
    left, right = range(0, len(rows), 2), range(1, len(rows), 2)
    best = largest_across(shingle_texts(rows), left, right)
    assert best is not None
    assert best.similarity == max(jaccard(shingles(rows[a]), shingles(rows[b])) for a in left for b in right)
