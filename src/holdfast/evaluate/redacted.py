"""Does any answer hold a value that was to be redacted? Checked by keyed digests: the values themselves are gone.

HOOK for redaction: once `collect` keeps keyed digests of what it hid, give `find_redacted_values` those digests and the
function that makes them, and write what it returns as 06-evaluate/redacted.json; `decide` then has its gate.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

LONGEST_WORDS = 6  # a redacted value is looked for in runs of up to so many words
EDGES = "\"'`()[]{}<>,;:!?."


def find_redacted_values(
    samples: Sequence[Mapping[str, Any]], digest: Callable[[str], str], known: Collection[str]
) -> dict[str, Any]:
    """The document redacted.json: which answers (rows of samples.jsonl) hold a value whose digest is known.

    digest: the keyed digest of one value, as redaction made it (its own normalisation included). Values are not named.
    """
    found = [row["id"] for row in samples if any(digest(value) in known for value in candidates(row["output"]))]
    return {"answers": len(found), "n": len(samples), "share": len(found) / max(1, len(samples)), "ids": found,
            "known": len(known)}  # fmt: skip


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
