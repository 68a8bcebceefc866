"""Weights moved together, so that the memory between them can be used.

Loading makes a 16-bit copy of each matrix before it is quantised, and what is left when the copies are gone is
scattered among weights that stay. torch's allocator gives memory back in pages of 20 MiB: in models of 7B and 8B 1.1
to 1.4 GiB lay in pages that no request fitted into and that were not wholly free (docs/log.md). Memory of another
stream comes from pages of its own, so the weights are copied there, layer by layer, each into one piece.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

SMALL = 2**20  # bytes; torch's allocator keeps smaller tensors in pages of their own
SHARD = "holdfast_shard"  # under this name a module holds what is left of a divided weight (train/shards.py)
_ALIGNED = 512
_Place = tuple[Any, str]  # an object and the name under which it holds a tensor


def compact(model: Any) -> int:
    """Move the weights of the layers of a model together, adapters too; bytes that were moved.

    Nothing else may share memory with them. Before the optimiser is made, after weights were divided. Needs room for
    one layer. Embedding and head stay where they are: each is one large piece, and there may be no room for it twice.
    """
    device = next(model.parameters()).device
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    layers = [layer for found in model.modules() if isinstance(found, torch.nn.ModuleList) for layer in found]
    seen: set[int] = set()
    moved = 0
    for unit in layers:
        places = [place for owner in _owners(unit, seen) for place in _places(owner) if _tensor(place).device == device]
        moved += _move(places, stream) if places else 0
    if stream is not None:
        torch.cuda.empty_cache()
    return moved


def _owners(unit: Any, seen: set[int]) -> Iterator[Any]:
    """The parameters of a module, and the parts that are left of divided ones, each once."""
    shards = (getattr(module, SHARD, None) for module in unit.modules())
    for owner in [*unit.parameters(), *shards]:
        if owner is not None and id(owner) not in seen:
            seen.add(id(owner))
            yield owner


def _places(owner: Any) -> Iterator[_Place]:
    """Where the large tensors of a parameter or a part are held; scales as in bitsandbytes 0.50 functional.py."""
    state = getattr(owner, "quant_state", None)
    nested = getattr(state, "state2", None)
    held = "data" if isinstance(owner, Tensor) else "part"
    for holder, name in ((owner, held), (state, "absmax"), (nested, "absmax")):
        tensor = getattr(holder, name, None)
        if isinstance(tensor, Tensor) and _bytes(tensor) > SMALL and tensor.is_contiguous():
            yield holder, name


def _move(places: list[_Place], stream: Any) -> int:
    sizes = [-(-_bytes(_tensor(place)) // _ALIGNED) * _ALIGNED for place in places]
    device = _tensor(places[0]).device
    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream(device))
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        piece = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        start = 0
        for place, size in zip(places, sizes, strict=True):
            old = _tensor(place)
            new = piece[start : start + _bytes(old)].view(old.dtype).view(old.shape)
            new.copy_(old)
            start += size
            _replace(place, new)
            if stream is not None:
                old.record_stream(stream)  # its memory is free once it was copied
    if stream is not None:
        stream.synchronize()
    return sum(sizes)


def _tensor(place: _Place) -> Tensor:
    found: Tensor = getattr(*place)
    return found


def _replace(place: _Place, new: Tensor) -> None:
    holder, name = place
    twice = getattr(holder, "CB", None) if name == "data" else None  # 8-bit weights are held under two names
    setattr(holder, name, new)
    if isinstance(twice, Tensor):
        holder.CB = holder.data


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
