"""How alike are two texts? Jaccard similarity of their word and character shingles.

Shingles are numbered by a 64-bit hash, computed for many texts at once. Up to EXACT_LIMIT texts every pair is measured
through an inverted index; what is done with more is in `near.py`.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]
    HashArray = NDArray[np.uint64]
    FloatArray = NDArray[np.float64]

EXACT_LIMIT = 5000
CHARACTERS = 5
WORDS = 2
NOT_WORDS = re.compile(r"\W+")
# An odd number has an inverse modulo 2**64, so that one running sum gives the hash of any part of a text.
BASE, INVERSE = 0x9E3779B97F4A7C15, pow(0x9E3779B97F4A7C15, -1, 1 << 64)
# Texts are worked on in blocks that stay in the processor's cache.
BLOCK = 256
HASH_BITS = 44
WORD_SALT = 0x5851F42D4C957F2D


class Pair(NamedTuple):
    """Two texts by position, and their similarity between 0 and 1."""

    a: int
    b: int
    similarity: float


@dataclass(frozen=True, eq=False)
class Pairs:
    """Many pairs as columns, the most similar first: boilerplate of some thousand rows makes millions of them."""

    a: "IntArray"
    b: "IntArray"
    similarity: "FloatArray"

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Pairs":
        """The same pairs in the same order."""
        import numpy as np

        a, b = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
        return cls(a, b, np.array([pair.similarity for pair in pairs], dtype=np.float64))

    @classmethod
    def joined(cls, pieces: Sequence["Pairs"]) -> "Pairs":
        """All of them, one after the other."""
        import numpy as np

        columns = [(piece.a, piece.b, piece.similarity) for piece in (*pieces, cls.of([]))]
        return cls(*map(np.concatenate, zip(*columns, strict=True)))

    def of_rows(self, rows: "IntArray") -> "Pairs":
        """Pairs of texts as pairs of the rows that the texts are of."""
        return Pairs(rows[self.a], rows[self.b], self.similarity)

    def __len__(self) -> int:
        return len(self.a)

    def __iter__(self) -> Iterator[Pair]:
        return map(Pair, self.a.tolist(), self.b.tolist(), self.similarity.tolist())

    def select(self, which: "NDArray[np.bool_] | slice") -> "Pairs":
        """Those of a mask with one entry for each pair, or of a slice."""
        return Pairs(self.a[which], self.b[which], self.similarity[which])


class Shingled(NamedTuple):
    """Texts as sets of shingle hashes: those of text i are `hashes[starts[i]:starts[i + 1]]`, sorted and unique."""

    hashes: "HashArray"
    starts: "IntArray"

    def row(self, text: int) -> "HashArray":
        """Shingles of one text."""
        return self.hashes[self.starts[text] : self.starts[text + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1


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
    """The sets that `shingles` gives, as 44-bit hashes."""
    import numpy as np

    hashes: list[HashArray] = []
    sizes: list[IntArray] = []
    for begin in range(0, len(texts), BLOCK):
        found, starts = hash_shingles(texts[begin : begin + BLOCK])
        owners = np.repeat(np.arange(len(starts) - 1, dtype=np.uint64), np.diff(starts))
        keys = np.sort(owners << np.uint64(HASH_BITS) | found >> np.uint64(64 - HASH_BITS))
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        keys = keys[first]
        sizes.append(np.bincount((keys >> np.uint64(HASH_BITS)).astype(np.int64), minlength=len(starts) - 1))
        hashes.append(keys & np.uint64((1 << HASH_BITS) - 1))
    if not hashes:
        return Shingled(np.zeros(0, dtype=np.uint64), np.zeros(1, dtype=np.int64))
    return Shingled(np.concatenate(hashes), np.append(0, np.cumsum(np.concatenate(sizes))))


def hash_shingles(texts: Sequence[str]) -> "tuple[HashArray, IntArray]":
    """(hashes, starts): the shingles of text i are `hashes[starts[i]:starts[i + 1]]`, unsorted, some twice."""
    import numpy as np

    plain = [normalise(text) for text in texts]
    worded = [NOT_WORDS.sub(" ", text).strip(" ") for text in plain]
    # Punctuation alone has no words, only characters.
    has_words = np.fromiter(map(bool, worded), bool, len(worded))
    joined = [words or text for words, text in zip(worded, plain, strict=True)]
    lengths = np.fromiter(map(len, joined), np.int64, len(joined))
    ends = np.cumsum(lengths)
    begins = ends - lengths
    codes = np.frombuffer("".join(joined).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    sums, inverse = _running_sums(codes)

    def spans(start: "IntArray", stop: "IntArray", salt: int) -> "HashArray":
        return _mix((sums[stop] - sums[start]) * inverse[start] + np.uint64(salt))

    windows = np.maximum(lengths - CHARACTERS + 1, 1)
    owners = np.repeat(np.arange(len(joined)), windows)
    first = np.cumsum(windows) - windows
    start = begins[owners] + np.arange(len(owners)) - first[owners]
    characters = spans(start, np.minimum(start + CHARACTERS, ends[owners]), 0)

    word_start, word_stop, word_owner = _words(codes, begins, ends, has_words)
    last = np.append(word_owner[1:] != word_owner[:-1], True) if len(word_owner) else np.zeros(0, dtype=bool)
    alone = last & np.append(True, last[:-1]) if len(last) else last
    pair_stop = np.where(last, word_stop, np.append(word_stop[1:], 0)[: len(word_stop)])
    kept = ~last | alone
    words = spans(word_start[kept], pair_stop[kept], WORD_SALT)

    word_owner = word_owner[kept]
    word_counts = np.bincount(word_owner, minlength=len(joined))
    starts = np.append(0, np.cumsum(windows + word_counts))
    hashes = np.empty(starts[-1], dtype=np.uint64)
    hashes[np.arange(len(owners)) + (starts[:-1] - first)[owners]] = characters
    earlier = np.cumsum(word_counts) - word_counts
    hashes[np.arange(len(words)) + (starts[:-1] + windows - earlier)[word_owner]] = words
    return hashes, starts


def _running_sums(codes: "HashArray") -> "tuple[HashArray, HashArray]":
    """sums[i]: sum of code * BASE**position before i; inverse[i]: BASE**-i. All modulo 2**64."""
    import numpy as np

    count = len(codes) + 1
    powers, inverse = (np.full(count, base, dtype=np.uint64) for base in (BASE, INVERSE))
    powers[0] = inverse[0] = 1
    np.multiply.accumulate(powers, out=powers)
    np.multiply.accumulate(inverse, out=inverse)
    sums = np.zeros(count, dtype=np.uint64)
    np.cumsum((codes + np.uint64(1)) * powers[:-1], out=sums[1:])
    return sums, inverse


def _words(
    codes: "HashArray", begins: "IntArray", ends: "IntArray", has_words: "NDArray[np.bool_]"
) -> "tuple[IntArray, IntArray, IntArray]":
    """Start, stop and text of each word, in order. Words are parted by single spaces."""
    import numpy as np

    space = codes == ord(" ")
    begin_here = np.zeros(len(codes) + 1, dtype=bool)
    begin_here[begins[ends > begins]] = True
    after_space = np.append(False, space)[: len(codes)]
    starts = np.flatnonzero((begin_here[: len(codes)] | after_space) & ~space)
    stop_here = np.zeros(len(codes) + 1, dtype=bool)
    stop_here[ends[ends > begins]] = True
    stops = np.flatnonzero(np.append(space, False) & ~begin_here | stop_here)
    owners = np.searchsorted(ends, starts, side="right")
    kept = has_words[owners] if len(owners) else np.zeros(0, dtype=bool)
    return starts[kept], stops[kept], owners[kept]


def _mix(values: "HashArray") -> "HashArray":
    """Spread the bits (the finaliser of splitmix64, https://prng.di.unimi.it/splitmix64.c)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def mix(values: "HashArray", seed: int) -> "HashArray":
    """Numbers in an order that depends on the seed alone. Shape and type as given (uint64)."""
    import numpy as np

    # Arrays wrap around without a word; a single number would warn.
    return _mix(_mix(np.full_like(values, seed & (2**64 - 1)) + np.uint64(BASE)) ^ values)


def similar_pairs(shingled: Shingled, threshold: float) -> Pairs:
    """All pairs a < b with similarity >= threshold, the most similar first. For at most EXACT_LIMIT texts."""
    import numpy as np

    count = len(shingled)
    if not count:
        return Pairs.of([])
    postings = Postings([shingled.row(text) for text in range(count)])
    others: list[IntArray] = []
    values: list[FloatArray] = []
    for text in range(count):
        similarity = postings.similarity(shingled.row(text))[text + 1 :]
        hits = np.flatnonzero(similarity >= threshold)
        others.append(hits + text + 1)
        values.append(similarity[hits])
    similarity = np.concatenate(values)
    order = np.argsort(-similarity, kind="stable")
    a = np.repeat(np.arange(count), [len(hits) for hits in others])
    return Pairs(a[order], np.concatenate(others)[order], similarity[order])


def largest_across(shingled: Shingled, left: Sequence[int], right: Sequence[int]) -> Pair | None:
    """The most similar pair with one text in `left` and one in `right`; None when one of them is empty."""
    import numpy as np

    if not left or not right:
        return None
    postings = Postings([shingled.row(text) for text in right])
    best: list[Pair] = []
    for text in left:
        similarity = postings.similarity(shingled.row(text))
        partner = int(np.argmax(similarity))
        best.append(Pair(text, right[partner], float(similarity[partner])))
    return max(best, key=lambda p: (p.similarity, -p.a, -p.b))


class Postings:
    """An inverted index: for each shingle, which texts hold it."""

    def __init__(self, texts: "Sequence[HashArray]") -> None:
        import numpy as np

        self.sizes = np.array([len(text) for text in texts], dtype=np.int64)
        owners = np.repeat(np.arange(len(texts)), self.sizes)
        hashes = np.concatenate(texts)
        order = np.argsort(hashes, kind="stable")
        self.owners = owners[order]
        self.known, starts = np.unique(hashes[order], return_index=True)
        self.starts = np.append(starts, len(hashes))

    def similarity(self, text: "HashArray") -> "FloatArray":
        """Jaccard similarity of `text` with every text of the index. Shape: (texts,)."""
        import numpy as np

        place = np.searchsorted(self.known, text)
        inside = place < len(self.known)
        place = place[inside][self.known[place[inside]] == text[inside]]
        parts = [self.owners[self.starts[i] : self.starts[i + 1]] for i in place]
        holders = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        shared = np.bincount(holders, minlength=len(self.sizes))
        return np.asarray(shared / (self.sizes + len(text) - shared), dtype=np.float64)
