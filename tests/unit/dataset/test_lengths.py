"""Conversations are split at turn borders, never in an answer. pytest tests/unit/dataset"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.records import Example, Message
from holdfast.dataset.lengths import divide_conversation
from holdfast.dataset.sampling import MOST_COPIES, balance


def size(example: Example) -> int:
    return sum(len(message.content) for message in example.messages)


turns = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


def conversation(lengths: list[tuple[int, int]], system: bool) -> Example:
    messages = [Message(role="system", content="s")] if system else []
    for number, (asked, answered) in enumerate(lengths):
        messages.append(Message(role="user", content=chr(97 + number) * asked))
        messages.append(Message(role="assistant", content=chr(65 + number) * answered))
    return Example(messages=tuple(messages), source="a:1", tags={"domain": "x"})


@given(turns, st.booleans(), st.integers(5, 60))
def test_every_exchange_is_kept_whole_once_and_in_order(
    lengths: list[tuple[int, int]], system: bool, limit: int
) -> None:
    example = conversation(lengths, system)
    parts = divide_conversation(example, size, limit)
    if len(lengths) == 1:
        assert parts == []
        return
    own = [message for part in parts for message in part.messages if message.role != "system"]
    assert own == [message for message in example.messages if message.role != "system"]
    for part in parts:
        assert part.messages[-1].role == "assistant"
        assert (part.messages[0].role == "system") == system
        assert size(part) <= limit or len(part.messages) == 2 + system
    assert [part.tags["part"] for part in parts] == list(range(1, len(parts) + 1))


def test_a_preference_row_is_not_split() -> None:
    row = conversation([(3, 3), (3, 3)], system=False)
    assert divide_conversation(Example(messages=row.messages, source="a", rejected="no"), size, 4) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=300), st.floats(1.01, 50), st.integers(0, 5))
def test_a_temperature_evens_out_domains_without_losing_one(domains: list[int], temperature: float, seed: int) -> None:
    domain = np.array(domains)
    ids = np.arange(len(domains), dtype=np.uint64)
    found = balance(domain, ["a", "b", "c", "d"], ids, temperature, seed)
    assert found is not None
    before, after = (np.bincount(domain, weights=w, minlength=4) for w in (None, found.times))
    assert ((after > 0) == (before > 0)).all() and found.times.max() <= MOST_COPIES
    assert [entry["trained_rows"] for entry in found.domains] == after.astype(int).tolist()
    order = np.argsort(before, kind="stable")
    shares = after[order][before[order] > 0] / before[order][before[order] > 0]
    assert (np.diff(shares) <= 1 / before[order][before[order] > 0].min() + 1e-9).all()


def test_temperature_one_changes_nothing_and_a_high_one_makes_domains_equal() -> None:
    domain, ids = np.array([0] * 90 + [1] * 30), np.arange(120, dtype=np.uint64)
    assert balance(domain, ["a", "b"], ids, 1.0, 1) is None
    found = balance(domain, ["a", "b"], ids, 1000.0, 1)
    assert found is not None and [entry["trained_rows"] for entry in found.domains] == [60, 60]
    assert found.domains[0]["left_out"] == 30 and found.domains[1]["copies"] == 30
