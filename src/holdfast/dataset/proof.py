"""How alike are test rows and all others, among many rows: an exact answer for a sample of both."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.shards import Piece, Range, read_lines
from holdfast.dataset.duplicates import Subject
from holdfast.dataset.similarity import BLOCK, shingle_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE = 200
PARTNERS = 100_000


class SampleJob(NamedTuple):
    """One shard to compare with sampled texts. side: a file with the split of each row, -1 = dropped."""

    path: Path
    part: Range
    side: Path
    first: int
    subject: Subject
    texts: tuple[str, ...]
    sides: tuple[int, ...]


def compare_shard(job: SampleJob) -> Piece:
    """For each sampled text the most similar row of another split in the shard: its number and the similarity."""
    import msgspec
    import numpy as np

    from holdfast.core.records import Example

    lines = read_lines(job.path, job.part)
    side = np.load(job.side, mmap_mode="r")[job.first : job.first + len(lines)]
    decoder = msgspec.json.Decoder(Example)
    sample = SampleIndex(job.texts)
    own = np.array(job.sides)
    best, partner = np.zeros((3, len(own))), np.full((3, len(own)), -1, dtype=np.int64)
    kept = np.flatnonzero(side >= 0)
    for begin in range(0, len(kept), BLOCK):
        block = kept[begin : begin + BLOCK]
        similarity = sample.similarity([job.subject.text(decoder.decode(lines[i])) for i in block])
        for here in range(3):
            rows = np.flatnonzero(side[block] == here)
            if not len(rows):
                continue
            top = similarity[rows].argmax(axis=0)
            value = np.where(own == here, -1.0, similarity[rows[top], np.arange(len(own))])
            better = value > best[here]
            best[here][better], partner[here][better] = value[better], job.first + block[rows[top]][better]
    return Piece({"similarity": best, "partner": partner})


class SampleIndex:
    """Texts to compare many others with, as a sparse matrix of shingles."""

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np
        from scipy.sparse import csr_array

        shingled = shingle_texts(texts)
        self.known, columns = np.unique(shingled.hashes, return_inverse=True)
        self.sizes = np.diff(shingled.starts)
        ones = np.ones(len(columns), dtype=np.int32)
        self.matrix = csr_array((ones, columns, shingled.starts), shape=(len(texts), len(self.known))).T.tocsr()

    def similarity(self, texts: Sequence[str]) -> "NDArray[np.float64]":
        """Jaccard similarity of each text with each one of the index. Shape: (texts, texts of the index)."""
        import numpy as np
        from scipy.sparse import csr_array

        shingled = shingle_texts(texts)
        place = np.minimum(np.searchsorted(self.known, shingled.hashes), len(self.known) - 1)
        hit = self.known[place] == shingled.hashes
        starts = np.append(0, np.cumsum(hit))[shingled.starts]
        ones = np.ones(int(hit.sum()), dtype=np.int32)
        found = csr_array((ones, place[hit], starts), shape=(len(texts), len(self.known))) @ self.matrix
        shared = found.toarray()
        return np.asarray(shared / (np.diff(shingled.starts)[:, None] + self.sizes - shared), dtype=np.float64)
