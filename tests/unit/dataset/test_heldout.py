"""The index of held-out rows finds what the plain comparison finds. pytest tests/unit/dataset/test_heldout.py"""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.records import Example, Message
from holdfast.dataset.heldout import HeldOut, Subject
from holdfast.dataset.similarity import jaccard, shingles

WORDS = st.lists(st.sampled_from(["disk", "full", "node", "pve7", "pve8", "slow", "rack", "a"]), min_size=1, max_size=9)
TEXTS = st.lists(WORDS.map(" ".join), min_size=0, max_size=8)


@given(TEXTS, WORDS.map(" ".join), st.floats(0.05, 1))
def test_nearest_is_exact(held: list[str], text: str, threshold: float) -> None:
    similarities = [jaccard(shingles(text), shingles(other)) for other in held]
    best = max(similarities, default=0.0)
    found = HeldOut(held, threshold).nearest(text)
    if best >= threshold:
        assert found is not None
        assert found[1] == best
        assert similarities[found[0]] == best
    else:
        assert found is None


def example(text: str) -> Example:
    turns = (Message(role="user", content=text), Message(role="assistant", content="x"))
    return Example(messages=turns, source="a:1")


def test_a_row_is_compared_without_what_rows_share() -> None:
    rows = [example(f"Classify.\n\nticket {n}") for n in range(3)]
    assert Subject("", rows).text(rows[0]) == "ticket 0"
    assert Subject("", rows[:2]).text(rows[0]) == "Classify.\n\nticket 0"
    assert Subject("Classify.", []).text(rows[0]) == "ticket 0"
