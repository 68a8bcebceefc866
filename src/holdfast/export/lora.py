"""What a PEFT LoRA adapter holds, and the weight that it makes of a base weight: plain LoRA, rsLoRA and DoRA.

Sources: Hu et al. 2021 (W + α/r · BA), Kalajdzievski 2023 (rsLoRA: α/√r),
Liu et al. 2024 (DoRA: magnitude times direction);
names of keys and tensors: PEFT 0.21, tuners/lora.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import ModelError
from holdfast.export.checkpoint import read_tensors

if TYPE_CHECKING:
    import torch
    from gguf.utility import LocalTensor

PREFIX = "base_model.model."
# Settings that change what the weights mean; none of them may be on.
UNKNOWN = (
    "fan_in_fan_out", "lora_bias", "layer_replication", "trainable_token_indices", "target_parameters", "use_qalora",
    "alora_invocation_tokens", "arrow_config", "use_bdlora",
)  # fmt: skip
_PART = re.compile(r"\.(?:lora_(embedding_)?(A|B)(?:\.weight)?|lora_magnitude_vector(?:\.weight)?)$")


class Module(NamedTuple):
    """The adapter of one base weight. a: [r, columns], b: [rows, r], swapped around for an embedding."""

    a: "LocalTensor"
    b: "LocalTensor"
    magnitude: "LocalTensor | None"
    embedding: bool
    scaling: float


class Adapter(NamedTuple):
    """`modules`: base weight → its adapter. `replaced`: base weight → the trained tensor that takes its place.
    `keeps_tied`: embedding and head were trained as one tensor (PEFT's ensure_weight_tying)."""

    folder: Path
    modules: dict[str, Module]
    replaced: "dict[str, LocalTensor]"
    alpha: float
    rank_stabilized: bool
    keeps_tied: bool

    @property
    def targets(self) -> set[str]:
        """Names of the base's weights that the adapter changes."""
        return {*self.modules, *self.replaced}

    def grows(self, rows: int) -> bool:
        """Whether the adapter brings its own embeddings, and other than `rows` of them: tokens were added."""
        embeddings = self.replaced.get("model.embed_tokens.weight")
        return embeddings is not None and int(embeddings.shape[0]) != rows


def read_adapter(folder: Path) -> Adapter:
    """Read adapter_config.json and the header of adapter_model.safetensors.

    Raises ModelError for pickled weights, another kind of adapter, and for settings that cannot be merged.
    """
    config = _read_config(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        pickled = sorted(p.name for p in folder.glob("*.bin"))
        why = f"only {pickled[0]}; pickled weights can run code and are never loaded" if pickled else "no weights"
        raise ModelError(f"{folder} has {why}", hint="give it as safetensors (adapter_model.safetensors)")
    parts: dict[str, dict[str, LocalTensor]] = {}
    replaced: dict[str, LocalTensor] = {}
    for name, tensor in read_tensors(folder).items():
        found = _PART.search(name)
        if is_old_copy(name):
            continue
        if found is None:
            if ".lora_" in name or "trainable_tokens" in name:
                raise ModelError(f"{folder}: tensor {name} cannot be merged: this kind of adapter is not known")
            replaced[name.removeprefix(PREFIX).replace(".modules_to_save.", ".")] = tensor
            continue
        weight = name[: found.start()].removeprefix(PREFIX) + ".weight"
        part = found[2] or "magnitude"
        parts.setdefault(weight, {})[("embedding " if found[1] else "") + part] = tensor
    modules = {weight: _module(folder, config, weight, part) for weight, part in parts.items()}
    tied = bool(config.get("ensure_weight_tying"))
    if tied and "model.embed_tokens.weight" in replaced:
        replaced.pop("lm_head.weight", None)  # the same tensor once more
    return Adapter(folder, modules, replaced, float(config["lora_alpha"]), bool(config.get("use_rslora")), tied)


def is_old_copy(name: str) -> bool:
    """Whether a tensor of an adapter's file is PEFT's copy of an embedding as it was before training."""
    return name.endswith((".base_layer.weight", ".original_module.weight"))


def merged_weight(adapter: Adapter, name: str, weight: "torch.Tensor") -> "torch.Tensor":
    """The weight `name` (float32) with its adapter in it, computed in float32; as it is when it has none.

    Raises ModelError when the shapes do not fit.
    """
    if name in adapter.replaced:
        return as_torch(adapter.replaced[name]).float().to(weight.device)
    module = adapter.modules.get(name)
    if module is None:
        return weight
    a, b = as_torch(module.a).float().to(weight.device), as_torch(module.b).float().to(weight.device)
    change = (b @ a).T if module.embedding else b @ a
    if change.shape != weight.shape:
        raise ModelError(
            f"{adapter.folder}: the adapter of {name} is for {list(change.shape)}, the base model has "
            f"{list(weight.shape)}",
            hint="the adapter was trained on another base model: set base_model to that one",
        )
    merged = weight + change.mul_(module.scaling)
    if module.magnitude is not None:
        length = merged.norm(dim=1)
        merged *= (as_torch(module.magnitude).float().to(weight.device) / length).view(-1, 1)
    return merged


def as_torch(source: "LocalTensor") -> "torch.Tensor":
    """One tensor of a safetensors file as torch sees it, mapped. Raises ModelError for quantised types."""
    import torch

    kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    if source.dtype not in kinds:
        raise ModelError(f"weights stored as {source.dtype} cannot be merged; known: {', '.join(kinds)}")
    raw = torch.from_numpy(source.mmap_bytes())
    return raw.view(kinds[source.dtype]).reshape(source.shape)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no adapter_config.json", hint="holdfast train -c FILE makes an adapter")
    config: dict[str, Any] = json.loads(path.read_bytes())
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{path}: adapter of type {config.get('peft_type')}; only LORA can be merged")
    odd = [name for name in UNKNOWN if config.get(name)]
    if odd or config.get("bias", "none") != "none":
        what = ", ".join(odd) or f"bias: {config['bias']}"
        raise ModelError(f"{path}: an adapter with {what} cannot be merged", hint="train without it")
    return config


def _module(folder: Path, config: Mapping[str, Any], weight: str, parts: "Mapping[str, LocalTensor]") -> Module:
    embedding = "embedding A" in parts or "embedding B" in parts
    mark = "embedding " if embedding else ""
    a, b = parts.get(mark + "A"), parts.get(mark + "B")
    if a is None or b is None:
        raise ModelError(f"{folder}: the adapter of {weight} is incomplete: A and B are needed", hint="train again")
    rank = int(a.shape[0])
    alpha = _pattern(config.get("alpha_pattern") or {}, weight.removesuffix(".weight"), config["lora_alpha"])
    wanted = _pattern(config.get("rank_pattern") or {}, weight.removesuffix(".weight"), config["r"])
    if rank != wanted:
        raise ModelError(f"{folder}: {weight} has rank {rank}, adapter_config.json says {wanted}", hint="train again")
    magnitude = parts.get("magnitude")
    if bool(config.get("use_dora")) != (magnitude is not None):
        raise ModelError(f"{folder}: {weight}: use_dora is {config.get('use_dora')}, but magnitudes say otherwise")
    scaling = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return Module(a, b, magnitude, embedding, float(scaling))


def _pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that is the end of the module's name, as a regular expression."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
