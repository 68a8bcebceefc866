"""Where the weights of a model come from, one tensor at a time: its files, NF4 and back, either with the adapter in it.

A source maps the name of a base weight to a float32 tensor. Nothing is kept, so memory holds what the caller holds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from holdfast.core.errors import ModelError
from holdfast.export.checkpoint import read_tensors
from holdfast.export.lora import Adapter, as_torch, merged_weight

if TYPE_CHECKING:
    import torch

BaseKind = Literal["original", "nf4"]


class Source(NamedTuple):
    """`names`: every weight there is. `read`: name → float32 tensor. `shape`: name → its shape, without reading it."""

    names: tuple[str, ...]
    read: "Callable[[str], torch.Tensor]"
    shape: Callable[[str], tuple[int, ...]]


def stored_weights(folder: Path) -> Source:
    """The weights of a model folder as they are."""
    tensors = read_tensors(folder)
    return Source(tuple(tensors), lambda name: as_torch(tensors[name]).float(), lambda name: tensors[name].shape)


def base_weights(folder: Path, kind: BaseKind) -> Source:
    """The base model that an adapter is merged into: its own weights, or what a 4-bit base model computes with.

    `nf4`: linear layers go to NF4 with double quantisation and back (blocks of 64, as QLoRA trains on; Dettmers et al.
    2023, section 3); embeddings, head and vectors stay as they are.
    """
    stored = stored_weights(folder)
    if kind == "original":
        return stored

    def read(name: str) -> "torch.Tensor":
        weight = stored.read(name)
        return nf4_round_trip(weight) if is_linear(name) else weight

    return stored._replace(read=read)


def merged_weights(base: Source, adapter: Adapter, dtype: str) -> Source:
    """base + adapter, rounded to the 16-bit type `dtype`: exactly what a merged file holds.

    Raises ModelError when the adapter is for weights that the base does not have.
    """
    import torch

    kind = getattr(torch, dtype)
    foreign = sorted(adapter.targets - set(base.names))
    if foreign:
        raise ModelError(
            f"the adapter in {adapter.folder} changes {len(foreign)} weights that the base model does not have, for "
            f"example {foreign[0]}",
            hint="the adapter was trained on another base model: set base_model to that one",
        )

    def shape(name: str) -> tuple[int, ...]:
        return tuple(adapter.replaced[name].shape) if name in adapter.replaced else base.shape(name)

    return Source(base.names, lambda name: merged_weight(adapter, name, base.read(name)).to(kind).float(), shape)


def is_linear(name: str) -> bool:
    """Whether bitsandbytes holds this weight in 4 bits: a linear layer, but not the head."""
    return name.endswith("_proj.weight")


def nf4_round_trip(weight: "torch.Tensor") -> "torch.Tensor":
    """A float32 matrix after NF4 with double quantisation, as float32."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=64, compress_statistics=True, quant_type="nf4")
    return dequantize_4bit(packed, state).reshape(weight.shape).float()
