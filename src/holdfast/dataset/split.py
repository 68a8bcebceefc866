"""train, valid, test: whole groups, stratified by domain and label, the same whatever the order of the files."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import ContractError, IntegrityError, UsageError
from holdfast.core.records import SPLITS
from holdfast.dataset.similarity import Pair, Pairs, Shingled, largest_across, mix
from holdfast.dataset.table import Lookup

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]
    SplitArray = NDArray[np.int8]

TRAIN, VALID, TEST = range(3)  # places in SPLITS
FREE = -1
LOCK_HEADER = "# holdfast split.lock 1: <id of a row> <split>"
COUPLES = ((TRAIN, TEST), (TRAIN, VALID), (VALID, TEST))


class Rows(NamedTuple):
    """What the split needs to know, one array entry a row.

    ids: 64-bit names. fixed: the split that the user chose, FREE = none. locked: the split in an earlier lock file,
    FREE = none. stratum: number of the domain and label, `strata` in a fixed order. group: rows with the same number
    go together.
    """

    ids: "NDArray[np.uint64]"
    fixed: "SplitArray"
    locked: "SplitArray"
    stratum: "IntArray"
    group: "IntArray"


class Sizes(NamedTuple):
    """How many rows to take: up to 1 a share of the rows without a fixed split, above 1 a count."""

    valid: float
    test: float


def assign_splits(rows: Rows, sizes: Sizes, seed: int) -> "SplitArray":
    """The split of each row. Fixed rows stay; a set that has fixed rows is not filled from the others.

    A group with a locked row goes where that row was. A row without a split that is near to a fixed row follows it into
    valid or train, never into test. Raises ContractError when the sizes leave no row to train on.
    """
    import numpy as np

    _, first, group = np.unique(rows.group, return_index=True, return_inverse=True)
    has = np.zeros((3, len(first)), dtype=bool)
    for split in range(3):
        has[split][group[rows.fixed == split]] = True
    kept_place = np.full(len(first), FREE, dtype=np.int8)
    for split in (TRAIN, VALID, TEST):
        kept_place[group[rows.locked == split]] = split
    fixed_group = has.any(axis=0)
    place = np.where(has[VALID] & ~has[TRAIN] & ~has[TEST], VALID, TRAIN).astype(np.int8)
    locked_group = ~fixed_group & (kept_place != FREE)
    place[locked_group] = kept_place[locked_group]
    members = np.bincount(group)
    open_group = ~fixed_group
    open_rows = int(members[open_group].sum())
    wanted = wanted_rows(set(np.unique(rows.fixed).tolist()), sizes, open_rows)
    for split in wanted:
        wanted[split] = max(0, wanted[split] - int(members[locked_group & (place == split)].sum()))
    free = np.flatnonzero(open_group & ~locked_group)
    smallest = np.full(len(first), 2**64 - 1, dtype=np.uint64)
    np.minimum.at(smallest, group, rows.ids)
    _deal(place, free, members, _main_stratum(rows.stratum, group, len(first)), mix(smallest, seed), wanted)
    return np.where(rows.fixed == FREE, place[group], rows.fixed).astype(np.int8)


def wanted_rows(fixed: set[int], sizes: Sizes, open_rows: int) -> dict[int, int]:
    """How many of the open rows test and valid take: none where the user fixed rows (`fixed`: the splits of such rows).

    Raises ContractError when no row is left to train on.
    """
    wanted = {}
    for split, size in ((TEST, sizes.test), (VALID, sizes.valid)):
        wanted[split] = 0 if split in fixed else _count(size, open_rows)
    if open_rows and sum(wanted.values()) >= open_rows and TRAIN not in fixed:
        raise ContractError(
            f"test ({wanted[TEST]} rows) and valid ({wanted[VALID]} rows) leave none of {open_rows} rows to train on",
            hint="lower prepare.test_set_size or prepare.val_set_size, or add rows",
        )
    return wanted


def _main_stratum(stratum: "IntArray", group: "IntArray", groups: int) -> "IntArray":
    """The most frequent stratum of each group; the lowest of several."""
    import numpy as np

    pairs, counts = np.unique(np.stack((group, stratum)), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    owner = pairs[0][order]
    first = np.r_[True, owner[1:] != owner[:-1]] if len(owner) else np.zeros(0, dtype=bool)
    found = np.zeros(groups, dtype=np.int64)
    found[owner[first]] = pairs[1][order][first]
    return found


def _deal(
    place: "SplitArray", free: "IntArray", members: "IntArray", stratum: "IntArray", order: "NDArray[np.uint64]",
    wanted: dict[int, int],
) -> None:  # fmt: skip
    """Fill test, then valid, stratum by stratum with whole groups in the given order; the rest is train."""
    import numpy as np

    place[free] = TRAIN
    names = np.unique(stratum[free]).tolist()
    weights = {name: int(members[free][stratum[free] == name].sum()) for name in names}
    tests = share_out(wanted[TEST], weights)
    valids = share_out(wanted[VALID], {name: weights[name] - tests[name] for name in names})
    for name in names:
        here = free[stratum[free] == name]
        here = here[np.argsort(order[here], kind="stable")]
        room = {TEST: tests[name], VALID: valids[name]}
        for begin in range(0, len(here), 65536):
            for group, size in zip(here[begin : begin + 65536].tolist(), members[here[begin : begin + 65536]].tolist(),
                                   strict=True):  # fmt: skip
                split = TEST if size <= room[TEST] else VALID if size <= room[VALID] else TRAIN
                if split != TRAIN:
                    room[split] -= size
                    place[group] = split
            if not any(room.values()):
                break


def share_out(total: int, weights: dict[int, int]) -> dict[int, int]:
    """Split `total` over strata in proportion to their rows, by largest remainder; ties by name.

    When there is one for each, a stratum of at least three rows gets one: a small domain is tested too.
    """
    rows = sum(weights.values())
    if not rows:
        return dict.fromkeys(weights, 0)
    total = min(total, rows)
    shares = {name: total * weight // rows for name, weight in weights.items()}
    by_rest = sorted(weights, key=lambda name: (-(total * weights[name] % rows), name))
    for name in by_rest[: total - sum(shares.values())]:
        shares[name] += 1
    small = [name for name in weights if not shares[name] and weights[name] >= 3]
    if total >= len(weights):
        for name in small:
            largest = max(shares, key=lambda other: (shares[other], -other))
            if shares[largest] > 1:
                shares[largest] -= 1
                shares[name] = 1
    return shares


def _count(size: float, rows: int) -> int:
    return round(size * rows) if size <= 1 else int(size)


def read_lock(path: Path, ids: "NDArray[np.uint64]") -> "SplitArray":
    """The split of each row in a lock file; FREE for rows that it does not name."""
    import numpy as np

    if not path.is_file():
        raise UsageError(f"prepare.split_lock: there is no file {path}", hint="a finished prepare wrote split.lock")
    names: list[int] = []
    places: list[int] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        if lines.readline().strip() != LOCK_HEADER:
            raise IntegrityError(f"{path}:1 is not a split.lock", hint="use split.lock of a finished run")
        for number, line in enumerate(lines, 2):
            try:
                name, split = line.split()
                names.append(int(name, 16))
                places.append(SPLITS.index(split))
            except ValueError:
                raise IntegrityError(f"{path}:{number} is damaged: {line.strip()[:60]!r}",
                                     hint="use split.lock of a finished run") from None  # fmt: skip
    known = np.array(names, dtype=np.uint64)
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], ids)
    inside = at < len(known)
    found = np.full(len(ids), FREE, dtype=np.int8)
    hit = np.flatnonzero(inside)[known[order][at[inside]] == ids[inside]]
    found[hit] = np.array(places, dtype=np.int8)[order][at[hit]]
    return found


def write_lock(path: Path, rows: "Iterable[tuple[NDArray[np.uint64], SplitArray]]") -> None:
    """Write the split of each row by its id. rows: (ids, splits) sorted, so that the order of rows does not count."""
    with path.open("w", encoding="utf-8") as file:
        file.write(LOCK_HEADER + "\n")
        for ids, splits in rows:
            file.writelines(
                f"{name:012x} {SPLITS[split]}\n" for name, split in zip(ids.tolist(), splits.tolist(), strict=True)
            )


def find_leaks(pairs: Pairs, splits: "SplitArray") -> Pairs:
    """Near duplicates with one row in test and one in train."""
    a, b = splits[pairs.a], splits[pairs.b]
    return pairs.select((a == TRAIN) & (b == TEST) | (a == TEST) & (b == TRAIN))


def leaks_error(leaks: Pairs, lookup: Lookup, threshold: float) -> ContractError:
    """One error that names every leaking pair (up to 50) with its similarity."""
    lines = [f"{lookup[p.a].source} and {lookup[p.b].source}: similarity {p.similarity:.3f}"
             for p in leaks.select(slice(50))]  # fmt: skip
    if len(leaks) > 50:
        lines.append(f"… and {len(leaks) - 50} more")
    return ContractError(
        f"{len(leaks)} near duplicates across train and test (similarity >= {threshold:g}); "
        "the test would measure memory:\n  " + "\n  ".join(lines),
        hint="remove one row of each pair or put both into one split; raise prepare.near_duplicate_threshold only when "
        "they really are different questions",
    )


def prove_split(shingled: Shingled, splits: "SplitArray") -> dict[str, Pair | None]:
    """The most similar pair across each two splits, by `train/test` and so on. For at most EXACT_LIMIT texts."""
    where = [[i for i, name in enumerate(splits.tolist()) if name == split] for split in range(3)]
    return {couple_name(a, b): largest_across(shingled, where[b], where[a]) for a, b in COUPLES}


def couple_name(a: int, b: int) -> str:
    """`train/test`, `train/valid` or `valid/test`."""
    return f"{SPLITS[a]}/{SPLITS[b]}"
