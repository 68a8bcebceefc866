"""Exact and near duplicates: pytest tests/unit/dataset"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.records import Example, Message
from holdfast.dataset import similarity
from holdfast.dataset.duplicates import drop_exact_duplicates, find_conflicts, group_rows, texts_to_compare
from holdfast.dataset.similarity import Pair, jaccard, largest_across, shingle_texts, shingles, similar_pairs

texts = st.lists(st.text("abcd .é", max_size=25), min_size=2, max_size=12)


def row(asked: str, answer: str = "yes", source: str = "a:1", split: str | None = None) -> Example:
    turns = (Message(role="user", content=asked), Message(role="assistant", content=answer))
    return Example.model_validate({"messages": turns, "source": source, "split": split})


def test_an_exact_duplicate_is_dropped_whatever_its_case_and_spaces() -> None:
    found = drop_exact_duplicates([row("Disk full", source="a:1"), row(" disk  FULL\n", source="a:2"), row("b")])
    assert len(found.kept) == 2
    assert len(found.dropped) == 1


def test_a_row_with_a_fixed_split_is_kept_before_one_without() -> None:
    found = drop_exact_duplicates([row("x", source="a:1"), row("x", source="b:1", split="test")])
    assert found.dropped == [("a:1", "b:1")]


def test_copies_in_two_fixed_splits_stay_for_the_split_check() -> None:
    assert len(drop_exact_duplicates([row("x", split="train"), row("x", split="test")]).kept) == 2


def test_one_prompt_with_two_answers_is_a_conflict() -> None:
    rows = [row("x", '{"a": 1, "b": 2}', "a:1"), row("X", '{"b":2,"a":1}', "a:2"), row("x", '{"a":2}', "a:3")]
    assert [(v.rule, v.source) for v in find_conflicts(rows)] == [("conflicting_answers", "a:3")]


def test_a_shared_instruction_does_not_make_rows_alike() -> None:
    lead = "Classify the support ticket priority and return strict JSON."
    rows = [row(f"{lead}\n\n{text}") for text in ("disk full", "mail is late", "page looks odd")]
    assert texts_to_compare(rows, lead) == ["disk full", "mail is late", "page looks odd"]
    assert texts_to_compare(rows, "") == ["disk full", "mail is late", "page looks odd"]
    assert texts_to_compare(rows[:2], "")[0].startswith(lead)


def test_near_duplicates_are_found_and_strangers_are_not() -> None:
    one = "Checkout fails for every customer after the latest payment deployment."
    other = "Checkout fails for every customer since the latest payment deployment!"
    pairs = similar_pairs(shingle_texts([one, "The printer on floor two is jammed.", other]), 0.6)
    assert [(p.a, p.b) for p in pairs] == [(0, 2)]


def test_groups_link_rows_through_others() -> None:
    assert group_rows(5, [Pair(3, 4, 0.9), Pair(1, 3, 0.9)]) == [0, 1, 2, 1, 1]


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


def test_lsh_finds_what_the_exact_search_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    words = [f"{a}{b}" for a in ("ba", "do", "mi", "ru", "sel") for b in ("tan", "ko", "vir", "lum", "es")]
    rows = [" ".join(rng.choices(words, k=20)) for _ in range(60)]
    rows += [text.replace(words[0], "changed") for text in rows[:20]]
    shingled = shingle_texts(rows)
    exact, largest = similar_pairs(shingled, 0.8), largest_across(shingled, range(60), range(60, 80))
    assert len(exact) >= 10
    monkeypatch.setattr(similarity, "EXACT_LIMIT", 10)
    assert similar_pairs(shingled, 0.8) == exact
    assert largest_across(shingled, range(60), range(60, 80)) == largest
    assert "LSH" in similarity.describe_method(80)
