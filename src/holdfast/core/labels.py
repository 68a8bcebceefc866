"""Which tokens are trained: those that lie whole in the answers."""

from collections.abc import Sequence
from typing import NamedTuple

NOT_TRAINED = -100  # torch's cross-entropy skips this label


class TrainingTokens(NamedTuple):
    """One conversation as the trainer sees it; `labels` equals `input_ids` where the loss counts, else -100."""

    input_ids: list[int]
    labels: list[int]


def label_tokens(
    ids: Sequence[int], places: Sequence[tuple[int, int]], answers: Sequence[tuple[int, int]]
) -> list[int]:
    """For each token its id where it is trained, else NOT_TRAINED. places, answers: spans of characters."""
    import numpy as np

    if not ids:
        return []
    start, end = np.array(places, dtype=np.int64).reshape(-1, 2).T
    trained = np.zeros(len(ids), dtype=bool)
    for begin, last in answers:
        trained |= (start >= begin) & (end <= last) & (end > begin)
    labels: list[int] = np.where(trained, ids, NOT_TRAINED).tolist()
    return labels


def lies_across(places: Sequence[tuple[int, int]], borders: Sequence[int]) -> bool:
    """Whether a token begins before one of the borders (places of characters) and ends behind it."""
    return any(start < border < end for border in borders for start, end in places)
