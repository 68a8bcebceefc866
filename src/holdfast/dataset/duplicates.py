"""Rows that say the same: exact duplicates are dropped or refused, near duplicates are kept together."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from holdfast.core.records import SPLITS, Example
from holdfast.dataset.similarity import Pair, normalise
from holdfast.dataset.validate import Violation, input_text, strict_json

# A first paragraph that this many rows share is an instruction, not what the row is about.
LEAD_ROWS = 3


class Deduplicated(NamedTuple):
    """kept: rows in their old order; dropped: (source of the dropped row, source of the kept one)."""

    kept: list[Example]
    dropped: list[tuple[str, str]]


def find_conflicts(examples: Sequence[Example]) -> list[Violation]:
    """Rows whose prompt is another row's prompt but whose answer differs: the model cannot learn both."""
    violations = []
    for rows in _by_prompt(examples).values():
        first = rows[0]
        violations += [
            Violation(
                "conflicting_answers", row.source, f"same prompt as {first.source}, other answer", row.answer[:80]
            )
            for row in rows[1:]
            if not _same_answer(first.answer, row.answer)
        ]
    return violations


def drop_exact_duplicates(examples: Sequence[Example]) -> Deduplicated:
    """Keep one row of each prompt; a row with a fixed split is kept before one without.

    Copies that the user fixed in different splits all stay: whether that leaks is decided by the split check.
    """
    dropped: dict[int, str] = {}
    for rows in _by_prompt(examples).values():
        fixed: list[str | None] = [split for split in reversed(SPLITS) if any(row.split == split for row in rows)]
        for split in fixed or (None,):
            same = sorted((r for r in rows if r.split == split), key=lambda r: (r.id, r.source))
            dropped |= {id(row): same[0].source for row in same[1:]}
        if fixed:
            keeper = min((r for r in rows if r.split == fixed[0]), key=lambda r: (r.id, r.source))
            dropped |= {id(row): keeper.source for row in rows if row.split is None}
    return Deduplicated(
        [e for e in examples if id(e) not in dropped],
        [(e.source, dropped[id(e)]) for e in examples if id(e) in dropped],
    )


def texts_to_compare(examples: Sequence[Example], instruction: str) -> list[str]:
    """What each row is about: the user's words without the instruction that many rows share.

    With a contract that is its instruction. Without one (`instruction` empty) it is any first paragraph that three or
    more rows share; such paragraphs would make all rows look alike.
    """
    if instruction:
        return [input_text(example, instruction) for example in examples]
    leads = Counter(_lead(example.prompt_text)[0] for example in examples)
    texts = []
    for example in examples:
        lead, rest = _lead(example.prompt_text)
        texts.append(rest if leads[lead] >= LEAD_ROWS and rest else example.prompt_text)
    return texts


def group_rows(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Near-duplicate groups: for each of `count` rows the first row it is linked to, directly or through others."""
    parent = list(range(count))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for pair in pairs:
        low, high = sorted((find(pair.a), find(pair.b)))
        parent[high] = low
    return [find(row) for row in range(count)]


def _lead(text: str) -> tuple[str, str]:
    lead, _, rest = text.partition("\n\n")
    return lead, rest.strip()


def _by_prompt(examples: Sequence[Example]) -> dict[tuple[tuple[str, str], ...], list[Example]]:
    """Rows by normalised prompt, roles and all turns included."""
    rows: dict[tuple[tuple[str, str], ...], list[Example]] = defaultdict(list)
    for example in examples:
        rows[tuple((m.role, normalise(m.content)) for m in example.prompt)].append(example)
    return rows


def _same_answer(one: str, other: str) -> bool:
    if one.split() == other.split():
        return True
    try:
        return bool(strict_json(one) == strict_json(other))
    except ValueError:
        return False
