"""What a Hugging Face model folder holds: its config.json and its safetensors weights, by header only.

Known architectures are those whose conversion to GGUF is compared with llama.cpp's own (tests/reference_gguf.py).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from holdfast.core.errors import ModelError

if TYPE_CHECKING:
    from gguf.utility import LocalTensor


class Architecture(NamedTuple):
    """`name`: llama.cpp's. `permuted`: rows of q and k go from half rotation (Hugging Face) to interleaved (ggml)."""

    name: str
    permuted: bool


ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("llama", permuted=True),
    "MistralForCausalLM": Architecture("llama", permuted=True),
    "Qwen2ForCausalLM": Architecture("qwen2", permuted=False),
    "Qwen3ForCausalLM": Architecture("qwen3", permuted=False),
}


class Checkpoint(BaseModel):
    """The fields of config.json that the conversion needs; transformers 4 and 5 spell the rotary ones differently."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    architectures: list[str] = Field(min_length=1)
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    max_position_embeddings: int
    rms_norm_eps: float
    head_dim: int | None = None
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_theta: float = 10000.0
    quantization_config: dict[str, Any] | None = None

    @property
    def rope(self) -> dict[str, Any]:
        """Rotary parameters in the form of transformers 5: rope_theta, rope_type and what the type needs."""
        merged = {"rope_theta": self.rope_theta, **(self.rope_scaling or {}), **(self.rope_parameters or {})}
        merged["rope_type"] = str(merged.get("rope_type") or merged.get("type") or "default").lower()
        return merged

    @property
    def rotated(self) -> int:
        """Size of an attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read config.json. Raises ModelError for an architecture, rotation or activation that is not handled."""
    path = folder / "config.json"
    try:
        config = Checkpoint.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{folder} is no model folder: it has no config.json") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelError(
            f"{path} is not usable: {problems}", hint="use a dense Llama, Mistral, Qwen2 or Qwen3"
        ) from None
    if config.architectures[0] not in ARCHITECTURES:
        raise ModelError(
            f"{path}: architecture {config.architectures[0]} cannot be converted to GGUF "
            f"(known: {', '.join(ARCHITECTURES)})",
            hint="use a base model of one of these architectures",
        )
    if config.rope["rope_type"] not in ("default", "linear", "llama3"):
        raise ModelError(
            f"{path}: rotary type {config.rope['rope_type']!r} cannot be converted (known: default, linear, llama3)",
            hint="use a base model without it, or the variant of this model for shorter contexts",
        )
    if config.rope["rope_type"] == "llama3" and not ARCHITECTURES[config.architectures[0]].permuted:
        raise ModelError(f"{path}: rotary type 'llama3' in {config.architectures[0]}; llama.cpp has it for Llama only")
    needed = {"linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
    missing = [key for key in needed.get(config.rope["rope_type"], ()) if key not in config.rope]
    if missing:
        raise ModelError(f"{path}: rotary type {config.rope['rope_type']!r} without {', '.join(missing)}")
    if config.hidden_act != "silu":
        raise ModelError(f"{path}: activation {config.hidden_act!r}; llama.cpp runs these architectures with silu only")
    if config.quantization_config:
        method = config.quantization_config.get("quant_method", "unknown")
        raise ModelError(f"{path}: the weights are quantised ({method})", hint="use the original 16-bit checkpoint")
    return config


def read_tensors(folder: Path) -> dict[str, "LocalTensor"]:
    """Every tensor of a folder's safetensors files, by name; nothing but the headers is read.

    Raises ModelError when there are none, when the index names a tensor or file that is missing, or for damage.
    """
    from gguf.utility import SafetensorsLocal

    index = folder / "model.safetensors.index.json"
    wanted = json.loads(index.read_bytes())["weight_map"] if index.is_file() else None
    files = sorted({folder / f for f in wanted.values()} if wanted else folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{folder} has no safetensors weights (pickled .bin files are never loaded)",
            hint="fetch the model in safetensors format",
        )
    tensors: dict[str, LocalTensor] = {}
    for file in files:
        try:
            tensors |= SafetensorsLocal(file).tensors
        except (OSError, ValueError) as error:
            raise ModelError(f"{file} cannot be read: {error}", hint="copy the file again") from None
        ends = [t.data_range.offset + t.data_range.size for t in tensors.values() if t.data_range.filename == file]
        if ends and max(ends) > file.stat().st_size:
            raise ModelError(
                f"{file} is cut off: {file.stat().st_size} bytes, its header promises {max(ends)}",
                hint="copy the file again",
            )
    missing = sorted(set(wanted or ()) - set(tensors))
    if missing:
        raise ModelError(f"{folder}: {len(missing)} tensors of the index are in no file, for example {missing[0]}")
    return tensors
