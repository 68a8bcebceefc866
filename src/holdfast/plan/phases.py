"""What every phase of a run needs. Training, evaluating and merging have modules of their own; the rest is here.

Pure arithmetic on a ModelShape and a RunConfig. Every number that is not arithmetic comes from constants.py.
"""

from typing import Literal

from holdfast.core.config import RunConfig
from holdfast.plan.constants import constant
from holdfast.plan.evaluate_memory import evaluate_memory
from holdfast.plan.fused_memory import Recompute, is_fused
from holdfast.plan.gguf_size import gguf_bytes
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import (
    Components,
    Demand,
    adapter_copies,
    adapter_parameters,
    batch_tokens,
    kv_bytes,
    offloaded,
    optimizer_bytes,
    train_memory,
    weight_bytes,
)
from holdfast.plan.merge_memory import merge_memory
from holdfast.plan.shape import ModelShape


def demands(
    shape: ModelShape,
    config: RunConfig,
    lengths: Lengths,
    rows: int,
    device: Literal["gpu", "ram"],
    policy: Recompute | None = None,
    card: int | None = None,
) -> list[Demand]:
    """All demands of a run whose training takes `rows` rows at a time, in the order of the story.

    policy: what fused layers recompute (a card only); None = what needs the least memory.
    card: the bytes of the card that may be used; what export cannot check there is planned in RAM.
    """
    training = training_demands(shape, config, lengths, rows, device, policy)
    merging = merge_memory(shape, config, lengths, on_gpu=device == "gpu", card=card)
    return [
        *(demand for demand in training if demand.place == device),
        Demand("evaluate", device, evaluate_memory(shape, config, lengths, on_gpu=device == "gpu")),
        *(demand for demand in training if demand.place != device),
        *(Demand("merge", place, parts) for place, parts in merging.items()),
        Demand("convert", "ram", convert_memory(shape)),
        Demand("quantize", "ram", quantize_memory(shape)),
        Demand("serve", "ram", serve_memory(shape, config)),
        *disk_demands(shape, config),
    ]


def training_demands(
    shape: ModelShape,
    config: RunConfig,
    lengths: Lengths,
    rows: int,
    device: Literal["gpu", "ram"],
    policy: Recompute | None = None,
) -> list[Demand]:
    """What training needs: on its device, and beside a card in host memory. All processes of a machine share RAM.

    `load` is there when training needs less than all weights, which loading brings there first.
    """
    many, on_gpu = config.train.nproc, device == "gpu"
    trained = train_memory(shape, config, lengths, rows, on_gpu=on_gpu, policy=policy)
    found = []
    if trained["weights"] < (whole := weight_bytes(shape, config.train.adapter, 2 if on_gpu else 4)):
        process = "cuda context" if on_gpu else "process"
        found.append(Demand("load", device, {"weights": whole, process: trained[process]}))
    if device == "ram":
        return [
            Demand(demand.phase, "ram", {name: size * many for name, size in demand.components.items()})
            for demand in (*found, Demand("train", "ram", trained))
        ]
    host = {"process": int(constant("process_cuda")), "loading one matrix": 4 * _largest_matrix(shape)}
    host |= adapter_copies(adapter_parameters(shape, config.train), config.train, on_gpu=True)
    if is_fused(shape, config.train):
        host |= offloaded(shape, config, batch_tokens(config, lengths, rows)[0], policy)
    return [
        *found,
        Demand("train", "gpu", trained),
        Demand("train", "ram", {name: size * many for name, size in host.items()}),
    ]


def convert_memory(shape: ModelShape) -> Components:
    """Safetensors to GGUF F16: one matrix at a time, 16 bits in and out; Llama 3's rotary factors need torch."""
    return {"one matrix": 4 * _largest_matrix(shape), "process": int(constant("process_train"))}


def quantize_memory(shape: ModelShape) -> Components:
    """One matrix at a time, 16 bits in, at most 8.5 bits out; the source is mapped and can be dropped."""
    return {"one matrix": 4 * _largest_matrix(shape), "process": int(constant("process_light"))}


def serve_memory(shape: ModelShape, config: RunConfig) -> Components:
    """llama.cpp in host memory: the file, `serve.parallel` contexts of `verify.n_ctx` tokens, one batch."""
    tokens, batch = config.serve.parallel * config.verify.n_ctx, int(constant("serve_batch"))
    return {
        "weights": gguf_bytes(shape, "F16" if config.verify.deploy == "auto" else config.verify.deploy),
        "kv cache": kv_bytes(shape, tokens, 2),
        "logits": batch * shape.vocabulary * 4,
        "activations": batch * 4 * (4 * shape.hidden + 3 * shape.intermediate),
        "process": int(constant("process_light")),
    }


def disk_demands(shape: ModelShape, config: RunConfig) -> list[Demand]:
    """Free disk that each phase needs at its end, all that came before it included."""
    adapter = adapter_parameters(shape, config.train)
    files, saved = int(constant("tokenizer_files")), int(adapter * constant("adapter_bytes"))
    one = saved + optimizer_bytes(adapter, config.train, on_gpu=True) + files
    # A new checkpoint is written before the oldest is removed, and the best one may be kept beside the newest.
    parts = {"adapter": saved + files, "checkpoints": one * (max(2, config.train.save_total_limit) + 1)}
    found = [Demand("train", "disk", dict(parts))]
    parts["merged"] = 2 * shape.parameters + files
    found.append(Demand("merge", "disk", dict(parts)))
    parts["F16.gguf"] = gguf_bytes(shape, "F16")
    found.append(Demand("convert", "disk", dict(parts)))
    parts |= {f"{name}.gguf": gguf_bytes(shape, name) for name in config.export.quantizations if name != "F16"}
    found.append(Demand("quantize", "disk", dict(parts)))
    return found


def _largest_matrix(shape: ModelShape) -> int:
    return max(shape.largest_linear, shape.vocabulary * shape.hidden)
