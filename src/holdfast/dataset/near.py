"""Near duplicates among many rows: MinHash LSH proposes pairs, each is measured with its exact Jaccard similarity.

Signatures are made by rensa. Rows with the same band are compared with the first row of that band and with the one
before them, not all with all: time and memory stay in proportion to the rows, whatever the data. What is reported is
true; a pair may be missed, and those whose signatures agree too little are not measured. A sample of test rows
is therefore compared with a sample of all other rows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.console import Console
from holdfast.core.files import atomic_path
from holdfast.core.shards import Piece, Range, read_lines, run_shards
from holdfast.dataset.duplicates import Subject, link_rows
from holdfast.dataset.similarity import BLOCK, Pair, hash_shingles, shingle_texts
from holdfast.dataset.table import FileRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]
    HashArray = NDArray[np.uint64]

PERMUTATIONS = 128
# The bands are chosen for pairs a little below the threshold, so that few at the threshold are missed.
MARGIN = 0.1
# Eight bits of each of 128 signature values estimate a similarity of 0.8 with a standard deviation of 0.035.
ESTIMATE_MARGIN = 0.15
PAIRS_AT_ONCE = 20_000
KEPT_PAIRS = 100_000


class Bands(NamedTuple):
    """How many bands, and how many signature values in each."""

    number: int
    rows: int


class SignatureJob(NamedTuple):
    """One shard to sketch. keep: a file with one flag a row of the whole data set; first: number of its first row."""

    path: Path
    part: Range
    keep: Path
    first: int
    subject: Subject
    bands: Bands


class Near(NamedTuple):
    """groups: for each row the first row it is linked to; measured: pairs found to be near; pairs: the most similar."""

    groups: "IntArray"
    measured: int
    pairs: list[Pair]


def choose_bands(threshold: float) -> Bands:
    """The bands with the fewest expected misses and false hits at the threshold less MARGIN.

    A pair of similarity s shares a band with probability 1 - (1 - s**rows)**count (Leskovec, Rajaraman, Ullman: Mining
    of Massive Datasets, section 3.4). Misses count nine times as much as false hits, which are measured anyway.
    """
    import numpy as np

    aim = max(0.3, threshold - MARGIN)
    below, above = np.linspace(0, aim, 200), np.linspace(aim, 1, 200)

    def cost(bands: Bands) -> float:
        hit = [1 - (1 - s**bands.rows) ** bands.number for s in (below, above)]
        return float(0.1 * aim * hit[0].mean() + 0.9 * (1 - aim) * (1 - hit[1]).mean())

    choices = [Bands(PERMUTATIONS // rows, rows) for rows in range(2, 33)]
    return min(choices, key=lambda bands: (cost(bands), bands.rows))


def sketch_shard(job: SignatureJob) -> Piece:
    """`bands`: hashes, (bands, rows of the shard), 0 for dropped rows; `signs`: 8-bit signatures, (rows, 128)."""
    import msgspec
    import numpy as np
    from rensa import RMinHash

    from holdfast.core.records import Example

    lines = read_lines(job.path, job.part)
    keep = np.load(job.keep, mmap_mode="r")[job.first : job.first + len(lines)]
    decoder = msgspec.json.Decoder(Example)
    kept = np.flatnonzero(keep)
    out = np.zeros((job.bands.number, len(lines)), dtype=np.uint64)
    signs = np.zeros((len(lines), PERMUTATIONS), dtype=np.uint8)
    weights = np.random.default_rng(7).integers(1, 2**63, job.bands.rows, dtype=np.uint64) | np.uint64(1)
    for begin in range(0, len(kept), BLOCK):
        block = kept[begin : begin + BLOCK]
        hashes, starts = hash_shingles([job.subject.text(decoder.decode(lines[i])) for i in block])
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, starts.astype(np.uint64), PERMUTATIONS, 1)
        whole = np.array(matrix.to_rows(), dtype=np.uint64)
        signs[block] = whole & np.uint64(0xFF)
        values = whole[:, : job.bands.number * job.bands.rows]
        mixed = (values.reshape(len(block), job.bands.number, job.bands.rows) * weights).sum(axis=2, dtype=np.uint64)
        out[:, block] = (mixed | np.uint64(1)).T
    return Piece({"bands": out, "signs": signs})


def link_near(
    path: Path, rows: FileRows, parts: Sequence[Range], firsts: Sequence[int], keep: "NDArray[np.bool_]",
    subject: Subject, threshold: float, folder: Path, console: Console,
) -> Near:  # fmt: skip
    """Groups of near duplicates among the kept rows."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "keep.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, keep)
    bands = choose_bands(threshold)
    jobs = [SignatureJob(path, part, folder / "keep.npy", first, subject, bands)
            for part, first in zip(parts, firsts, strict=True)]  # fmt: skip
    store = np.lib.format.open_memmap(folder / "bands.npy", "w+", np.uint64, (bands.number, len(keep)))
    signs = np.lib.format.open_memmap(folder / "signs.npy", "w+", np.uint8, (len(keep), PERMUTATIONS))
    for first, piece in zip(firsts, run_shards(sketch_shard, jobs, folder, console, "near duplicates"), strict=True):
        found = piece.arrays["bands"]
        store[:, first : first + found.shape[1]] = found
        signs[first : first + found.shape[1]] = piece.arrays["signs"]
    store.flush()
    signs.flush()
    del store, signs
    return _group(rows, folder, bands, keep, subject, threshold)


