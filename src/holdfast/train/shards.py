"""Frozen weights divided among the processes: each holds a part of every matrix and gathers the whole to multiply.

This is fully sharded data parallelism for what is large in LoRA training. The adapters stay whole in every process (DDP
sums their gradients), so that checkpoints, resuming and the saved adapter are those of one process. A matrix is
gathered as it is stored (4 or 8 bits), once for the forward and once for the backward pass of its layer. Why not
torch's or accelerate's FSDP: docs/adr/0019-several-processes.md.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from holdfast.compact import SHARD

# torch 2.13 renamed it.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


@dataclass
class Shard:
    """This process's part of one stored matrix: bytes, padded so that all parts are equally long."""

    part: Tensor
    shape: torch.Size
    dtype: torch.dtype
    group: Any

    def gather(self) -> Tensor:
        """The stored matrix; all processes must call it at the same place of the pass."""
        whole = self.part.new_empty(self.part.numel() * dist.get_world_size(self.group))
        _all_gather(whole, self.part, group=self.group)
        return whole[: self.shape.numel() * self.dtype.itemsize].view(self.dtype).view(self.shape)


def shard(linear: Any, group: Any) -> int:
    """Keep only this process's part of a frozen linear layer's weight; returns the bytes it gave away."""
    weight = linear.weight
    stored = weight.data.contiguous().view(-1).view(torch.uint8)
    count, rank = dist.get_world_size(group), dist.get_rank(group)
    length = -(-stored.numel() // count // 16) * 16  # whole elements of every type in each part
    part = stored.new_zeros(length)
    mine = stored[rank * length : (rank + 1) * length]
    part[: mine.numel()].copy_(mine)
    setattr(linear, SHARD, Shard(part, weight.shape, weight.dtype, group))
    weight.data = weight.data.new_empty(0)
    if getattr(weight, "CB", None) is not None:  # bitsandbytes holds 8-bit weights under a second name
        weight.CB = weight.data
    return stored.numel() - length


def stored_weight(linear: Any) -> Tensor:
    """A linear layer's weight as it is stored, gathered when it lies in parts."""
    found: Shard | None = getattr(linear, SHARD, None)
    return linear.weight.data if found is None else found.gather()
