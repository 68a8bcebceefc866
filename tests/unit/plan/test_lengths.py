"""How many documents a batch may hold, and what they cost. Run: pytest tests/unit/plan/test_lengths.py"""

import numpy as np
import pytest

from holdfast.dataset.audit import Tally, describe_lengths
from holdfast.plan.fused_memory import Recompute
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import train_memory
from plan_shapes import run_config, shape_named

TIGHT = Recompute("layer", "layer", 0, offload=True, mlp_tokens=4096)


def of(lengths: list[int], tokens: int = 16384) -> Lengths:
    return Lengths.of(run_config(sequence_len=tokens), {"train": lengths})


def tally_of(lengths: list[int]) -> Tally:
    return Tally(np.array(lengths, dtype=np.uint32))


def needed(lengths: list[int] | None, *, shape: str = "Qwen2.5-7B", tokens: int = 16384, **split: int) -> int:
    """Bytes of a training step on a card; `split` replaces what lengths.json says of the training rows."""
    config, found = run_config(sequence_len=tokens, train={"optimizer": "paged_adamw_8bit"}), None
    if lengths:
        found = {"train": {**describe_lengths(tally_of(lengths)), **split}}
    parts = train_memory(shape_named(shape), config, Lengths.of(config, found), 1, on_gpu=True, policy=TIGHT)
    return sum(parts.values())


def test_without_lengths_documents_have_a_mean_length() -> None:
    assert Lengths.of(run_config(sequence_len=3500), None).most_documents(3500) == 10


def test_rows_of_one_length_fill_a_batch_exactly() -> None:
    assert of([64] * 5000).most_documents(16384) == 256
    assert of([64] * 20).most_documents(16384) == 20, "no more than there are"


def test_the_shortest_rows_count_and_not_the_mean() -> None:
    found = of([900] * 500 + [60] * 500)
    assert found.most_documents(16384) > 0.9 * 16384 / 60


def test_many_short_documents_need_more_memory_than_few_long_ones() -> None:
    # 32 bytes x query width (3584) x 128 rows for each document more, at the moment of attention's backward pass
    more = needed([64] * 4000) - needed([512] * 500)
    assert more == pytest.approx(1.04 * 4 * 3584 * 128 * (256 - 32), rel=0.01)


def test_old_and_new_lengths_say_the_same() -> None:
    rows = [100 + 7 * n % 900 for n in range(3000)]
    new = Lengths.of(run_config(sequence_len=16384), {"train": describe_lengths(tally_of(rows))})
    assert new.most_documents(16384) == pytest.approx(of(rows).most_documents(16384), abs=1)


def test_text_that_is_trained_whole_counts_all_its_tokens() -> None:
    rows = [100] * 1000
    some = needed(rows, shape="Llama-3.2-1B", tokens=2048, trained=66_000)
    assert needed(rows, shape="Llama-3.2-1B", tokens=2048, trained=100_000) > some + 600 * 2 * 128_256
