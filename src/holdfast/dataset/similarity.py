"""How alike are two texts? Jaccard similarity of their word and character shingles, exact or by MinHash LSH.

Up to 5,000 texts every pair is measured exactly through an inverted index. Above, MinHash LSH proposes candidates and
each candidate is measured exactly: what it reports is true, but it may miss a pair.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]
    FloatArray = NDArray[np.float64]

EXACT_LIMIT = 5000
CHARACTERS = 5
WORDS = 2
PERMUTATIONS = 128
# Below this an LSH index proposes nearly every pair; a largest similarity under it is reported as "below".
LSH_FLOOR = 0.3
LSH_MARGIN = 0.1


class Pair(NamedTuple):
    """Two texts by position, and their similarity between 0 and 1."""

    a: int
    b: int
    similarity: float


class Shingled(NamedTuple):
    """Texts as sets of shingle numbers. rows: sorted unique numbers of each text; hashes: 32 bits of each shingle."""

    rows: "list[IntArray]"
    hashes: "IntArray"


def normalise(text: str) -> str:
    """Text for exact comparison: NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingles(text: str) -> set[str]:
    """Pairs of words and runs of five characters of the normalised text without punctuation."""
    plain = normalise(text)
    words = re.findall(r"\w+", plain)
    joined = " ".join(words) or plain
    found = {f"w:{' '.join(words[i : i + WORDS])}" for i in range(max(1, len(words) - WORDS + 1))} if words else set()
    return found | {f"c:{joined[i : i + CHARACTERS]}" for i in range(max(1, len(joined) - CHARACTERS + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Shared shingles over all shingles, between 0 and 1."""
    return len(one & other) / len(one | other)


def shingle_texts(texts: Sequence[str]) -> Shingled:
    """Number the shingles of all texts."""
    import hashlib

    import numpy as np

    numbers: dict[str, int] = {}
    rows = []
    for text in texts:
        found = sorted(numbers.setdefault(shingle, len(numbers)) for shingle in shingles(text))
        rows.append(np.array(found, dtype=np.int64))
    hashes = (int.from_bytes(hashlib.sha1(s.encode()).digest()[:4], "little") for s in numbers)  # noqa: S324
    return Shingled(rows, np.fromiter(hashes, dtype=np.int64, count=len(numbers)))


def describe_method(count: int) -> str:
    """How `similar_pairs` and `largest_across` work for this many texts, in words for the report."""
    if count <= EXACT_LIMIT:
        return "exact: Jaccard similarity of all pairs (inverted index over word pairs and 5-character shingles)"
    return f"MinHash LSH ({PERMUTATIONS} permutations), every candidate verified with the exact Jaccard similarity"


def similar_pairs(shingled: Shingled, threshold: float) -> list[Pair]:
    """All pairs a < b with similarity >= threshold, the most similar first."""
    everything = range(len(shingled.rows))
    if len(everything) <= EXACT_LIMIT:
        found = _exact_pairs(shingled, everything, everything, threshold)
    else:
        found = _lsh_pairs(shingled, everything, everything, max(LSH_FLOOR, threshold - LSH_MARGIN))
    pairs = {Pair(min(p.a, p.b), max(p.a, p.b), p.similarity) for p in found if p.a != p.b}
    return sorted((p for p in pairs if p.similarity >= threshold), key=lambda p: (-p.similarity, p.a, p.b))


def largest_across(shingled: Shingled, left: Sequence[int], right: Sequence[int]) -> Pair | None:
    """The most similar pair with one text in `left` and one in `right`; None when there is none (or LSH finds none)."""
    if not left or not right:
        return None
    if len(left) <= EXACT_LIMIT and len(right) <= EXACT_LIMIT:
        best = _exact_pairs(shingled, left, right, None)
    else:
        best = _lsh_pairs(shingled, left, right, LSH_FLOOR)
    return max(best, key=lambda p: (p.similarity, -p.a, -p.b), default=None)


def _exact_pairs(
    shingled: Shingled, left: Sequence[int], right: Sequence[int], threshold: float | None
) -> Iterator[Pair]:
    """Pairs with similarity >= threshold; without a threshold the best partner of each text in `left`."""
    import numpy as np

    postings = _Postings(shingled, right)
    names = np.asarray(right, dtype=np.int64)
    for a in left:
        similarity = postings.similarity(shingled.rows[a])
        hits = np.flatnonzero(similarity >= threshold) if threshold is not None else [int(np.argmax(similarity))]
        yield from (Pair(a, int(names[hit]), float(similarity[hit])) for hit in hits)


class _Postings:
    """An inverted index: for each shingle, which texts hold it."""

    def __init__(self, shingled: Shingled, texts: Sequence[int]) -> None:
        import numpy as np

        self.sizes = np.array([len(shingled.rows[i]) for i in texts], dtype=np.int64)
        numbers = np.concatenate([shingled.rows[i] for i in texts])
        owners = np.repeat(np.arange(len(texts)), self.sizes)
        order = np.argsort(numbers, kind="stable")
        self.owners = owners[order]
        self.starts = np.searchsorted(numbers[order], np.arange(len(shingled.hashes) + 1))

    def similarity(self, row: "IntArray") -> "FloatArray":
        """Jaccard similarity of `row` with every text of the index. Shape: (texts,)."""
        import numpy as np

        holders = np.concatenate([self.owners[self.starts[s] : self.starts[s + 1]] for s in row])
        shared = np.bincount(holders, minlength=len(self.sizes))
        return np.asarray(shared / (self.sizes + len(row) - shared), dtype=np.float64)


def _lsh_pairs(shingled: Shingled, left: Sequence[int], right: Sequence[int], threshold: float) -> Iterator[Pair]:
    import numpy as np
    from datasketch import MinHash, MinHashLSH

    def sketch(i: int) -> Any:
        made = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=lambda value: value)
        made.update_batch(shingled.hashes[shingled.rows[i]].tolist())
        return made

    sketches = {i: sketch(i) for i in {*left, *right}}
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    for b in right:
        index.insert(b, sketches[b])
    for a in left:
        for b in index.query(sketches[a]):
            if a != b:
                one, other = shingled.rows[a], shingled.rows[b]
                shared = len(np.intersect1d(one, other, assume_unique=True))
                yield Pair(a, int(b), shared / (len(one) + len(other) - shared))
