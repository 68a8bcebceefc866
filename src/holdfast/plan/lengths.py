"""How long the rows are that a run trains on, and how many of them a packed batch may hold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.core.packing import most_in, most_packed
from holdfast.plan.constants import constant

Packed = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Lengths:
    """Counts that matter: the longest training row, all training tokens, the longest test prompt, test rows.

    packed: (tokens of a packed row, most rows in it). labelled: most of a batch's tokens that have a label, as a share.
    longest_test, longest_answer: of a test row, tokens with its reference answer, and of the answer alone.
    """

    longest: int
    total: int | None
    rows: int | None
    longest_prompt: int
    test_rows: int = 0
    packed: Packed = ()
    labelled: float | None = None
    longest_test: int = 0
    longest_answer: int = 0

    @classmethod
    def of(cls, config: RunConfig, lengths: Mapping[str, Any] | None) -> "Lengths":
        """From `lengths.json`; without it every row counts as full (`sequence_len`) and totals are not known.

        Answers of the test rows, where they were not counted: as long as the model may write.
        """
        written = config.evaluate.max_new_tokens
        unknown = cls(
            config.sequence_len, None, None, config.sequence_len,
            longest_test=config.sequence_len + written, longest_answer=written,
        )  # fmt: skip
        if not lengths or not lengths.get("train"):
            return unknown
        train, valid = _counts(lengths["train"]), _counts(lengths.get("valid") or [])
        if not train["rows"]:
            return unknown
        prompt = int(lengths.get("test_prompt_max") or config.sequence_len)
        answer = int(lengths.get("test_answer_max") or written)
        test = int(lengths.get("test_max") or prompt + answer)
        longest = min(max(train["longest"], valid["longest"]), config.sequence_len)
        total = min(train["tokens"], train["rows"] * config.sequence_len)
        rows = int(lengths.get("test_rows") or 0)
        packed, labelled = _packed(lengths["train"]), _labelled(lengths["train"])
        return cls(longest, total, train["rows"], prompt, rows, packed, labelled, test, answer)

    def shortened(self, sequence_len: int) -> "Lengths":
        """The same rows cut at `sequence_len`; totals stay, as an upper bound. Test prompts are never cut."""
        return replace(self, longest=min(self.longest, sequence_len))

    def most_documents(self, tokens: int) -> int:
        """How many rows one packed row of `tokens` tokens holds at most; of a mean length where none are known."""
        if not self.packed:
            return max(1, round(tokens / constant("document_tokens")))
        return most_in(self.packed, tokens)


def _counts(split: Mapping[str, Any] | list[int]) -> dict[str, int]:
    """rows, tokens, longest, trained of one split; runs made before version 2 of `prepare` hold the tokens of each row.

    trained: 0 where it was not counted.
    """
    if isinstance(split, list):
        return {"rows": len(split), "tokens": sum(split), "longest": max(split, default=0), "trained": 0}
    return {key: int(split.get(key) or 0) for key in ("rows", "tokens", "longest", "trained")}


def _labelled(split: Mapping[str, Any] | list[int]) -> float | None:
    """Of the row with the largest share: packing puts rows of one length together, and those are often of one kind.

    Runs whose `prepare` counted only all trained tokens: no less than the table's share.
    """
    counts = _counts(split)
    if isinstance(split, list) or not counts["trained"]:
        return None
    mean = counts["trained"] / counts["tokens"]
    return float(split.get("trained_share_max") or max(mean, constant("labelled_share")))


def _packed(split: Mapping[str, Any] | list[int]) -> Packed:
    """Runs whose `prepare` has not counted this say nothing."""
    found = most_packed(split) if isinstance(split, list) else split.get("packed") or ()
    return tuple((int(size), int(rows)) for size, rows in found)