def band_of(file: Path, band: int, count: int) -> "HashArray":
    """One band of every row, read without mapping the file (mapped pages would count as this process's memory)."""
    import numpy as np

    with file.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        stream.seek(band * count * 8, 1)
        return np.fromfile(stream, dtype=np.uint64, count=count)


def _group(
    rows: FileRows, folder: Path, bands: Bands, keep: "NDArray[np.bool_]", subject: Subject, threshold: float
) -> Near:
    import numpy as np

    count = len(keep)
    groups = np.arange(count)
    best: list[Pair] = []
    found = 0
    refused = np.zeros(0, dtype=np.uint64)
    for band in range(bands.number):
        a, b = _neighbours(band_of(folder / "bands.npy", band, count))
        apart = groups[a] != groups[b]
        a, b = a[apart], b[apart]
        names = a.astype(np.uint64) * np.uint64(count) + b.astype(np.uint64)
        names, first = np.unique(names, return_index=True)
        fresh = ~np.isin(names, refused, assume_unique=True)
        a, b, names = a[first][fresh], b[first][fresh], names[fresh]
        likely = estimate_pairs(folder, a, b) >= threshold - ESTIMATE_MARGIN
        a, b, names = a[likely], b[likely], names[likely]
        similarity = measure_pairs(rows, a, b, subject)
        near = similarity >= threshold
        refused = np.union1d(refused, names[~near])
        found += int(near.sum())
        top = np.flatnonzero(near)[np.argsort(-similarity[near], kind="stable")[:50]]
        best = sorted([*best, *(Pair(int(a[i]), int(b[i]), float(similarity[i])) for i in top)],
                      key=lambda p: (-p.similarity, p.a, p.b))[:50]  # fmt: skip
        groups = link_rows(count, [(a[near], b[near]), (np.arange(count), groups)])
    return Near(groups, found, best)


def _neighbours(band: "HashArray") -> "tuple[IntArray, IntArray]":
    """Pairs (first row of a bucket, row) and (row before it, row), a < b."""
    import numpy as np

    order = np.argsort(band, kind="stable")
    order = order[np.searchsorted(band[order], 1) :]  # dropped rows are 0
    values = band[order]
    if not len(values):
        return order, order
    start = np.r_[True, values[1:] != values[:-1]]
    first = order[np.maximum.accumulate(np.where(start, np.arange(len(order)), 0))]
    inside = np.flatnonzero(~start)
    return np.r_[first[inside], order[inside - 1]], np.r_[order[inside], order[inside]]


def estimate_pairs(folder: Path, a: "IntArray", b: "IntArray") -> "NDArray[np.float64]":
    """The similarity of each pair as its signatures tell: equal values by chance (1 in 256) are taken off."""
    import numpy as np

    signs = np.load(folder / "signs.npy", mmap_mode="r")
    found = np.zeros(len(a))
    for begin in range(0, len(a), PAIRS_AT_ONCE):
        part = slice(begin, begin + PAIRS_AT_ONCE)
        found[part] = (signs[a[part]] == signs[b[part]]).mean(axis=1)
    return np.asarray((found - 1 / 256) / (1 - 1 / 256), dtype=np.float64)


def measure_pairs(rows: FileRows, a: "IntArray", b: "IntArray", subject: Subject) -> "NDArray[np.float64]":
    """The exact Jaccard similarity of each pair."""
    import numpy as np

    similarity = np.zeros(len(a))
    for begin in range(0, len(a), PAIRS_AT_ONCE):
        one, other = a[begin : begin + PAIRS_AT_ONCE], b[begin : begin + PAIRS_AT_ONCE]
        wanted, places = np.unique(np.r_[one, other], return_inverse=True)
        shingled = shingle_texts([subject.text(rows[int(row)]) for row in wanted])
        sizes = np.diff(shingled.starts)
        for i, (left, right) in enumerate(zip(places[: len(one)], places[len(one) :], strict=True)):
            both = np.concatenate((shingled.row(left), shingled.row(right)))
            both.sort()
            shared = int((both[1:] == both[:-1]).sum())
            similarity[begin + i] = shared / (sizes[left] + sizes[right] - shared)
    return similarity


def across_bands(
    rows: FileRows, folder: Path, bands: Bands, side: "NDArray[np.int8]", subject: Subject, threshold: float
) -> list[Pair]:
    """Neighbours in a band that lie in two splits (`side`: -1 = dropped), measured; the most similar of each band."""
    import numpy as np

    seen = np.zeros(0, dtype=np.uint64)
    found: list[Pair] = []
    for band in range(bands.number):
        values = band_of(folder / "bands.npy", band, len(side))
        order = np.lexsort((side, values))
        order = order[values[order] > 0]
        inside = np.flatnonzero((values[order][1:] == values[order][:-1]) & (side[order][1:] != side[order][:-1])) + 1
        a, b = np.minimum(order[inside - 1], order[inside]), np.maximum(order[inside - 1], order[inside])
        names, first = np.unique(a.astype(np.uint64) * np.uint64(len(side)) + b.astype(np.uint64), return_index=True)
        fresh = ~np.isin(names, seen, assume_unique=True)
        a, b, seen = a[first][fresh], b[first][fresh], np.union1d(seen, names)
        likely = estimate_pairs(folder, a, b) >= threshold - ESTIMATE_MARGIN
        a, b = a[likely], b[likely]
        similarity = measure_pairs(rows, a, b, subject)
        top = np.argsort(-similarity, kind="stable")[:KEPT_PAIRS]
        found += [Pair(int(a[i]), int(b[i]), float(similarity[i])) for i in top]
    return found
