"""train, valid, test: whole near-duplicate groups, stratified by label, the same whatever the order of the files."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.core.records import SPLITS, Example
from holdfast.dataset.similarity import Pair, Shingled, largest_across

Split = Literal["train", "valid", "test"]


class Row(NamedTuple):
    """What the split needs to know of an example. `group`: rows with the same group go together."""

    id: str
    fixed: Split | None
    label: str
    group: int


class Sizes(NamedTuple):
    """How many rows to take: up to 1 a share of the rows without a fixed split, above 1 a count."""

    valid: float
    test: float


def assign_splits(rows: Sequence[Row], sizes: Sizes, seed: int) -> list[Split]:
    """The split of each row. Fixed rows stay; a set that has fixed rows is not filled from the others.

    A row without a split that is a near duplicate of a fixed row follows it into valid or train, never into test.
    Raises ContractError when the sizes leave no row to train on.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        members[row.group].append(position)
    splits: list[Split] = [row.fixed or "train" for row in rows]
    free: list[list[int]] = []
    for group in members.values():
        fixed = {rows[i].fixed for i in group} - {None}
        if not fixed:
            free.append(group)
        elif fixed == {"valid"}:
            for i in group:
                splits[i] = "valid"
    taken = {row.fixed for row in rows}
    open_rows = sum(len(group) for group in free)
    wanted_test = 0 if "test" in taken else _count(sizes.test, open_rows)
    wanted_valid = 0 if "valid" in taken else _count(sizes.valid, open_rows)
    if open_rows and wanted_test + wanted_valid >= open_rows and "train" not in taken:
        raise ContractError(
            f"test ({wanted_test} rows) and valid ({wanted_valid} rows) leave none of {open_rows} rows to train on",
            hint="lower prepare.test_set_size or prepare.val_set_size, or add rows",
        )
    for group, split in _stratify(rows, free, wanted_test, wanted_valid, seed):
        for i in group:
            splits[i] = split
    return splits


def find_leaks(pairs: Sequence[Pair], splits: Sequence[Split]) -> list[Pair]:
    """Near duplicates with one row in test and one in train."""
    return [pair for pair in pairs if {splits[pair.a], splits[pair.b]} == {"train", "test"}]


def leaks_error(leaks: Sequence[Pair], examples: Sequence[Example], threshold: float) -> ContractError:
    """One error that names every leaking pair (up to 50) with its similarity."""
    lines = [f"{examples[p.a].source} and {examples[p.b].source}: similarity {p.similarity:.3f}" for p in leaks[:50]]
    if len(leaks) > 50:
        lines.append(f"… and {len(leaks) - 50} more")
    return ContractError(
        f"{len(leaks)} near duplicates across train and test (similarity >= {threshold:g}); "
        "the test would measure memory:\n  " + "\n  ".join(lines),
        hint="remove one row of each pair or put both into one split; raise prepare.near_duplicate_threshold only when "
        "they really are different questions",
    )


def prove_split(shingled: Shingled, splits: Sequence[Split]) -> dict[str, Pair | None]:
    """The most similar pair across each two splits, by `train/test` and so on."""
    where = {split: [i for i, name in enumerate(splits) if name == split] for split in SPLITS}
    couples = (("train", "test"), ("train", "valid"), ("valid", "test"))
    return {f"{a}/{b}": largest_across(shingled, where[b], where[a]) for a, b in couples}


def _count(size: float, rows: int) -> int:
    return round(size * rows) if size <= 1 else int(size)


def _stratify(
    rows: Sequence[Row], groups: Sequence[list[int]], test: int, valid: int, seed: int
) -> list[tuple[list[int], Split]]:
    """Deal groups to the splits label by label, in an order that depends only on the seed and the rows' ids."""
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups:
        counts = Counter(rows[i].label for i in group)
        strata[min(counts, key=lambda label: (-counts[label], label))].append(group)
    weights = {label: sum(map(len, strata[label])) for label in sorted(strata)}
    tests = _share_out(test, weights)
    valids = _share_out(valid, {label: weights[label] - tests[label] for label in weights})
    dealt: list[tuple[list[int], Split]] = []
    for label in weights:
        left: dict[Split, int] = {"test": tests[label], "valid": valids[label]}
        for group in sorted(strata[label], key=lambda group: _order(rows, group, seed)):
            split: Split = next((name for name, room in left.items() if len(group) <= room), "train")
            if split != "train":
                left[split] -= len(group)
            dealt.append((group, split))
    return dealt


def _share_out(total: int, weights: dict[str, int]) -> dict[str, int]:
    """Split `total` over labels in proportion to their rows, by largest remainder; ties by name."""
    rows = sum(weights.values())
    if not rows:
        return dict.fromkeys(weights, 0)
    total = min(total, rows)
    shares = {label: total * weight // rows for label, weight in weights.items()}
    by_rest = sorted(weights, key=lambda label: (-(total * weights[label] % rows), label))
    for label in by_rest[: total - sum(shares.values())]:
        shares[label] += 1
    return shares


def _order(rows: Sequence[Row], group: list[int], seed: int) -> str:
    return hashlib.sha256(f"{seed}:{min(rows[i].id for i in group)}".encode()).hexdigest()
