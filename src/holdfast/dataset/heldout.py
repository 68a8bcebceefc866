"""Is a new row near a held-out one? An exact answer for any number of rows, by prefix filtering.

Two sets with Jaccard similarity >= t share an element among the first (1 - t)·n + 1 of each in any fixed order
(Chaudhuri et al. 2006; Bayardo et al. 2007), so only those are indexed, and each candidate is then measured.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from holdfast.core.records import Example
from holdfast.dataset.duplicates import LEAD_ROWS
from holdfast.dataset.similarity import shingles
from holdfast.dataset.validate import input_text


class Subject:
    """What a row is about: the user's words without the instruction, or without first paragraphs that rows share."""

    def __init__(self, instruction: str, examples: Iterable[Example]) -> None:
        self.instruction = instruction
        leads = Counter(_lead(example.prompt_text)[0] for example in examples) if not instruction else Counter()
        self.leads = {lead for lead, count in leads.items() if count >= LEAD_ROWS}

    def text(self, example: Example) -> str:
        """The words that similarity is measured on."""
        if self.instruction:
            return input_text(example, self.instruction)
        lead, rest = _lead(example.prompt_text)
        return rest if rest and lead in self.leads else example.prompt_text


class HeldOut:
    """An index of held-out texts. `nearest` is exact from `threshold` on."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self.threshold = threshold
        self.sets = [_hashes(text) for text in texts]
        self.index: dict[int, list[int]] = defaultdict(list)
        for number, ordered in enumerate(self.sets):
            for shingle in ordered[: self._prefix(len(ordered))]:
                self.index[shingle].append(number)

    def nearest(self, text: str) -> tuple[int, float] | None:
        """(position, similarity) of the most similar held-out text; None when none reaches the threshold."""
        ordered = _hashes(text)
        own = set(ordered)
        candidates = {n for shingle in ordered[: self._prefix(len(ordered))] for n in self.index.get(shingle, ())}
        best: tuple[int, float] | None = None
        for number in sorted(candidates):
            other = self.sets[number]
            shared = sum(shingle in own for shingle in other)
            similarity = shared / (len(own) + len(other) - shared)
            if similarity >= self.threshold and (best is None or similarity > best[1]):
                best = number, similarity
        return best

    def _prefix(self, size: int) -> int:
        # A little more than the theory asks for: a rounding error must not hide a pair that lies on the threshold.
        return size - math.ceil(self.threshold * size - 1e-9) + 1


def _hashes(text: str) -> tuple[int, ...]:
    return tuple(sorted({
        int.from_bytes(hashlib.blake2b(s.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        for s in shingles(text)
    }))  # fmt: skip


def _lead(text: str) -> tuple[str, str]:
    lead, _, rest = text.partition("\n\n")
    return lead, rest.strip()
