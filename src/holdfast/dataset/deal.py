"""The split of very many rows that belong to no group: what `assign_splits` gives, in memory that does not grow."""

from typing import TYPE_CHECKING

from holdfast.dataset.columns import parts
from holdfast.dataset.similarity import mix
from holdfast.dataset.split import TEST, TRAIN, VALID, Sizes, share_out, wanted_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from holdfast.dataset.columns import Columns

SLACK = 64


def deal_rows(
    columns: "Columns", keep: "NDArray[np.bool_]", strata: "NDArray[np.uint64]", sizes: Sizes, seed: int
) -> "NDArray[np.int8]":
    """The split of every row, -1 for those not kept. strata: their numbers in a fixed order.

    Raises ContractError when the sizes leave no row to train on.
    """
    import numpy as np

    by_number = np.argsort(strata)
    ordered = strata[by_number]
    splits = np.full(len(columns), -1, dtype=np.int8)
    weights = np.zeros(len(strata), dtype=np.int64)
    for place, (fixed, stratum) in parts(columns, "fixed", "stratum"):
        here = keep[place]
        splits[place][here] = np.where(fixed[here] > 0, fixed[here] - 1, TRAIN)
        free = here & (fixed == 0)
        weights += np.bincount(by_number[np.searchsorted(ordered, stratum[free])], minlength=len(strata))
    there = _fixed_splits(columns, keep)
    wanted = wanted_rows(there, sizes, int(weights.sum()))
    known = {number: int(weight) for number, weight in enumerate(weights.tolist()) if weight}
    tests = share_out(wanted[TEST], known)
    valids = share_out(wanted[VALID], {number: known[number] - tests[number] for number in known})
    room = np.array([tests.get(n, 0) + valids.get(n, 0) for n in range(len(strata))], dtype=np.int64)
    # Keys are spread evenly: the smallest of a stratum lie below this share of all numbers, but for rare bad luck.
    share = np.minimum((room + 6 * np.sqrt(room) + SLACK) / np.maximum(weights, 1), 1.0)
    for limit in (share, np.ones(len(strata))):
        stratum, key, row = _candidates(columns, keep, by_number, ordered, limit, seed)
        if (np.bincount(stratum, minlength=len(strata)) >= room).all():
            break
    order = np.lexsort((row, key, stratum))
    begins = np.searchsorted(stratum[order], np.arange(len(strata)))
    for number in known:
        begin = int(begins[number])
        middle = begin + tests[number]
        splits[row[order[begin:middle]]] = TEST
        splits[row[order[middle : middle + valids[number]]]] = VALID
    return splits


def _fixed_splits(columns: "Columns", keep: "NDArray[np.bool_]") -> set[int]:
    import numpy as np

    found: set[int] = set()
    for place, (fixed,) in parts(columns, "fixed"):
        found |= set((np.unique(fixed[keep[place]]) - 1).tolist())
    return found - {-1}


def _candidates(
    columns: "Columns", keep: "NDArray[np.bool_]", by_number: "NDArray[np.int64]", ordered: "NDArray[np.uint64]",
    share: "NDArray[np.float64]", seed: int,
) -> "tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]":  # fmt: skip
    """(stratum, key, row) of the free rows whose key is among the first `share` of all numbers."""
    import numpy as np

    limit = np.minimum(share * 2.0**64, 2.0**64 - 2**11).astype(np.uint64)
    limit[share >= 1] = np.uint64(2**64 - 1)
    limit[share <= 0] = 0
    found: list[tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]] = []
    for place, (fixed, stratum, ids) in parts(columns, "fixed", "stratum", "id"):
        rows = np.flatnonzero(keep[place] & (fixed == 0))
        own = by_number[np.searchsorted(ordered, stratum[rows])]
        keys = mix(ids[rows], seed)
        near = keys <= limit[own]
        found.append((own[near], keys[near], rows[near] + place.start))
    own, keys, rows = (np.concatenate([piece[n] for piece in found]) for n in range(3))
    return own, keys, rows


def smallest_keys(columns: "Columns", chosen: "NDArray[np.bool_]", seed: int, count: int) -> "NDArray[np.int64]":
    """Of the chosen rows those with the `count` smallest keys, in the order of their keys."""
    import numpy as np

    keys, rows = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    for place, (ids,) in parts(columns, "id"):
        own = np.flatnonzero(chosen[place])
        keys = np.append(keys, mix(ids[own], seed))
        rows = np.append(rows, own + place.start)
        order = np.lexsort((rows, keys))[:count]
        keys, rows = keys[order], rows[order]
    return rows
