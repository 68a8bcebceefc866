"""How many rows a packed row may hold, told from the rows' lengths in the order of their file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOGETHER = 1000  # rows: TRL's `pack_dataset` packs what `datasets.map` hands it at once
SIZES = tuple(2**n for n in range(6, 18))  # tokens of a packed row


def most_packed(lengths: "Sequence[int] | NDArray[np.uint32]") -> list[list[int]]:
    """[tokens of a packed row, most rows in it] for each of SIZES: the shortest of any thousand that are packed
    together. Rows of one source lie together, so the shortest of all may, too."""
    import numpy as np

    ordered = np.asarray(lengths, dtype=np.int64)
    sums = [np.sort(ordered[at : at + TOGETHER]).cumsum() for at in range(0, len(ordered), TOGETHER)]
    return [[size, max((int(np.searchsorted(s, size, "right")) for s in sums), default=0)] for size in SIZES]


def most_in(packed: Sequence[Sequence[int]], tokens: int) -> int:
    """Most rows in a packed row of `tokens` tokens, from what `most_packed` found; at least 1.

    Between two sizes no more than in proportion to the smaller one: rows that are added are never shorter.
    """
    most = [rows for size, rows in packed if size >= tokens][:1]
    most += [(rows + 1) * tokens // size for size, rows in packed if size < tokens][-1:]
    return max(1, min(most, default=1))
