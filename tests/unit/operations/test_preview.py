"""What preview shows can be read without colour and cannot harm a terminal. pytest tests/unit/operations"""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.records import Example, Message
from holdfast.operations.preview import decode_pieces, header, length_table, mark_tokens, runs_of


class Bytes:
    """A tokenizer with one token for each byte."""

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


@given(st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"]), max_size=20))
def test_pieces_join_to_the_text_also_when_a_character_takes_several_tokens(text: str) -> None:
    ids = list(text.encode())
    pieces = decode_pieces(Bytes(), ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text


def test_broken_bytes_are_shown_and_none_is_lost() -> None:
    pieces = decode_pieces(Bytes(), [0x61, 0xE2, 0x82])
    assert len(pieces) == 3
    assert "".join(pieces).startswith("a")
    assert "\ufffd" in "".join(pieces)


def test_trained_text_stands_in_brackets_and_end_tokens_are_marked() -> None:
    runs = runs_of(["q", "a", "b", "<e>", "x", "c", "<e>"], [False, True, True, True, False, True, True],
                   [False, False, False, True, False, False, True])  # fmt: skip
    assert mark_tokens(runs).plain == "q⟦ab<e>■⟧x⟦c<e>■⟧"


def test_an_answer_without_a_trained_end_has_no_end_mark() -> None:
    assert mark_tokens(runs_of(["a", "<e>"], [True, False], [False, True])).plain == "⟦a⟧<e>"


def test_escape_sequences_of_a_row_do_not_reach_the_terminal() -> None:
    shown = mark_tokens(runs_of(["\x1b[2J\u202e", "[red]x\n"], [False, True], [False, False])).plain
    assert shown == "‹U+001B›[2J‹U+202E›⟦[red]x↵\n⟧"


def test_the_table_names_lengths_shares_and_drops() -> None:
    split = {"rows": 3, "p50": 5, "p90": 8, "p99": 9, "longest": 9, "tokens": 1234, "trained_share": 0.25,
             "rows_with_trained_eos": 2, "truncated_rows": 1}  # fmt: skip
    lines = length_table({"splits": {"train": split}, "dropped_too_long": ["a:1"]}, 64).splitlines()
    assert lines[1].split() == ["train", "3", "5", "8", "9", "9", "1,234", "25.0", "%", "2/3", "1"]
    assert lines[2].startswith("sequence_len 64; 1 rows dropped")


def test_the_rejected_answer_of_a_preference_row_is_said_to_be_unused() -> None:
    turns = (Message(role="user", content="q"), Message(role="assistant", content="a"))
    rows = [Example(messages=turns, source="a:1", rejected=text) for text in (None, "b")]
    plain, pair = (header(row, [False, True]).plain for row in rows)
    assert pair == f"{plain}; its rejected answer is not used"


class Pieces:
    """SentencePiece: the first token of a text loses its space."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(" a" if token else "b" for token in ids).removeprefix(" ")


def test_spaces_at_the_beginning_of_tokens_are_shown() -> None:
    assert decode_pieces(Pieces(), [1, 1, 0, 1]) == ["a", " a", "b", " a"]
