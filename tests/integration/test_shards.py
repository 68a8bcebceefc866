"""Weights in parts and the rows of each process, without starting any. Run: pytest tests/integration/test_shards.py"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from holdfast.models import _keep_weights_as_they_are, load_model
from holdfast.train import shards
from holdfast.train.together import Filled
from holdfast.train.weights import dequantize
from small_run import PEBBLE


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_a_gathered_weight_is_the_weight(quantization: Any) -> None:
    model = load_model(PEBBLE, quantization=quantization)
    _keep_weights_as_they_are(model)
    linear = model.model.layers[0].mlp.down_proj
    before = dequantize(linear, torch.float32)
    shards.shard(linear, None)
    held = [linear.weight, getattr(linear.weight, "CB", None)]
    assert [tensor.numel() for tensor in held if tensor is not None] == [0] * (2 if quantization == "int8" else 1)
    assert torch.equal(dequantize(linear, torch.float32), before)


@pytest.mark.parametrize(("count", "dtype"), [(2, torch.uint8), (3, torch.bfloat16), (7, torch.float32)])
def test_the_parts_of_all_processes_are_the_whole(
    count: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.arange(5 * 37, dtype=torch.float32).to(dtype).view(5, 37)
    parts = []
    for rank in range(count):
        linear = torch.nn.Linear(37, 5, bias=False)
        linear.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
        monkeypatch.setattr(dist, "get_world_size", lambda group: count)
        monkeypatch.setattr(dist, "get_rank", lambda group, rank=rank: rank)
        shards.shard(linear, None)
        parts.append(getattr(linear, shards.SHARD).part)
    assert len({part.numel() for part in parts}) == 1
    whole = torch.cat(parts)[: weight.numel() * dtype.itemsize].view(dtype).view(5, 37)
    assert torch.equal(whole, weight)


class Order:
    """Rows backwards, with the epoch added."""

    epoch = 0

    def __iter__(self) -> Iterator[int]:
        return iter([row + 100 * self.epoch for row in range(9, -1, -1)])

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


@pytest.mark.parametrize(("each", "blanks"), [(2, 0), (4, 2), (8, 6)])
def test_rows_keep_their_order_and_blank_rows_fill_the_last_micro_batches(each: int, blanks: int) -> None:
    filled = Filled(Order(), 10, each, accumulation=1)
    assert list(filled) == [*range(9, -1, -1), *[10] * blanks]
    assert len(filled) % each == 0


def test_an_epoch_that_is_resumed_in_its_middle_has_its_own_order() -> None:
    filled = Filled(Order(), 10, 4, accumulation=2)  # 12 places, 4 at once, 2 times: 2 optimiser steps an epoch
    filled.begin(5)
    assert list(filled)[0] == 209
