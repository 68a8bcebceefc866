"""Bytes of a training step with fused layers: pure arithmetic on what `train/fused_layer.py` allocates, and when.

The peak of a step is the largest of four moments: the loss, a layer's MLP and its attention in the backward pass (the
last layer: then everything that is kept is there), and the forward pass of a layer when kept tensors go to the host.
Widths count values of one token; `docs/benchmarks.md` shows prediction and measurement side by side.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from holdfast.core.config import TrainConfig
from holdfast.plan.constants import constant
from holdfast.plan.shape import ModelShape

Level = Literal["layer", "attention", "mlp", "cheap", "none"]
LEVELS: tuple[Level, ...] = get_args(Level)  # from the least memory to the most
FUSED_FAMILIES = ("llama", "mistral", "qwen2")
WIDE = 2  # bytes of a bf16 value


@dataclass(frozen=True)
class Recompute:
    """A recompute policy: the first `layers - fast` layers at `level`, the last `fast` at `upper`."""

    level: Level
    upper: Level
    fast: int
    offload: bool = False
    mlp_tokens: int = 0
    keep_weights: bool = False
    graph_tokens: int = 0
    host_embedding: bool = False

    def as_json(self, layers: int) -> dict[str, object]:
        """The form that `train/recompute.py` reads."""
        runs = [[name, count] for name, count in ((self.level, layers - self.fast), (self.upper, self.fast)) if count]
        return {
            "levels": runs, "offload": self.offload, "mlp_tokens": self.mlp_tokens,
            "keep_weights": self.keep_weights, "graph_tokens": self.graph_tokens,
            "host_embedding": self.host_embedding,
        }  # fmt: skip


def is_fused(shape: ModelShape, train: TrainConfig) -> bool:
    """Whether training on a card fuses the layers of this model (`train/fast_path.py` decides by the same facts)."""
    kernels = train.kernels
    return (
        shape.family in FUSED_FAMILIES
        and shape.activation == "silu"
        and is_varlen(shape, train)
        and kernels.fused_layer
        and kernels.chunked_loss
        and train.plain_lora
    )


def is_varlen(shape: ModelShape, train: TrainConfig) -> bool:
    """Whether documents are kept apart without a mask (`train/attention.py`), also where layers are not fused."""
    return shape.plain_attention and train.kernels.use != "never" and train.kernels.attention


@dataclass(frozen=True)
class Widths:
    """Values a token of the tensors of one layer; ranks are zero beside 16-bit weights, which are not widened."""

    hidden: int
    query: int
    qkv: int
    mlp: int
    rank_qkv: int
    rank_gate_up: int
    rank_down: int
    heads: int
    expanded: int

    @classmethod
    def of(cls, shape: ModelShape, train: TrainConfig, *, quantized: bool) -> "Widths":
        """From the shape; `expanded` = keys and values repeated for the query heads in attention's backward pass."""
        query = shape.heads * shape.head_dim
        rank = train.lora_r if quantized else 0
        return cls(
            shape.hidden, query, query + 2 * shape.kv_width, shape.intermediate, 3 * rank, 2 * rank, rank, shape.heads,
            2 * query if shape.kv_heads != shape.heads else 0,
        )  # fmt: skip

    def tensors(self, level: Level, rank: int) -> tuple[float, ...]:
        """What a layer keeps for its backward pass (thin products included), tensor by tensor."""
        found = [float(self.hidden), rank, rank]
        if level != "layer":
            found += [self.query, self.hidden, self.heads * 4 / WIDE]
        if level in ("mlp", "cheap", "none"):
            found += [self.qkv, 3 * rank]
        if level in ("cheap", "none"):
            found += [2 * self.mlp, 2 * rank]
        if level == "none":
            found += [self.hidden + self.rank_qkv, self.hidden + self.rank_gate_up]
        return tuple(found)

    def kept(self, level: Level, rank: int) -> float:
        """All that a layer keeps."""
        return sum(self.tensors(level, rank))

    def made(self, level: Level) -> float:
        """What is computed again and lives through the layer's backward pass."""
        found = float(self.hidden + (0 if level == "none" else self.rank_gate_up))
        if level == "layer":
            found += self.qkv + self.query + self.heads * 4 / WIDE + self.hidden
        if level == "attention":
            found += self.qkv + self.hidden + self.rank_qkv
        return found

    def unpacked(self) -> tuple[int, int]:
        """(gate/up and down, all seven) of one layer in 16 bits, with the adapter beside them; bytes."""
        large = 2 * self.mlp * (self.hidden + self.rank_gate_up) + self.mlp * (self.hidden + self.rank_down)
        small = self.qkv * (self.hidden + self.rank_qkv) + self.query * self.hidden
        return WIDE * large, WIDE * (large + small)


