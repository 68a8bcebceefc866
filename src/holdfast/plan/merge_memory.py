"""Bytes by component for merging the adapter, choosing its base, and checking the result: stage `export`.

One layer of the model is in memory at a time, in float32, and all prompts go through it (export/streamed.py).
"""

from holdfast.core.config import RunConfig
from holdfast.plan.constants import constant
from holdfast.plan.evaluate_memory import adapted_layer
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import Components, Place, adapter_parameters, with_process
from holdfast.plan.shape import ModelShape

FLOAT = 4


def merge_memory(
    shape: ModelShape, config: RunConfig, lengths: Lengths, *, on_gpu: bool, card: int | None = None
) -> dict[Place, Components]:
    """What the device and what RAM must hold. One matrix is merged at a time, always in RAM.

    card: the bytes of it that may be used; a check that takes more is done on the CPU, so that RAM must hold it, too.
    """
    device = check_memory(shape, config, lengths)
    host = {
        "one layer or the head": largest_part(shape),
        "adapter": _adapter(shape, config),
        "workspace": 2 * FLOAT * shape.largest_linear,
        "logits": 3 * FLOAT * int(constant("checked_positions")) * shape.vocabulary + _compared(shape),
        "process": int(constant("process_train")),
    }
    if not on_gpu:
        return {"ram": device | host}
    found: dict[Place, Components] = {"gpu": with_process(dict(device), on_gpu=True)}
    too_large = card is not None and sum(found["gpu"].values()) > card
    return found | {"ram": device | host if too_large else host}


def check_memory(shape: ModelShape, config: RunConfig, lengths: Lengths) -> Components:
    """The validation rows (with an importance matrix some of the training rows) between two layers, and one in one."""
    rows = min(int(constant("checked_rows")), lengths.rows or int(constant("checked_rows")))
    most = int(constant("streamed_tokens"))
    tokens = max(lengths.longest, min(rows * lengths.longest, most))
    if config.export.imatrix:
        tokens = max(tokens, min(most, lengths.total or most))
    inside = adapted_layer(shape, config.train, FLOAT)(lengths.longest)
    watched = 16 * lengths.longest * shape.intermediate if config.export.imatrix else 0
    return {
        "one layer or the head": largest_part(shape),
        "adapter": _adapter(shape, config),
        "states": FLOAT * tokens * shape.hidden,
        "activations": inside + watched,
        "logits": _compared(shape),
    }


def largest_part(shape: ModelShape) -> int:
    """A layer, or the head, in float32."""
    return FLOAT * max(shape.linear_weights // shape.layers, shape.vocabulary * shape.hidden)


def _compared(shape: ModelShape) -> int:
    """A piece of logits in float32 and float64, and its log_softmax."""
    return 20 * int(constant("streamed_piece")) * shape.vocabulary


def _adapter(shape: ModelShape, config: RunConfig) -> int:
    return int(adapter_parameters(shape, config.train) * constant("adapter_bytes"))
