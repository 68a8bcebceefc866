"""Small steps as CUDA graphs: all layers forward, and all layers backward, in one launch each.

At a thousand tokens a step the card waits for Python: some 2,600 launches a step take longer than their kernels. The
token count is rounded up to a multiple of 256; the tokens added are a document of their own with zero input and zero
gradient, so that they change nothing. Graphs of all sizes share one memory pool.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from holdfast.train.attention import Segments
from holdfast.train.fused_layer import Batch, FusedLayer, layer_backward, layer_forward

STEP = 256
_CAPTURE = "thread_local"  # other threads (NCCL's watchdog, pinned batches) may call CUDA while this one captures
SHORTEST_DOCUMENT = 32  # on average: a pass with more documents than tokens / 32 does not go through a graph


@dataclass
class _Sized:
    """The graphs of one token count, and the tensors they read and write."""

    x: Tensor
    batch: Batch
    y: Tensor
    dy: Tensor
    dx: Tensor | None
    gradients: Tensor
    forward: torch.cuda.CUDAGraph
    backward: torch.cuda.CUDAGraph


@dataclass
class Graphs:
    """Graphs of a stack of layers, made when a size is first met. `limit`: tokens above which none is made."""

    layers: tuple[FusedLayer, ...]
    limit: int
    sized: dict[tuple[int, bool], _Sized] = field(default_factory=dict)
    pool: Any = None

    def fits(self, hidden: Tensor) -> bool:
        """Whether this pass goes through a graph: training, and small."""
        return torch.is_grad_enabled() and hidden.shape[0] * hidden.shape[1] <= self.limit

    def run(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(batch, length, hidden) through all layers."""
        parameters = [p for layer in self.layers for p in layer.parameters]
        with torch.autocast("cuda", enabled=False):
            rows = hidden.reshape(-1, hidden.shape[-1])
            if batch.segments.bounds.numel() > _most_documents(_rounded(rows.shape[0])):
                for layer in self.layers:
                    hidden = layer.run(hidden, batch)
                return hidden
            return _Stack.apply(rows, self, batch, *parameters).view(hidden.shape)

    def of(self, x: Tensor, batch: Batch, *, need_dx: bool) -> _Sized:
        """The graphs for so many tokens."""
        key = (_rounded(x.shape[0]), need_dx)
        if key not in self.sized:
            self.sized[key] = self._capture(key[0], x, batch, need_dx=need_dx)
        return self.sized[key]

    def _capture(self, tokens: int, x: Tensor, batch: Batch, *, need_dx: bool) -> _Sized:
        bounds = torch.full((_most_documents(tokens),), tokens, dtype=torch.int32, device=x.device)
        angles = (torch.zeros(tokens, batch.cos.shape[1], dtype=batch.cos.dtype, device=x.device) for _ in range(2))
        held = Batch(Segments(bounds, tokens), *angles)
        given, dy = x.new_zeros(tokens, x.shape[1]), x.new_zeros(tokens, x.shape[1])
        count = sum(p.numel() for layer in self.layers for p in layer.parameters)
        gradients = torch.zeros(count, dtype=torch.float32, device=x.device)
        _fill(given, held, x, batch)
        side = torch.cuda.Stream(x.device)
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):  # compiles kernels and makes handles, which a capture may not
            y, kept = layer_forward(self.layers[0], given, held)
            layer_backward(self.layers[0], kept, held, dy, need_dx=True)
            del y, kept
        torch.cuda.current_stream(x.device).wait_stream(side)
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(forward, pool=self.pool, capture_error_mode=_CAPTURE):
            out, kepts = given, []
            for layer in self.layers:
                out, kept = layer_forward(layer, out, held)
                kepts.append(kept)
        self.pool = forward.pool()
        dx: Tensor | None = None
        flowing = dy
        with torch.cuda.graph(backward, pool=self.pool, capture_error_mode=_CAPTURE):
            end = count
            for layer in reversed(self.layers):
                first = layer is self.layers[0]
                dx, found = layer_backward(layer, kepts.pop(), held, flowing, need_dx=need_dx or not first)
                flowing = dy if dx is None else dx
                start = end - sum(g.numel() for g in found)
                _write(gradients[start:end], found)
                end = start
                del found
        return _Sized(given, held, out, dy, dx, gradients, forward, backward)


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, graphs: Graphs, batch: Batch, *parameters: Tensor) -> Tensor:
        sized = graphs.of(x, batch, need_dx=ctx.needs_input_grad[0])
        _fill(sized.x, sized.batch, x, batch)
        sized.forward.replay()
        ctx.sized, ctx.tokens, ctx.shapes = sized, x.shape[0], [p.shape for p in parameters]
        return sized.y[: x.shape[0]].clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        sized: _Sized = ctx.sized
        sized.dy[: ctx.tokens].copy_(dy)
        sized.dy[ctx.tokens :].zero_()
        sized.backward.replay()
        whole = sized.gradients.clone()
        parts = whole.split([shape.numel() for shape in ctx.shapes])
        found = [part.view(shape) for part, shape in zip(parts, ctx.shapes, strict=True)]
        dx = None if sized.dx is None else sized.dx[: ctx.tokens].clone()
        return dx if ctx.needs_input_grad[0] else None, None, None, *found


def _fill(given: Tensor, held: Batch, x: Tensor, batch: Batch) -> None:
    """Copy one pass into the graph's own tensors; what lies behind its tokens becomes one more document of zeros."""
    tokens = x.shape[0]
    given[:tokens].copy_(x)
    given[tokens:].zero_()
    held.cos[:tokens].copy_(batch.cos)
    held.sin[:tokens].copy_(batch.sin)
    held.segments.bounds.fill_(given.shape[0])
    held.segments.bounds[: batch.segments.bounds.numel()].copy_(batch.segments.bounds)


def _write(target: Tensor, found: list[Tensor]) -> None:
    parts = target.split([g.numel() for g in found])
    torch._foreach_copy_([part.view(g.shape) for part, g in zip(parts, found, strict=True)], found)


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _most_documents(tokens: int) -> int:
    return tokens // SHORTEST_DOCUMENT + 2
