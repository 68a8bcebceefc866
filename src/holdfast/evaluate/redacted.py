"""Does any answer hold a value that was redacted? Checked by keyed digests: the values themselves are gone."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from holdfast.redact.digests import Masked

LONGEST_WORDS = 6  # a redacted value is looked for in runs of up to so many words
EDGES = "\"'`()[]{}<>,;:!?."


def find_redacted_values(
    samples: Sequence[Mapping[str, Any]], masked: Masked, baseline: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The document redacted.json: which answers (rows of samples.jsonl) hold a value that was masked; none is named.

    baseline: answers of the base model, which never saw the values; what it says is no leak of the training.
    """
    found = [row["id"] for row in samples if says_masked(row["output"], masked)]
    before = sum(says_masked(row["output"], masked) for row in baseline)
    return {"answers": len(found), "n": len(samples), "share": len(found) / max(1, len(samples)), "ids": found,
            "baseline_answers": before, "known": len(masked.known)}  # fmt: skip


def says_masked(text: str, masked: Masked) -> bool:
    """Whether a text holds a value that was masked."""
    return any(masked.holds(value) for value in set(candidates(text)))


def candidates(text: str) -> Iterator[str]:
    """Everything in a text that may be one value: runs of words, without the punctuation around them, and what stands
    behind `=`, `:` or `/` in a word."""
    words = text.split()
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + LONGEST_WORDS) + 1):
            run = " ".join(words[start:end])
            yield run
            if (bare := run.strip(EDGES)) != run:
                yield bare
    for word in words:
        parts = re.split(r"[=:/@\"']+", word)
        yield from (part.strip(EDGES) for part in parts if len(parts) > 1 and part)
