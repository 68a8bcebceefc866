"""How test items are answered in torch: how many at once, and whether the merged model is among those that answer."""

from collections.abc import Mapping
from typing import NamedTuple

from holdfast.core.config import RunConfig
from holdfast.plan.constants import GIB
from holdfast.plan.evaluate_memory import evaluate_memory, merged_memory
from holdfast.plan.gguf_size import gguf_bytes
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import Place
from holdfast.plan.shape import ModelShape
from holdfast.plan.target import Limit, Target


class Evaluation(NamedTuple):
    """`evaluation` of plan.json. merged: whether `verify` runs the merged 16-bit model in torch beside GGUF files."""

    batch_size: int
    merged: bool

    def document(self) -> dict[str, int | bool]:
        """As JSON."""
        return {"batch_size": self.batch_size, "merged": self.merged}


def choose_evaluation(
    shape: ModelShape, config: RunConfig, lengths: Lengths, target: Target, limits: Mapping[Place, Limit]
) -> Evaluation:
    """The largest batch up to the configured one that fits, by halves; of full rows while none was counted.

    The merged model is for comparison only, so that a run goes on without it where it does not fit.
    """
    limit, on_gpu = limits[target.device], target.device == "gpu"
    batch = config.evaluate.batch_size
    if not limit.checked:
        return Evaluation(batch, merged=True)
    while batch > 1:
        needed = evaluate_memory(shape, answering(config, batch), lengths, on_gpu=on_gpu)
        if sum(needed.values()) <= limit.usable:
            break
        batch //= 2
    merged = merged_memory(shape, answering(config, batch), lengths, on_gpu=on_gpu)
    return Evaluation(batch, sum(merged.values()) <= limit.usable)


def answering(config: RunConfig, batch_size: int) -> RunConfig:
    """The configuration with so many items at once."""
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"batch_size": batch_size})})


def remarks_on(
    chosen: Evaluation, config: RunConfig, shape: ModelShape, target: Target, limits: Mapping[Place, Limit]
) -> list[str]:
    """What differs from what was asked for, and what will take long, for people. `config`: as it was written."""
    found = []
    if chosen.batch_size != config.evaluate.batch_size:
        found.append(f"evaluate.batch_size {config.evaluate.batch_size} -> {chosen.batch_size}: less memory")
    if not chosen.merged:
        size = shape.parameters * (2 if target.device == "gpu" else 4) / GIB
        found.append(
            f"verify leaves out the merged model in transformers, whose weights take {size:.1f} GiB: what merging and "
            "what conversion cost is measured as one step, to the F16 file"
        )
    file, ram = gguf_bytes(shape, "F16"), limits["ram"]
    if ram.checked and file > ram.available:
        found.append(
            f"verify runs the F16 file in llama.cpp too: {file / GIB:.1f} GiB, and {ram.available / GIB:.1f} of RAM "
            "are free, so that it is read from disk again for every token; with more RAM it takes minutes and not hours"
        )
    return found
