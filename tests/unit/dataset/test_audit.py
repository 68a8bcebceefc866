"""Counting trained tokens; the tokenizer itself is tested with a model. pytest tests/unit/dataset"""

import numpy as np
import pytest

from holdfast.core.errors import ContractError
from holdfast.core.records import Example, Message
from holdfast.dataset.audit import (
    check_rows,
    describe_lengths,
    join,
    length_percentiles,
    measure_row,
    refuse_long,
    summarise,
    tally,
)

END, NO = 2, -100
TURN = (Message(role="user", content="up?"), Message(role="assistant", content="yes"))
ONE = Example(messages=TURN, source="a:1")
TWO = Example(messages=(*TURN, *TURN), source="a:2")


def ended(example: Example, labels: list[int]) -> bool:
    row = measure_row(example, labels, 1, {END})
    return row.ended == row.answers


def test_a_row_that_trains_its_end_token_passes() -> None:
    assert ended(ONE, [NO, NO, 5, 6, END])
    assert ended(ONE, [NO, NO, 5, 6, END, NO])


def test_a_row_that_does_not_train_its_end_token_is_an_error() -> None:
    assert not ended(ONE, [NO, NO, 5, 6])
    assert not ended(ONE, [NO, NO, 5, END, 6])
    with pytest.raises(ContractError, match="would not learn to stop: a:1"):
        check_rows(tally([measure_row(ONE, [NO, 5, 6], 1, {END})], 9))


def test_every_answer_of_a_conversation_needs_its_end_token() -> None:
    assert ended(TWO, [NO, 5, END, NO, 6, END])
    assert not ended(TWO, [NO, 5, NO, NO, 6, END])
    assert not ended(TWO, [NO, NO, NO, NO, 6, END])


def test_a_row_that_trains_nothing_is_an_error() -> None:
    with pytest.raises(ContractError, match="1 of 1 rows have no trained token"):
        check_rows(tally([measure_row(ONE, [NO, NO], 1, {END})], 9))


def test_long_rows_are_an_error_that_names_them() -> None:
    rows = [measure_row(ONE, [NO] * 10 + [END], 10, {END}), measure_row(TWO, [NO, END], 1, {END})]
    with pytest.raises(ContractError, match=r"1 of 2 rows are longer than sequence_len 10 \(longest 11\)"):
        refuse_long(tally(rows, 10), 10, "drop")
    refuse_long(tally(rows, 11), 11, "drop")


def test_the_summary_counts_tokens() -> None:
    found = summarise(tally([measure_row(ONE, [NO, NO, 5, END], 2, {END})], 3))
    assert (found["tokens"], found["trained_tokens"], found["trained_share"]) == (4, 2, 0.5)
    assert (found["rows_with_trained_eos"], found["zero_label_rows"], found["truncated_rows"]) == (1, 0, 1)


def test_percentiles_are_lengths_that_occur() -> None:
    assert length_percentiles(np.arange(1, 101)) == {"p50": 50, "p90": 90, "p99": 99}
    assert length_percentiles(np.array([7])) == {"p50": 7, "p90": 7, "p99": 7}
    assert length_percentiles(np.array([], dtype=np.int64)) == {"p50": 0, "p90": 0, "p99": 0}


def test_tallies_of_shards_are_the_tally_of_all_rows() -> None:
    rows = [measure_row(ONE, [NO] * n + [5, END], n, {END}) for n in range(1, 200)]
    whole, parts = tally(rows, 50), join([tally(rows[:70], 50), tally(rows[70:], 50)])
    assert summarise(whole) == summarise(parts)
    assert whole.long_rows == parts.long_rows and whole.prompt_max == parts.prompt_max == 199
    assert describe_lengths(whole) == describe_lengths(parts)


def test_lengths_of_many_rows_stay_small() -> None:
    found = describe_lengths(tally([measure_row(ONE, [NO] * n + [END], n, {END}) for n in range(3, 1003)], 5))
    assert (found["rows"], found["longest"], found["percentiles"]["50"]) == (1000, 1003, 503)
    assert len(found["histogram"]) <= 32
    assert sum(rows for _, rows in found["histogram"]) == 1000


def test_an_end_token_in_the_middle_of_an_answer_is_an_error() -> None:
    with pytest.raises(ContractError, match=r"1 of 2 rows have the model's own end token in .* stop there: a:1$"):
        check_rows(tally([measure_row(row, labels, 1, {END}) for row, labels in EARLY], 9))
    check_rows(tally([measure_row(*EARLY[1], 1, {END})], 9))


EARLY = ((ONE, [NO, 5, END, 6, END]), (TWO, [NO, 5, END, NO, 6, END]))


def test_a_token_at_which_only_servers_stop_may_end_no_answer_early_either() -> None:
    """As Llama 3's end of text: in the model's own list, not in its chat template."""
    labels = [NO, 5, 9, 6, END]
    check_rows(tally([measure_row(ONE, labels, 1, {END})], 9))
    with pytest.raises(ContractError, match="in the text of an answer"):
        check_rows(tally([measure_row(ONE, labels, 1, {END}, {9})], 9))
