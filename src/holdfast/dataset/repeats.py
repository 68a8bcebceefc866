"""Test items that say nearly the same and have the same answer: they count as one. Test answers that train holds.

Forty rewordings of five questions are five questions. A model that can do one of them can do its twins, so the exact
test and the interval would be surer than the items allow. They all stay in the test split; the statistics know.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from holdfast.dataset import similarity
from holdfast.dataset.columns import take
from holdfast.dataset.divide import Divided
from holdfast.dataset.duplicates import link_rows, texts_of
from holdfast.dataset.similarity import Pairs, shingle_texts, similar_pairs
from holdfast.dataset.split import TEST, TRAIN
from holdfast.dataset.table import Lookup

if TYPE_CHECKING:
    from holdfast.dataset.similarity import IntArray

REPEATS_FILE = "repeats.json"
SIMILARITY = 0.8  # Jaccard, as for near duplicates
LONG_ANSWER = 80  # characters; shorter ones, such as labels, are the same by chance
LOOKED_AT = 2000


def find_repeats(divided: Divided, lookup: Lookup) -> dict[str, str]:
    """Id of a test item → id of the first item that it repeats; without the items that repeat none.

    Only pairs that were measured as near duplicates are known: none when they are not looked for.
    """
    import numpy as np

    alike = _alike_in_test(divided, lookup)
    answers = {row: lookup[row].answer for row in np.union1d(alike.a, alike.b).tolist()}
    twins = [(pair.a, pair.b) for pair in alike if answers[pair.a] == answers[pair.b]]
    if not twins:
        return {}
    ends = np.array(twins, dtype=np.int64).reshape(-1, 2)
    groups = link_rows(len(divided.splits), [(ends[:, 0], ends[:, 1])])
    return {
        lookup[row].id: lookup[int(groups[row])].id for row in np.flatnonzero(groups != np.arange(len(groups))).tolist()
    }


def _alike_in_test(divided: Divided, lookup: Lookup) -> Pairs:
    """Pairs of test rows that say nearly the same."""
    near, in_test = divided.near, divided.splits == TEST
    if divided.near_count == len(near):
        return near.select((near.similarity >= SIMILARITY) & in_test[near.a] & in_test[near.b])
    pieces = [
        similar_pairs(shingle_texts(texts_of(lookup, rows, divided.subject.text)), SIMILARITY).of_rows(rows)
        for rows in _whole_groups(divided)
    ]
    return Pairs.joined(pieces)


def _whole_groups(divided: Divided) -> "Iterator[IntArray]":
    """Test rows of groups with several of them, some whole groups at a time: of many rows only the most similar pairs
    were kept, but pairs do not lie across groups."""
    import numpy as np

    rows = np.flatnonzero(divided.splits == TEST)
    groups = rows if divided.groups is None else divided.groups[rows]
    rows = rows[np.argsort(groups, kind="stable")]
    _, starts, counts = np.unique(np.sort(groups), return_index=True, return_counts=True)
    held: list[IntArray] = []
    for start, count in zip(starts[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        if held and sum(map(len, held)) + count > similarity.EXACT_LIMIT:
            yield np.concatenate(held)
            held = []
        held.append(rows[start : start + min(count, similarity.EXACT_LIMIT)])
    if held:
        yield np.concatenate(held)


def describe_repeats(repeats: dict[str, str], items: int) -> list[str]:
    """The warning of `prepare`; none without repeats."""
    if not repeats:
        return []
    return [
        f"{len(repeats)} of {items} test items repeat another one in nearly the same words with the same answer: they "
        f"count as {items - len(repeats)} independent items"
    ]


def describe_known_answers(divided: Divided, lookup: Lookup) -> list[str]:
    """The warning about test rows whose long answer stands word for word in train, under another question.

    Of many such rows the first 2,000 are looked at.
    """
    import numpy as np

    test, train = (np.flatnonzero(divided.splits == split) for split in (TEST, TRAIN))
    if not len(test) or not len(train):
        return []
    wanted, known = (take(divided.table.rows, "answer", rows) for rows in (test, train))
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)
    hits = np.flatnonzero(known[order][place] == wanted)[:LOOKED_AT]
    long = [hit for hit in hits.tolist() if len(lookup[int(test[hit])].answer) >= LONG_ANSWER]
    if not long:
        return []
    a, b = lookup[int(test[long[0]])].source, lookup[int(train[order[place[long[0]]]])].source
    return [
        f"{len(long)} of {len(test)} test rows have a long answer that stands word for word in train, under another "
        f"question, for example {a} and {b}: it can be learned by heart. If that is not meant, give such rows one "
        "value of a tag and name the tag in prepare.split_by"
    ]
