"""The shape of a model, read from its `config.json` alone: which matrices it has and how large they are.

Knows the dense decoders llama, mistral, qwen2, qwen3 and gemma (1, 2 and 3 text). Parameter counts are exact.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from holdfast.core.errors import ModelError

# What each family does that its config.json may leave unsaid: defaults as in transformers 5.23.
_TIED = {
    "llama": False,
    "mistral": False,
    "qwen2": False,
    "qwen3": False,
    "gemma": True,
    "gemma2": True,
    "gemma3_text": True,
}
_HEAD_DIM = {"qwen3": 128, "gemma": 256, "gemma2": 256, "gemma3_text": 256}
_NORMS_PER_LAYER = {"gemma2": 4, "gemma3_text": 4}
_NORMED_HEADS = {"qwen3", "gemma3_text"}
# A multimodal Gemma 3 says in its text_config only what differs from these: transformers 5.23, Gemma3TextConfig.
_GEMMA3_TEXT = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208, "max_position_embeddings": 131072,
}  # fmt: skip


@dataclass(frozen=True)
class Linear:
    """One matrix product of a layer: `columns` inputs to `rows` outputs."""

    name: str
    rows: int
    columns: int
    bias: bool

    @property
    def size(self) -> int:
        """Weights, without the bias."""
        return self.rows * self.columns


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense decoder-only transformer; `family` is the model_type of its config."""

    family: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    context: int
    activation: str = "silu"
    plain_attention: bool = True
    """Causal attention and nothing else: no sliding window, no dropout, no capped scores."""
    text_part: bool = False
    """The model has other parts (for images), which are not counted."""

    @property
    def kv_width(self) -> int:
        """Width of the keys (and of the values) of one token in one layer."""
        return self.kv_heads * self.head_dim

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """The seven matrices of one layer, with the names PEFT knows."""
        query = self.heads * self.head_dim
        return (
            Linear("q_proj", query, self.hidden, self.qkv_bias),
            Linear("k_proj", self.kv_width, self.hidden, self.qkv_bias),
            Linear("v_proj", self.kv_width, self.hidden, self.qkv_bias),
            Linear("o_proj", self.hidden, query, self.output_bias),
            Linear("gate_proj", self.intermediate, self.hidden, self.mlp_bias),
            Linear("up_proj", self.intermediate, self.hidden, self.mlp_bias),
            Linear("down_proj", self.hidden, self.intermediate, self.mlp_bias),
        )

    @cached_property
    def linear_weights(self) -> int:
        """Weights of all layers' matrices: those that 4-bit and 8-bit loading quantise."""
        return self.layers * sum(linear.size for linear in self.linears)

    @property
    def embedding_weights(self) -> int:
        """Embedding and, when it is not tied to it, the head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def movable_embedding(self) -> int:
        """Weights of the input embedding where the card can do without it: it is not tied to the head."""
        return 0 if self.tied else self.vocabulary * self.hidden

    @cached_property
    def small_weights(self) -> int:
        """Norms and biases."""
        norms = _NORMS_PER_LAYER.get(self.family, 2) * self.hidden
        norms += 2 * self.head_dim if self.family in _NORMED_HEADS else 0
        biases = sum(linear.rows for linear in self.linears if linear.bias)
        return self.layers * (norms + biases) + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once."""
        return self.linear_weights + self.embedding_weights + self.small_weights

    @cached_property
    def largest_linear(self) -> int:
        """Weights of the largest matrix of a layer."""
        return max(linear.size for linear in self.linears)


def read_shape(folder: Path) -> ModelShape:
    """Read `config.json`. Raises ModelError when it is missing, broken, or of a family that is not known."""
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "give the folder of a model: holdfast plan --model DIR (config.json is enough)"
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}", hint="fetch the model again: holdfast fetch MODEL") from None
    if not isinstance(document, dict):
        raise ModelError(f"{path}: expected an object, found {type(document).__name__}", hint="fetch the model again")
    text = document.get("text_config")
    if isinstance(text, dict):
        known = _GEMMA3_TEXT if text.get("model_type") == "gemma3_text" else {}
        document = {**document, **known, **text}
    return shape_of(document, path)


def shape_of(config: dict[str, Any], path: Path) -> ModelShape:
    """The shape that a parsed `config.json` describes; `path` is for messages. Raises ModelError."""
    family = str(config.get("model_type"))
    if family not in _TIED:
        raise ModelError(
            f"{path}: model_type is {family!r}; the plan knows {', '.join(_TIED)}",
            hint="choose a base model of one of these families",
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise ModelError(
            f"{path}: the weights are already quantised ({method}); training and merging need those in 16 bits",
            hint="use the original model; train.adapter: qlora or int8 quantises it while it is loaded",
        )
    _check_values(config, path)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if heads % (config.get("num_key_value_heads") or heads):
        raise ModelError(
            f"{path}: {heads} attention heads cannot share {config['num_key_value_heads']} key/value heads",
            hint="fetch the model again",
        )
    head_dim = config.get("head_dim") or _HEAD_DIM.get(family)
    if head_dim is None and hidden % heads:
        raise ModelError(
            f"{path}: hidden_size {hidden} cannot be divided among {heads} attention heads, and there is no head_dim",
            hint="fetch the model again",
        )
    attention_bias = bool(config.get("attention_bias", False)) and family != "mistral"
    tied = config.get("tie_word_embeddings")
    return ModelShape(
        family=family,
        hidden=hidden,
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=head_dim or hidden // heads,
        vocabulary=config["vocab_size"],
        tied=_TIED[family] if tied is None else bool(tied),
        qkv_bias=family == "qwen2" or attention_bias,
        output_bias=family != "qwen2" and attention_bias,
        mlp_bias=family == "llama" and bool(config.get("mlp_bias", False)),
        context=config.get("max_position_embeddings") or 0,
        activation=str(config.get("hidden_act") or "silu"),
        plain_attention=_is_plain_attention(config, family),
        text_part=isinstance(config.get("text_config"), dict),
    )


def _check_values(config: dict[str, Any], path: Path) -> None:
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    wrong = [key for key in needed if not _is_count(config.get(key))]
    maybe = ("num_key_value_heads", "head_dim", "max_position_embeddings")
    wrong += [key for key in maybe if config.get(key) is not None and not _is_count(config[key])]
    if wrong:
        found = ", ".join(f"{key}: {config.get(key)!r}" for key in wrong)
        raise ModelError(f"{path}: expected whole numbers above 0, found {found}", hint="fetch the model again")
    for key in ("tie_word_embeddings", "attention_bias"):
        if not isinstance(config.get(key), bool | None):
            what = f"{path}: {key}: expected true or false, found {config[key]!r}"
            raise ModelError(what, hint="fetch the model again")


def _is_plain_attention(config: dict[str, Any], family: str) -> bool:
    """The same facts as `train/fast_path.py` reads, with the defaults of transformers 5.23."""
    special = _has_window(config, family) or config.get("attention_dropout") or config.get("attn_logit_softcapping")
    return not special and not family.startswith(("gemma2", "gemma3"))


def _has_window(config: dict[str, Any], family: str) -> bool:
    """Whether any layer looks back only so far; Mistral does (4096) where its file says nothing."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and kinds:
        return any(kind != "full_attention" for kind in kinds)
    if not family.startswith("qwen"):
        return bool(config.get("sliding_window", 4096 if family == "mistral" else None))
    first = config.get("max_window_layers", 28)  # the layers below have none
    window = config.get("use_sliding_window") and config.get("sliding_window", 4096)
    return bool(window) and (not _is_count(first) or first < config["num_hidden_layers"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
