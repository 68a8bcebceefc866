"""How long the rows are that a run trains on, and how many of them a packed batch may hold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.plan.constants import constant

_PACKED_TOGETHER = 1000  # rows: TRL's `pack_dataset` packs what `datasets.map` hands it at once
_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Lengths:
    """Counts that matter: the longest training row, all training tokens, the longest test prompt, test rows.

    points: (share of the training rows, tokens that they do not exceed). labelled: share of tokens with a label.
    """

    longest: int
    total: int | None
    rows: int | None
    longest_prompt: int
    test_rows: int = 0
    points: Points = ()
    labelled: float | None = None

    @classmethod
    def of(cls, config: RunConfig, lengths: Mapping[str, Any] | None) -> "Lengths":
        """From `lengths.json`; without it every row counts as full (`sequence_len`) and totals are not known."""
        if not lengths or not lengths.get("train"):
            return cls(config.sequence_len, None, None, config.sequence_len)
        train, valid = _counts(lengths["train"]), _counts(lengths.get("valid") or [])
        if not train["rows"]:
            return cls(config.sequence_len, None, None, config.sequence_len)
        prompt = int(lengths.get("test_prompt_max") or config.sequence_len)
        longest = min(max(train["longest"], valid["longest"]), config.sequence_len)
        total = min(train["tokens"], train["rows"] * config.sequence_len)
        labelled = train["trained"] / train["tokens"] if train["trained"] else None
        rows = int(lengths.get("test_rows") or 0)
        return cls(longest, total, train["rows"], prompt, rows, _points(lengths["train"]), labelled)

    def shortened(self, sequence_len: int) -> "Lengths":
        """The same rows cut at `sequence_len`; totals stay, as an upper bound."""
        return replace(
            self, longest=min(self.longest, sequence_len), longest_prompt=min(self.longest_prompt, sequence_len)
        )

    def most_documents(self, tokens: int) -> int:
        """How many rows one packed row of `tokens` tokens holds at most.

        Best-fit-decreasing packing leaves the shortest rows to the last: the shortest of those that are packed
        together, until they fill the row. Without known lengths: rows of a mean length.
        """
        if self.rows is None or not self.points:
            return max(1, round(tokens / constant("document_tokens")))
        together = min(self.rows, _PACKED_TOGETHER)
        filled, documents = 0.0, 0
        while documents < together and filled < tokens:
            filled += max(1.0, _at(self.points, (documents + 0.5) / together))
            documents += 1
        return documents


def _counts(split: Mapping[str, Any] | list[int]) -> dict[str, int]:
    """rows, tokens, longest, trained of one split; runs made before version 2 of `prepare` hold the tokens of each row.

    trained: 0 where it was not counted.
    """
    if isinstance(split, list):
        return {"rows": len(split), "tokens": sum(split), "longest": max(split, default=0), "trained": 0}
    return {key: int(split.get(key) or 0) for key in ("rows", "tokens", "longest", "trained")}


def _points(split: Mapping[str, Any] | list[int]) -> Points:
    """Lengths in tokens by the share of rows that do not exceed them."""
    if isinstance(split, list):
        ordered = sorted(split)
        found = [(share, float(ordered[int(share * len(ordered))])) for share in _SHARES]
        return ((0.0, float(ordered[0])), *found, (1.0, float(ordered[-1])))
    known = sorted((int(share) / 100, float(tokens)) for share, tokens in (split.get("percentiles") or {}).items())
    return ((0.0, known[0][1]), *known, (1.0, float(split["longest"]))) if known else ()


def _at(points: Points, share: float) -> float:
    """The length at a share of the rows, on straight lines between the points."""
    for (left, low), (right, high) in zip(points, points[1:], strict=False):
        if share <= right:
            return low if right == left else low + (high - low) * (share - left) / (right - left)
    return points[-1][1]
