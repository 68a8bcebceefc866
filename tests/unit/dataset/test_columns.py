"""Columns in files give what columns in memory give, and rows dealt in parts go where `assign_splits` puts them."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from holdfast.core.console import Console
from holdfast.core.errors import ContractError
from holdfast.core.records import Example, Message, examples_bytes
from holdfast.dataset import columns, similarity
from holdfast.dataset.columns import COLUMNS, buckets, in_order_of_id, parts, store_columns, take
from holdfast.dataset.deal import deal_rows, smallest_keys
from holdfast.dataset.divide import Options, Shards, divide, strata_of
from holdfast.dataset.duplicates import conflicts_of, find_exact_duplicates, subject_of
from holdfast.dataset.scan import scan
from holdfast.dataset.similarity import mix
from holdfast.dataset.split import FREE, Rows, Sizes, assign_splits
from holdfast.dataset.summary import split_digest
from holdfast.dataset.table import Reading, Table, open_rows


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PART_ROWS", 37)
    monkeypatch.setattr(columns, "BUCKET_ROWS", 50)


def table(count: int, seed: int) -> Table:
    """Random rows with many equal prompts, answers, leads and sources, and a few fixed splits."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, dtype=COLUMNS)
    for name, kind in COLUMNS:
        rows[name] = rng.integers(1, 30, count).astype(kind)
    rows["id"] = rng.integers(0, 2**48, count)
    rows["id"][::9] = 5
    rows["prompt2"] = rows["prompt"] % 3
    rows["stratum"] = rng.choice(np.array([3, 2**63 + 1, 77, 9], dtype=np.uint64), count, p=[0.6, 0.3, 0.09, 0.01])
    rows["fixed"] = rng.choice(4, count, p=[0.9, 0.04, 0.03, 0.03]) if seed % 2 else 0
    return Table(rows, {3: ("a", ""), 2**63 + 1: ("b", ""), 77: ("c", ""), 9: ("d", "")}, ())  # type: ignore[dict-item]


def stored(found: Table, folder: Path) -> Table:
    assert isinstance(found.rows, np.ndarray)
    return Table(store_columns(folder, [found.rows[:70], found.rows[70:]]), found.strata, ())


@pytest.mark.parametrize("count", [0, 1, 36, 37, 38, 400])
def test_columns_are_read_back(tmp_path: Path, count: int) -> None:
    whole = table(count, 1)
    rows = stored(whole, tmp_path).rows
    assert len(rows) == count
    for name, _ in COLUMNS:
        assert (rows[name] == whole.rows[name]).all()
        assert [v for place, (part,) in parts(rows, name) for v in part.tolist()] == whole.rows[name].tolist()
        some = np.arange(0, count, 3)
        assert (take(rows, name, some) == whole.rows[name][some]).all()


def test_a_bucket_holds_all_rows_of_a_value(tmp_path: Path) -> None:
    rows = stored(table(400, 2), tmp_path).rows
    found = list(buckets(rows, "prompt"))
    assert len(found) == 8
    assert sorted(np.concatenate(found).tolist()) == list(range(400))
    values = [set(rows["prompt"][where].tolist()) for where in found]
    assert sum(map(len, values)) == len(set().union(*values))


@pytest.mark.parametrize("seed", range(6))
def test_duplicates_and_leads_are_those_of_columns_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    whole = table(300, seed)
    other = stored(whole, tmp_path)
    keep = np.arange(300) % 7 > 0
    found = find_exact_duplicates(other), subject_of(other, keep, "").shared_leads
    in_parts = [pair for ids, splits in in_order_of_id(other.rows, np.where(keep, 1, -1).astype(np.int8))
                for pair in zip(ids.tolist(), splits.tolist(), strict=True)]  # fmt: skip
    monkeypatch.setattr(columns, "BUCKET_ROWS", 1000)
    wanted = find_exact_duplicates(whole), subject_of(whole, keep, "").shared_leads
    assert (found[0].rows == wanted[0].rows).all() and (found[0].kept == wanted[0].kept).all()
    assert found[1] == wanted[1] and len(found[0].rows) > 100
    assert in_parts == sorted((int(name), 1) for name in whole.rows["id"][keep])


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_dealt_as_ever(tmp_path: Path, seed: int) -> None:
    whole = table(500, seed)
    keep = np.arange(500) % 5 > 0
    sizes = [Sizes(0.1, 0.2), Sizes(7, 30), Sizes(0, 0.5), Sizes(3, 3)][seed % 4]
    numbers = np.array([3, 2**63 + 1, 77, 9], dtype=np.uint64)
    place = np.argsort(numbers)[np.searchsorted(np.sort(numbers), whole.rows["stratum"][keep])]
    given = Rows(whole.rows["id"][keep], (whole.rows["fixed"][keep] - 1).astype(np.int8),
                 np.full(keep.sum(), FREE, dtype=np.int8), place, np.flatnonzero(keep))  # fmt: skip
    splits = deal_rows(stored(whole, tmp_path).rows, keep, numbers, sizes, seed)
    assert (splits[keep] == assign_splits(given, sizes, seed)).all()
    assert (splits[~keep] == -1).all()


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="leave none of 20 rows to train on"):
        deal_rows(table(20, 0).rows, np.ones(20, dtype=bool), np.array([3, 2**63 + 1, 77, 9], dtype=np.uint64),
                  Sizes(10, 10), 1)  # fmt: skip


def test_the_smallest_keys_are_found(tmp_path: Path) -> None:
    whole = table(300, 4)
    chosen = np.arange(300) % 3 == 0
    rows = np.flatnonzero(chosen)
    wanted = rows[np.argsort(mix(whole.rows["id"][rows], 8), kind="stable")[:25]]
    assert (smallest_keys(stored(whole, tmp_path).rows, chosen, 8, 25) == wanted).all()


def test_a_data_set_in_files_is_divided_as_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [
        Example(messages=(Message(role="user", content=f"u{n % 190}"), Message(role="assistant", content=f"{n % 90}")),
                source=f"a:{n}", tags={"domain": f"d{n % 3}"}) for n in range(200)
    ]  # fmt: skip
    path = tmp_path / "examples.jsonl"
    path.write_bytes(examples_bytes(examples))
    monkeypatch.setattr(similarity, "EXACT_LIMIT", 10)
    found = []
    for folder in ("memory", "files"):
        scanned = scan(path, Reading(None), tmp_path / folder, Console(quiet=True))
        data = scanned.table
        if folder == "files":
            data = Table(store_columns(tmp_path / folder, [data.rows]), data.strata, ())  # type: ignore[list-item]
        else:
            monkeypatch.setattr(columns, "BUCKET_ROWS", 1000)
        with open_rows(path, data.rows) as lookup:
            shards = Shards(
                path, lookup, scanned.parts, scanned.firsts, tmp_path / folder, Console(quiet=True), nullcontext
            )
            divided = divide(data, lookup, Options(Sizes(0.1, 0.2), None, 42), shards)
            conflicts = conflicts_of(data, lookup)
        found.append((divided.splits.tolist(), divided.dropped.rows.tolist(), divided.proof, conflicts,
                      strata_of(divided), split_digest(divided)))  # fmt: skip
        monkeypatch.setattr(columns, "BUCKET_ROWS", 50)
    assert found[0] == found[1]
    assert len(found[0][1]) == 10
    assert found[0][3].counted.rows == 10
