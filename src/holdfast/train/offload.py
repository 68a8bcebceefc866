"""Kept activations in pinned host memory, copied on a side stream while the card computes.

The forward pass sends a layer's tensors out, the backward pass brings them back one layer early. Tensors that are
being copied stay referenced until the compute stream has waited for their copy, so that the allocator never reuses
their memory too soon and the peak is the same in every step.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

_AHEAD = 2  # layers whose copies may be under way at once


@dataclass
class HostStore:
    """Activations of one model on the host; buffers are kept from step to step and grow when they must."""

    device: torch.device
    stream: torch.cuda.Stream
    buffers: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    going: list[tuple[torch.cuda.Event, list[Tensor]]] = field(default_factory=list)
    coming: dict[int, tuple[torch.cuda.Event, dict[str, Tensor]]] = field(default_factory=dict)
    shapes: dict[int, dict[str, tuple[int, ...]]] = field(default_factory=dict)

    def send(self, layer: int, tensors: dict[str, Tensor]) -> None:
        """Start copying a layer's tensors out; the caller may drop them."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        self.shapes[layer] = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        with torch.cuda.stream(self.stream):
            for name, tensor in tensors.items():
                self._buffer(layer, name, tensor).copy_(tensor.reshape(-1), non_blocking=True)
            done = torch.cuda.Event()
            done.record(self.stream)
        self.going.append((done, list(tensors.values())))
        if len(self.going) > _AHEAD:
            self._wait_for_oldest()

    def fetch(self, layer: int) -> dict[str, Tensor]:
        """A layer's tensors on the card again; the layer below is asked for on the way."""
        while self.going:
            self._wait_for_oldest()
        if layer not in self.coming:
            self._request(layer)
        if layer - 1 in self.shapes and layer - 1 not in self.coming:
            self._request(layer - 1)
        done, tensors = self.coming.pop(layer)
        del self.shapes[layer]
        torch.cuda.current_stream(self.device).wait_event(done)
        return tensors

    def forget(self) -> None:
        """Drop what an aborted step left behind (out of memory in the middle of a pass)."""
        torch.cuda.synchronize(self.device)
        self.going.clear()
        self.coming.clear()
        self.shapes.clear()

    def _request(self, layer: int) -> None:
        tensors = {}
        for name, shape in self.shapes[layer].items():
            buffer = self.buffers[layer, name]
            tensors[name] = torch.empty(shape, dtype=buffer.dtype, device=self.device)
        self.stream.wait_stream(torch.cuda.current_stream(self.device))  # the new tensors' memory may still be in use
        with torch.cuda.stream(self.stream):
            for name, tensor in tensors.items():
                flat = self.buffers[layer, name][: tensor.numel()]
                tensor.view(-1).copy_(flat, non_blocking=True)
            done = torch.cuda.Event()
            done.record(self.stream)
        self.coming[layer] = (done, tensors)

    def _buffer(self, layer: int, name: str, tensor: Tensor) -> Tensor:
        held = self.buffers.get((layer, name))
        if held is None or held.numel() < tensor.numel() or held.dtype != tensor.dtype:
            # torch pins powers of two; so steps that differ by some tokens find room
            size = 1 << (tensor.numel() - 1).bit_length()
            self.buffers[layer, name] = held = torch.empty(size, dtype=tensor.dtype, pin_memory=True)
        return held[: tensor.numel()]

    def _wait_for_oldest(self) -> None:
        done, _ = self.going.pop(0)
        torch.cuda.current_stream(self.device).wait_event(done)


def host_store(device: torch.device) -> HostStore:
    """An empty store for a card."""
    return HostStore(device, torch.cuda.Stream(device))