def fused_activations(
    shape: ModelShape,
    train: TrainConfig,
    tokens: int,
    adapter: int,
    policy: Recompute,
    *,
    quantized: bool,
    accumulating: bool = False,
    documents: int | None = None,
    labelled: float | None = None,
) -> dict[str, int]:
    """Bytes by component beside weights, adapter, gradients and optimiser; their sum is the peak of the step.

    accumulating: several micro-batches a step, so that the gradients of the first ones are there all the time.
    documents: most of them in a batch; labelled: share of tokens with a label (None: see the table of constants).
    """
    width = Widths.of(shape, train, quantized=quantized)
    graphed = 0 < tokens <= policy.graph_tokens and not policy.offload
    tokens = -(-tokens // 256) * 256 if graphed else tokens
    documents = documents or round(tokens / constant("document_tokens"))
    labelled = constant("labelled_share") if labelled is None else labelled
    padded = tokens + int(constant("document_padding")) * documents
    rank = train.lora_r
    slow, fast = shape.layers - policy.fast, policy.fast
    lower, upper = (tokens * WIDE * width.kept(level, rank) for level in (policy.level, policy.upper))
    everything = slow * lower + fast * upper
    if policy.offload:
        everything = 2 * max(lower if slow else 0, upper if fast else 0)
    gradients = adapter * constant("adapter_bytes")
    summed = gradients if accumulating else 0.0
    moments = {"loss": everything + _loss(shape, tokens, labelled) + summed}
    if fast:
        moments["backward"] = everything + gradients + _backward(width, policy, policy.upper, tokens, padded, quantized)
    if slow:
        there = everything if policy.offload else slow * lower
        work = there + gradients + _backward(width, policy, policy.level, tokens, padded, quantized)
        moments["backward"] = max(moments.get("backward", 0), work)
    if policy.offload:
        moments["forward"] = 1.5 * everything + _forward(width, policy, tokens, quantized) + summed
    peak = max(moments.values())
    found = {"kept activations": int(everything), "working set": int(peak - everything)}
    found["copy of the adapter"] = 2 * adapter
    found["product workspaces"] = int(constant("product_workspaces"))
    if policy.keep_weights and quantized:
        found["unpacked weights"] = shape.layers * width.unpacked()[1]
    if graphed:  # a graph's pool keeps what it needs, also while the loss is taken outside of it
        found["graph pool"] = int(min(moments.values()) - everything)
        found["graph buffers"] = int(gradients + summed + 3 * tokens * shape.hidden * WIDE)
    return found


def _loss(shape: ModelShape, tokens: int, share: float) -> float:
    labelled = tokens * share
    logits = min(labelled, constant("loss_rows")) * shape.vocabulary
    return WIDE * (2 * tokens * shape.hidden + 2 * labelled * shape.hidden + logits)


def _part(policy: Recompute, level: Level, tokens: int) -> int:
    """Tokens that pass the MLP at once."""
    if not policy.mlp_tokens or level in ("cheap", "none"):
        return tokens
    return -(-tokens // -(-tokens // policy.mlp_tokens))


def _backward(width: Widths, policy: Recompute, level: Level, tokens: int, padded: int, quantized: bool) -> float:
    """padded: rows in which attention's backward pass sums: some more for each document."""
    made = width.made(level)
    unpacked = 0 if policy.keep_weights or not quantized else width.unpacked()[0]
    through = width.mlp + (0 if level in ("cheap", "none") else 2 * width.mlp)
    through += width.hidden + width.rank_down if quantized else 0
    mlp = WIDE * (tokens * (made + width.hidden) + _part(policy, level, tokens) * through) + unpacked
    attention = WIDE * tokens * (made + 2 * width.hidden + width.query + width.qkv + width.expanded)
    attention += 4 * width.query * padded + 4 * width.heads * tokens
    attention -= WIDE * tokens * 2 * width.mlp if level in ("cheap", "none") else 0
    return max(mlp, attention)


def _forward(width: Widths, policy: Recompute, tokens: int, quantized: bool) -> float:
    unpacked = 0 if policy.keep_weights or not quantized else width.unpacked()[0]
    whole = WIDE * tokens * (3 * width.hidden + width.rank_gate_up)  # the embeddings stay through the forward pass
    return whole + WIDE * _part(policy, policy.level, tokens) * 3 * width.mlp + unpacked
