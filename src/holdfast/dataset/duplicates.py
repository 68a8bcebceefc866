"""Rows that say the same: exact duplicates are dropped or refused, near duplicates are kept together."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.records import Example
from holdfast.dataset.columns import buckets, take
from holdfast.dataset.table import Lookup, Reading, Table, group_starts, lead_of, number, table_of
from holdfast.dataset.validate import SHOWN, Counted, Violation, input_text, strict_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

# A first paragraph that this many rows share is an instruction, not what the row is about.
LEAD_ROWS = 3


class Dropped(NamedTuple):
    """rows: those that go, ascending; kept: for each the row in its place."""

    rows: "IntArray"
    kept: "IntArray"


class Conflicts(NamedTuple):
    """Rows that cannot both be learned: the first violations, how many there are, in how many rows."""

    shown: list[Violation]
    counted: Counted


def find_conflicts(examples: Sequence[Example]) -> list[Violation]:
    """Rows whose prompt is another row's prompt but whose answer differs; of many, the first are returned."""
    return conflicts_of(table_of(examples, Reading(None)), examples).shown


def conflicts_of(table: Table, lookup: Lookup) -> Conflicts:
    """Rows whose prompt is an earlier row's prompt but whose answer differs: the model cannot learn both.

    Answers are read only where their digests differ: the same JSON may be written in two ways.
    """
    import numpy as np

    later: list[IntArray] = []
    earlier: list[IntArray] = []
    for where in buckets(table.rows, "prompt"):
        prompt, prompt2, answer = (take(table.rows, name, where) for name in ("prompt", "prompt2", "answer"))
        order = np.lexsort((prompt2, prompt))  # stable: the first of a group is the first in the file
        first = order[group_starts(prompt[order], prompt2[order])]
        other = answer[order] != answer[first]
        later.append(where[order[other]])
        earlier.append(where[first[other]])
    rows, others = (np.concatenate([np.zeros(0, dtype=np.int64), *found]) for found in (later, earlier))
    suspects = np.argsort(rows, kind="stable")
    shown: list[Violation] = []
    count = 0
    for row, first_row in zip(rows[suspects].tolist(), others[suspects].tolist(), strict=True):
        here, there = lookup[row], lookup[first_row]
        if _same_answer(there.answer, here.answer):
            continue
        count += 1
        if count <= SHOWN:
            text = f"same prompt as {there.source}, other answer"
            shown.append(Violation("conflicting_answers", here.source, text, here.answer[:80]))
    return Conflicts(shown, Counted(count, count))


def find_exact_duplicates(table: Table) -> Dropped:
    """The rows that go, and the row that is kept in place of each. One row of each prompt is kept.

    A row with a fixed split is kept before one without. Copies that the user fixed in different splits all stay:
    whether that leaks is decided by the split check. Which copy stays does not depend on the order of the rows.
    """
    import numpy as np

    gone: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    kept: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    for where in buckets(table.rows, "prompt"):
        prompt, prompt2, fixed, name, source = (
            take(table.rows, column, where) for column in ("prompt", "prompt2", "fixed", "id", "source")
        )
        rank = np.array([3, 2, 1, 0])[fixed]  # test, valid, train, free
        order = np.lexsort((source, name, rank, prompt2, prompt))
        of_group = group_starts(prompt[order], prompt2[order])
        of_split = group_starts(prompt[order], prompt2[order], rank[order])
        keeper = np.where(rank[order] == 3, of_group, of_split)
        copies = keeper != np.arange(len(order))
        gone.append(where[order[copies]])
        kept.append(where[order[keeper[copies]]])
    rows, keepers = np.concatenate(gone), np.concatenate(kept)
    order = np.argsort(rows)
    return Dropped(rows[order], keepers[order])


class Subject:
    """What a row is about: the user's words without the instruction that many rows share.

    With an instruction in the contract it is that one. Without, it is any first paragraph that three or more rows
    share; such paragraphs would make all rows look alike.
    """

    def __init__(self, instruction: str, shared_leads: frozenset[int]) -> None:
        self.instruction, self.shared_leads = instruction, shared_leads

    def text(self, example: Example) -> str:
        """The words that similarity is measured on."""
        if self.instruction:
            return input_text(example, self.instruction)
        text = example.prompt_text
        if not self.shared_leads:
            return text
        lead, rest = lead_of(text)
        return rest if rest and number(lead) in self.shared_leads else text


def subject_of(table: Table, kept: "NDArray[np.bool_]", instruction: str) -> Subject:
    """The subject of the kept rows of a table."""
    import numpy as np

    if instruction:
        return Subject(instruction, frozenset())
    shared: set[int] = set()
    for where in buckets(table.rows, "lead"):
        leads, counts = np.unique(take(table.rows, "lead", where)[kept[where]], return_counts=True)
        shared |= set(leads[counts >= LEAD_ROWS].tolist())
    return Subject("", frozenset(shared))


def link_rows(count: int, edges: Sequence["tuple[IntArray, IntArray]"]) -> "IntArray":
    """Groups: for each of `count` rows the first row it is linked to, directly or through others."""
    import numpy as np

    if not any(len(a) for a, _ in edges):
        return np.arange(count)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = (np.concatenate([edge[side] for edge in edges]) for side in (0, 1))
    graph = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return np.asarray(first[labels], dtype=np.int64)


def fact_links(facts: "NDArray[np.uint64]") -> "tuple[IntArray, IntArray]":
    """Links between rows of the same source fact (0 = none)."""
    import numpy as np

    with_fact = np.flatnonzero(facts)
    order = with_fact[np.argsort(facts[with_fact], kind="stable")]
    same = facts[order][1:] == facts[order][:-1]
    return order[:-1][same], order[1:][same]


def texts_of(lookup: Lookup, rows: "IntArray", subject: Callable[[Example], str]) -> list[str]:
    """What each of `rows` is about."""
    return [subject(lookup[int(row)]) for row in rows]


def _same_answer(one: str, other: str) -> bool:
    if one.split() == other.split():
        return True
    try:
        return bool(strict_json(one) == strict_json(other))
    except ValueError:
        return False
