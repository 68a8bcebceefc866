"""From a table of rows to splits and their proof: exact duplicates out, near duplicates and facts kept together."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.console import Console
from holdfast.core.files import atomic_path
from holdfast.core.shards import Range, run_shards
from holdfast.dataset import similarity
from holdfast.dataset.columns import any_value, parts, read_value
from holdfast.dataset.deal import deal_rows, smallest_keys
from holdfast.dataset.duplicates import (
    Dropped,
    Subject,
    fact_links,
    find_exact_duplicates,
    link_rows,
    subject_of,
    texts_of,
)
from holdfast.dataset.similarity import Pair, Pairs, shingle_texts, similar_pairs
from holdfast.dataset.split import (
    COUPLES,
    FREE,
    TEST,
    Rows,
    Sizes,
    assign_splits,
    couple_name,
    find_leaks,
    leaks_error,
    prove_split,
    read_lock,
)
from holdfast.dataset.table import FileRows, Lookup, Stratum, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A new row may be near to rows in two splits; such rows are linked and dealt again.
ROUNDS = 4
Timed = Callable[[str], AbstractContextManager[dict[str, Any]]]


class Options(NamedTuple):
    """How to divide. threshold None: near duplicates are not looked for. lock: an earlier split.lock."""

    sizes: Sizes
    threshold: float | None
    seed: int
    instruction: str = ""
    lock: Path | None = None


class Shards(NamedTuple):
    """The file that a large table is of, its shards, and where work is kept."""

    path: Path
    rows: FileRows
    parts: Sequence[Range]
    firsts: Sequence[int]
    folder: Path
    console: Console
    timed: Timed


@dataclass(frozen=True)
class Divided:
    """Arrays hold one entry for each row of the table.

    dropped: exact duplicates, and what is kept instead. splits: place in SPLITS, -1 = dropped. groups: first row of the
    group; None when every row is a group of its own. near: the most similar pairs (all of a small data set);
    near_count: how many were measured as near. subject: what the texts of rows are.
    """

    table: Table
    dropped: Dropped
    splits: "NDArray[np.int8]"
    groups: "NDArray[np.int64] | None"
    near: Pairs
    near_count: int
    proof: dict[str, Pair | None]
    grouping_method: str
    proof_method: str
    subject: Subject


class _Work(NamedTuple):
    """What the steps share. keep: which rows stay."""

    table: Table
    lookup: Lookup
    options: Options
    keep: "NDArray[np.bool_]"
    subject: Subject


def divide(table: Table, lookup: Lookup, options: Options, shards: Shards | None = None) -> Divided:
    """Drop exact duplicates, group, split, and measure what is left across the splits.

    shards: needed for more than EXACT_LIMIT rows. Raises ContractError when a near duplicate lies across train and
    test.
    """
    import numpy as np

    with shards.timed("duplicates") if shards else nullcontext():
        dropped = find_exact_duplicates(table)
    keep = np.ones(len(table), dtype=bool)
    keep[dropped.rows] = False
    work = _Work(table, lookup, options, keep, subject_of(table, keep, options.instruction))
    if len(table) - len(dropped.rows) <= similarity.EXACT_LIMIT or shards is None:
        return _divide_exactly(work, dropped)
    return _divide_large(work, dropped, shards)


def _divide_exactly(work: _Work, dropped: Dropped) -> Divided:
    import numpy as np

    threshold, names = work.options.threshold, np.flatnonzero(work.keep)
    shingled = shingle_texts(texts_of(work.lookup, names, work.subject.text))
    near = similar_pairs(shingled, threshold) if threshold is not None else Pairs.of([])
    pairs = near.of_rows(names)
    groups = link_rows(len(work.table), [(pairs.a, pairs.b), fact_links(work.table.rows["fact"])])
    splits = _assign(work, groups)
    proof = {
        couple: best and Pair(int(names[best.a]), int(names[best.b]), best.similarity)
        for couple, best in prove_split(shingled, splits[names]).items()
    }
    _refuse_leaks(find_leaks(pairs, splits), work)
    method = "exact: Jaccard similarity of all pairs (inverted index over word pairs and 5-character shingles)"
    grouping = method if threshold is not None else "not looked for"
    return Divided(work.table, dropped, splits, groups, pairs, len(pairs), proof, grouping, method, work.subject)


def _divide_large(work: _Work, dropped: Dropped, shards: Shards) -> Divided:
    import numpy as np

    from holdfast.dataset import near, proof

    threshold, keep = work.options.threshold, work.keep
    edges: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    if any_value(work.table.rows, "fact"):
        edges.append(fact_links(work.table.rows["fact"]))
    found = near.Near(np.zeros(0, dtype=np.int64), 0, [])
    if threshold is not None:
        with shards.timed("near"):
            found = near.link_near(
                shards.path, shards.rows, shards.parts, shards.firsts, keep, work.subject, threshold, shards.folder,
                shards.console,
            )  # fmt: skip
        edges.append((np.arange(len(keep)), found.groups))
    groups = link_rows(len(keep), edges) if edges else None
    leaks = Pairs.of([])
    for _ in range(ROUNDS):
        with shards.timed("assign"):
            splits = _assign(work, groups)
        across: dict[str, Pair | None] = {couple_name(a, b): None for a, b in COUPLES}
        with shards.timed("proof"):
            pairs = _pairs_across(work, splits, shards)
        for pair in pairs:
            name = couple_name(*sorted((int(splits[pair.a]), int(splits[pair.b]))))
            held = across[name]
            if held is None or (pair.similarity, -pair.a, -pair.b) > (held.similarity, -held.a, -held.b):
                across[name] = pair
        near_pairs = [pair for pair in pairs if threshold is not None and pair.similarity >= threshold]
        leaks = find_leaks(Pairs.of(near_pairs), splits)
        free = [] if groups is None else [p for p in near_pairs if groups[p.a] != groups[p.b] and _is_free(work, p)]
        if groups is None or not free:
            break
        ends = tuple(np.array([pair[side] for pair in free], dtype=np.int64) for side in (0, 1))
        groups = link_rows(len(keep), [(np.arange(len(keep)), groups), (ends[0], ends[1])])
    _refuse_leaks(leaks, work)
    method = (
        f"MinHash LSH ({near.PERMUTATIONS} permutations by rensa), every candidate measured with its exact Jaccard "
        "similarity; a pair may be missed"
    )
    proof_method = f"exact for {proof.SAMPLE} sampled test rows against up to {proof.PARTNERS} sampled other rows" + (
        f"; for all rows {method}" if threshold is not None else ""
    )
    grouping = method if threshold is not None else "not looked for"
    return Divided(
        work.table, dropped, splits, groups, Pairs.of(found.pairs), found.measured, across, grouping, proof_method,
        work.subject,
    )  # fmt: skip


def _pairs_across(work: _Work, splits: "NDArray[np.int8]", shards: Shards) -> list[Pair]:
    """Measured pairs across splits: neighbours in LSH bands, and the sample's most similar rows."""
    import numpy as np

    from holdfast.dataset import near, proof

    threshold = work.options.threshold
    pairs: list[Pair] = []
    if threshold is not None:
        bands = near.choose_bands(threshold)
        pairs = near.across_bands(shards.rows, shards.folder, bands, splits, work.subject, threshold)
    sample = smallest_keys(work.table.rows, splits == TEST, work.options.seed, proof.SAMPLE)
    if not len(sample):
        return pairs
    others = smallest_keys(work.table.rows, splits >= 0, work.options.seed + 1, proof.PARTNERS)
    compared = np.full(len(splits), -1, dtype=np.int8)
    compared[others] = splits[others]
    with atomic_path(shards.folder / "splits.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, compared)
    texts = tuple(texts_of(work.lookup, sample, work.subject.text))
    jobs = [proof.SampleJob(shards.path, part, shards.folder / "splits.npy", first, work.subject, texts,
                           tuple(splits[sample].tolist()))
            for part, first in zip(shards.parts, shards.firsts, strict=True)]  # fmt: skip
    # What is compared depends on the splits, so work of another deal must not be taken up.
    folder = shards.folder / f"proof-{hashlib.sha256(splits.data).hexdigest()[:16]}"
    for piece in run_shards(proof.compare_shard, jobs, folder, shards.console, "split proof"):
        value, partner = piece.arrays["similarity"], piece.arrays["partner"]
        for side, which in np.argwhere(partner >= 0).tolist():
            pairs.append(Pair(int(sample[which]), int(partner[side, which]), float(value[side, which])))
    return pairs


def _is_free(work: _Work, pair: Pair) -> bool:
    return not any(read_value(work.table.rows, "fixed", row) for row in (pair.a, pair.b))


def _assign(work: _Work, groups: "NDArray[np.int64] | None") -> "NDArray[np.int8]":
    """The split of every row of the table; -1 for dropped ones."""
    import numpy as np

    rows, kept = work.table.rows, work.keep
    order = sorted(work.table.strata, key=lambda number: work.table.strata[number])
    numbers = np.array(order, dtype=np.uint64)
    if groups is None and work.options.lock is None:
        return deal_rows(rows, kept, numbers, work.options.sizes, work.options.seed)
    groups = np.arange(len(rows)) if groups is None else groups
    by_number = np.argsort(numbers)
    place = by_number[np.searchsorted(numbers[by_number], rows["stratum"][kept])]
    ids = rows["id"][kept]
    locked = np.full(len(ids), FREE, dtype=np.int8)
    if work.options.lock is not None:
        locked = read_lock(work.options.lock, ids)
    given = Rows(ids, (rows["fixed"][kept] - 1).astype(np.int8), locked, place, groups[kept])
    splits = np.full(len(rows), -1, dtype=np.int8)
    splits[kept] = assign_splits(given, work.options.sizes, work.options.seed)
    return splits


def _refuse_leaks(leaks: Pairs, work: _Work) -> None:
    if len(leaks) and work.options.threshold is not None:
        raise leaks_error(leaks, work.lookup, work.options.threshold)


def largest_group(divided: Divided) -> int:
    """Rows of the largest group that must stay together."""
    import numpy as np

    return 1 if divided.groups is None else int(np.bincount(divided.groups[divided.splits >= 0]).max(initial=0))


def strata_of(divided: Divided) -> list[tuple[Stratum, dict[str, int]]]:
    """Rows of each stratum in each split, in the order of their names."""
    import numpy as np

    from holdfast.core.records import SPLITS

    numbers = np.array(sorted(divided.table.strata), dtype=np.uint64)
    counts = np.zeros((len(numbers), 3), dtype=np.int64)
    for place, (stratum,) in parts(divided.table.rows, "stratum"):
        here = divided.splits[place] >= 0
        cells = np.searchsorted(numbers, stratum[here]) * 3 + divided.splits[place][here]
        counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
    found: list[tuple[Stratum, dict[str, int]]] = [
        (divided.table.strata[number], dict(zip(SPLITS, own, strict=True)))
        for number, own in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    found.sort(key=lambda item: item[0])
    return found
