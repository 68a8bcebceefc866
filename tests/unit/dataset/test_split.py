"""The split: whole groups, fixed rows stay, order of files does not matter. pytest tests/unit/dataset"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from holdfast.core.errors import ContractError, IntegrityError
from holdfast.core.records import SPLITS, Example, Message, Split
from holdfast.dataset.divide import Divided, Options, divide
from holdfast.dataset.split import Rows, Sizes, read_lock, share_out, write_lock
from holdfast.dataset.split import assign_splits as assign_arrays
from holdfast.dataset.table import Reading, number, table_of


class Row(NamedTuple):
    id: str
    fixed: Split | None
    label: str
    group: int
    locked: Split | None = None


def assign_splits(rows: list[Row], sizes: Sizes, seed: int) -> list[Split]:
    names = [None, *SPLITS]
    labels = sorted({row.label for row in rows})
    arrays = Rows(
        np.array([number(row.id) for row in rows], dtype=np.uint64),
        np.array([names.index(row.fixed) - 1 for row in rows], dtype=np.int8),
        np.array([names.index(row.locked) - 1 for row in rows], dtype=np.int8),
        np.array([labels.index(row.label) for row in rows], dtype=np.int64),
        np.array([row.group for row in rows], dtype=np.int64),
    )
    return [SPLITS[place] for place in assign_arrays(arrays, sizes, seed).tolist()]


fixed: st.SearchStrategy[Split | None] = st.sampled_from([None, None, None, "train", "valid", "test"])
tables = st.lists(st.tuples(fixed, st.sampled_from("abc"), st.integers(0, 30)), min_size=4, max_size=60).map(
    lambda rows: [Row(f"id{n}", split, label, group) for n, (split, label, group) in enumerate(rows)]
)
shares = st.builds(Sizes, st.floats(0, 0.4), st.floats(0, 0.4))


def loose(count: int, label: str = "a") -> list[Row]:
    return [Row(f"{label}{n}", None, label, n + 1000 * ord(label)) for n in range(count)]


def outcome(rows: list[Row], sizes: Sizes, seed: int) -> dict[str, Split] | None:
    """Split of each row by id; None when the sizes leave nothing to train on."""
    try:
        return {row.id: split for row, split in zip(rows, assign_splits(rows, sizes, seed), strict=True)}
    except ContractError:
        return None


@given(tables, shares, st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[Row], sizes: Sizes, seed: int, rng: object) -> None:
    shuffled = list(rows)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert outcome(rows, sizes, seed) == outcome(shuffled, sizes, seed)


@given(tables, shares, st.integers(0, 99))
def test_fixed_rows_stay_and_free_groups_are_never_torn(rows: list[Row], sizes: Sizes, seed: int) -> None:
    assume(outcome(rows, sizes, seed) is not None)
    splits = assign_splits(rows, sizes, seed)
    assert all(row.fixed in (None, split) for row, split in zip(rows, splits, strict=True))
    groups: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row.group].append(i)
    for members in groups.values():
        if all(rows[i].fixed is None for i in members):
            assert len({splits[i] for i in members}) == 1


@given(tables, shares, st.integers(0, 99))
def test_a_set_with_fixed_rows_takes_none_of_the_others(rows: list[Row], sizes: Sizes, seed: int) -> None:
    assume(outcome(rows, sizes, seed) is not None)
    splits = assign_splits(rows, sizes, seed)
    if any(row.fixed == "test" for row in rows):
        assert all(row.fixed == "test" for row, split in zip(rows, splits, strict=True) if split == "test")


@given(st.integers(10, 60), st.integers(10, 60), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 9))
def test_sizes_are_met_and_labels_are_balanced(a: int, b: int, valid: float, test: float, seed: int) -> None:
    rows = loose(a) + loose(b, "b")
    splits = assign_splits(rows, Sizes(valid, test), seed)
    count = Counter(splits)
    assert (count["valid"], count["test"]) == (round(valid * len(rows)), round(test * len(rows)))
    in_test = sum(split == "test" and row.label == "a" for row, split in zip(rows, splits, strict=True))
    assert abs(in_test - count["test"] * a / (a + b)) <= 1


def test_sizes_above_one_are_counts_and_the_seed_changes_the_rows() -> None:
    rows = loose(100)
    one, other = (assign_splits(rows, Sizes(7, 13), seed) for seed in (1, 2))
    assert Counter(one) == Counter(other) == {"train": 80, "test": 13, "valid": 7}
    assert one != other


def test_adding_rows_hardly_moves_the_others() -> None:
    before, after = (assign_splits(loose(n), Sizes(0, 0.2), 42) for n in (100, 110))
    assert sum(x != y for x, y in zip(before, after, strict=False)) <= 4


def test_sizes_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ContractError, match=r"test \(8 rows\) and valid \(4 rows\) leave none of 10 rows"):
        assign_splits(loose(10), Sizes(4, 8), 42)


def example(text: str, source: str, split: Split | None, **tags: str) -> Example:
    turns = (Message(role="user", content=text), Message(role="assistant", content="yes"))
    return Example(messages=turns, source=source, split=split, tags=dict(tags))


def divided_by(rows: list[Example], sizes: Sizes, threshold: float) -> Divided:
    return divide(table_of(rows, Reading(None)), rows, Options(sizes, threshold, 42))


OUTAGE = "Checkout fails for every customer after the latest payment deployment"


@pytest.mark.parametrize("split", ["train", None])
def test_a_near_duplicate_across_test_and_train_names_both_rows(split: Split | None) -> None:
    rows = [
        example(f"{OUTAGE}!", "a.jsonl:7", split),
        example(f"{OUTAGE} today", "test.jsonl:3", "test"),
        example("The printer on floor two is jammed", "a.jsonl:8", "train"),
    ]
    with pytest.raises(ContractError, match=r"a\.jsonl:7 and test\.jsonl:3: similarity 0\.\d\d\d") as caught:
        divided_by(rows, Sizes(0.1, 0.2), 0.8)
    assert caught.value.exit_code == 20
    assert "near_duplicate_threshold" in caught.value.hint


def test_near_duplicates_without_a_split_end_in_the_same_set() -> None:
    subjects = [f"subject {chr(97 + n) * 6} {n * 7919}" for n in range(25)]
    rows = [example(f"{OUTAGE} in {s} {s} {s}{end}", f"a:{s}{end}", None) for s in subjects for end in ("", "!", "?!")]
    divided = divided_by(rows[:-1], Sizes(0.2, 0.2), 0.95)
    where: dict[int, set[int]] = defaultdict(set)
    for group, split in zip(divided.groups.tolist(), divided.splits.tolist(), strict=True):
        where[group].add(split)
    assert len(where) > 10
    assert all(len(splits) == 1 for splits in where.values())
    assert all(pair is None or pair.similarity < 0.95 for pair in divided.proof.values())


def test_rows_of_one_fact_end_in_the_same_set() -> None:
    rows = [example(f"question {n} {n * 7919} {chr(97 + n % 26) * 9}", f"a:{n}", None, fact=str(n // 4))
            for n in range(80)]  # fmt: skip
    divided = divided_by(rows, Sizes(0.2, 0.2), 0.9)
    places = divided.splits.tolist()
    assert all(len(set(places[n : n + 4])) == 1 for n in range(0, 80, 4))
    assert set(places) == {0, 1, 2}


@given(tables, shares, st.integers(0, 9), st.integers(0, 40))
def test_locked_rows_keep_their_places_when_rows_are_added(
    rows: list[Row], sizes: Sizes, seed: int, added: int
) -> None:
    assume((before := outcome(rows, sizes, seed)) is not None)
    assert before is not None
    old = [row._replace(locked=before[row.id]) for row in rows]
    new = [Row(f"new{n}", None, "abc"[n % 3], 1000 + n) for n in range(added)]
    after = outcome([*new, *old], sizes, seed)
    assert after is None or all(after[row.id] == before[row.id] for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_added_rows_fill_the_locked_splits_up_to_their_size(seed: int) -> None:
    rows = loose(100)
    before = assign_splits(rows, Sizes(0.1, 0.2), seed)
    old = [row._replace(locked=split) for row, split in zip(rows, before, strict=True)]
    after = assign_splits([*old, *loose(50, "b")], Sizes(0.1, 0.2), seed)
    assert after[:100] == before
    assert Counter(after) == {"train": 105, "test": 30, "valid": 15}


def test_a_lock_file_is_read_back_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.lock"
    ids = np.array([3, 7, 2**47], dtype=np.uint64)
    write_lock(path, [(ids[:1], np.array([1], dtype=np.int8)), (ids[1:], np.array([0, 2], dtype=np.int8))])
    assert read_lock(path, np.array([2**47, 5, 3, 7], dtype=np.uint64)).tolist() == [2, -1, 1, 0]
    path.write_text(path.read_text().replace(" valid", " vlid"))
    with pytest.raises(IntegrityError, match=r"split\.lock:2 is damaged"):
        read_lock(path, ids)


def test_a_small_domain_gets_a_row_of_every_split_that_has_enough() -> None:
    assert share_out(10, {0: 1000, 1: 4, 2: 2}) == {0: 9, 1: 1, 2: 0}
    assert share_out(2, {0: 1000, 1: 4, 2: 4}) == {0: 2, 1: 0, 2: 0}
    assert sum(share_out(7, {n: 3 + n for n in range(5)}).values()) == 7
