"""How many documents a batch may hold, and what they cost. Run: pytest tests/unit/plan/test_lengths.py"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.packing import most_in, most_packed
from holdfast.dataset.audit import Tally, describe_lengths
from holdfast.plan.fused_memory import Recompute
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import batch_documents, train_memory
from plan_shapes import run_config, shape_named

TIGHT = Recompute("layer", "layer", 0, offload=True, mlp_tokens=4096)


def of(lengths: list[int], tokens: int = 16384) -> Lengths:
    return Lengths.of(run_config(sequence_len=tokens), {"train": lengths})


def tally_of(lengths: list[int], densest: float = 0.0) -> Tally:
    return Tally(np.array(lengths, dtype=np.uint32), densest=densest)


def needed(
    lengths: list[int] | None, *, shape: str = "Qwen2.5-7B", tokens: int = 16384, densest: float = 0.0, **split: int
) -> int:
    """Bytes of a training step on a card; `split` replaces what lengths.json says of the training rows."""
    config, found = run_config(sequence_len=tokens, train={"optimizer": "paged_adamw_8bit"}), None
    if lengths:
        found = {"train": {**describe_lengths(tally_of(lengths, densest)), **split}}
    parts = train_memory(shape_named(shape), config, Lengths.of(config, found), 1, on_gpu=True, policy=TIGHT)
    return sum(parts.values())


def test_without_lengths_documents_have_a_mean_length() -> None:
    assert Lengths.of(run_config(sequence_len=3500), None).most_documents(3500) == 10


def test_rows_of_one_length_fill_a_batch_exactly() -> None:
    assert of([64] * 5000).most_documents(16384) == 256
    assert of([64] * 20).most_documents(16384) == 20, "no more than there are"


def test_the_shortest_rows_count_and_not_the_mean() -> None:
    assert of([900] * 500 + [60] * 500).most_documents(16384) == 16384 // 60


def test_short_rows_that_lie_together_are_packed_together() -> None:
    found = of([30] * 400 + [600] * 6000)  # 400 x 30, and 7 x 600 in the 4,384 tokens that are left
    assert found.most_documents(16384) == 407
    assert of(([30] + [600] * 15) * 400).most_documents(16384) < 100, "they are spread over many thousands"


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.integers(1, 300_000))
def test_the_count_is_never_below_what_the_shortest_rows_fill(lengths: list[int], tokens: int) -> None:
    sums = np.cumsum(sorted(lengths))
    assert most_in(most_packed(lengths), tokens) >= np.searchsorted(sums, tokens, "right")


def test_a_batch_holds_no_more_documents_than_there_are() -> None:
    config = run_config(sequence_len=1024)
    assert batch_documents(config, Lengths.of(config, {"train": [100] * 10}), 8) == 10


def test_test_prompts_are_longer_than_training_rows_may_be() -> None:
    config = run_config(sequence_len=512)
    found = Lengths.of(config, {"train": [100], "test_prompt_max": 4000, "test_rows": 3})
    assert found.shortened(64).longest_prompt == 4000
    assert found.shortened(64).longest == 64


def test_many_short_documents_need_more_memory_than_few_long_ones() -> None:
    # 32 bytes x query width (3584) x 128 rows for each document more, at the moment of attention's backward pass
    more = needed([64] * 4000) - needed([512] * 500)
    assert more == pytest.approx(1.04 * 4 * 3584 * 128 * (256 - 32), rel=0.01)


def test_old_and_new_lengths_say_the_same() -> None:
    rows = [100 + 7 * n % 900 for n in range(3000)]
    new = Lengths.of(run_config(sequence_len=16384), {"train": describe_lengths(tally_of(rows))})
    assert new.most_documents(16384) == of(rows).most_documents(16384)


def test_the_row_with_the_most_labels_counts_and_not_the_mean() -> None:
    # Qwen2.5-0.5B: at the moment of the loss its 151,936 logits are the peak
    sparse = needed([100] * 1000, densest=0.1, shape="Qwen2.5-0.5B", tokens=2048, trained=10_000)
    mixed = needed([100] * 1000, densest=0.9, shape="Qwen2.5-0.5B", tokens=2048, trained=10_000)
    assert mixed > sparse + 0.7 * 2048 * 2 * 151_936


def test_only_trained_tokens_in_all_counted_are_no_less_than_the_estimate() -> None:
    shape, tokens = "Qwen2.5-0.5B", 2048
    assert needed([100] * 1000, shape=shape, tokens=tokens, trained=10_000) >= needed(None, shape=shape, tokens=tokens)


def test_text_that_is_trained_whole_counts_all_its_tokens() -> None:
    rows = [100] * 1000
    some = needed(rows, shape="Llama-3.2-1B", tokens=2048, trained=66_000)
    assert needed(rows, shape="Llama-3.2-1B", tokens=2048, trained=100_000) > some + 600 * 2 * 128_256
