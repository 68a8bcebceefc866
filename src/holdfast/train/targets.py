"""Which linear layers get an adapter, checked against the model's own weight names before anything is loaded."""

from pathlib import Path

from holdfast.core.config import TrainConfig
from holdfast.core.errors import ConfigError
from holdfast.core.weight_files import read_header


def linear_names(model_folder: Path) -> list[str]:
    """Last names of the matrices inside the layers, for example q_proj, from the safetensors headers alone."""
    names: set[str] = set()
    for file in sorted(model_folder.glob("*.safetensors")):
        for name, tensor in read_header(file).items():
            if ".layers." in name and name.endswith(".weight") and len(tensor["shape"]) == 2:
                names.add(name.split(".")[-2])
    return sorted(names)


def check_target_modules(model_folder: Path, train: TrainConfig) -> None:
    """Raises ConfigError when lora_target_modules names a layer that the model does not have."""
    known = linear_names(model_folder)
    wrong = [name for name in train.lora_target_modules if name.split(".")[-1] not in known]
    if wrong:
        raise ConfigError(
            f"train.lora_target_modules: this model has no {', '.join(wrong)}; it has {', '.join(known)}",
            hint="correct the names, or use lora_target_linear: true",
        )
    if not train.lora_target_linear and not train.lora_target_modules:
        raise ConfigError("train: nothing to adapt: lora_target_linear is false and lora_target_modules is empty")
