"""Random weights in the shape of a public model, and random documents for it: what GPU benchmarks train."""

from typing import Any

import torch

SHAPES: dict[str, dict[str, Any]] = {
    "Qwen2.5-7B": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
        "max_position_embeddings": 32768, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "Llama-3-8B": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 32768, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
    },
    "Llama-3.2-1B": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
        "tie_word_embeddings": True, "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
    },
    "Qwen2.5-32B": {
        "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
        "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064,
        "max_position_embeddings": 32768, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "smoke": {
        "model_type": "qwen2", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1024, "max_position_embeddings": 32768,
    },
}  # fmt: skip


def build_model(shape: str, base: str, attention: str = "sdpa") -> Any:
    """A frozen causal model on the card (or the CPU), its linear layers in NF4, int8 or 16 bits ("bf16")."""
    import bitsandbytes as bnb
    from transformers import AutoConfig, AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    settings = dict(SHAPES[shape])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    generator = torch.Generator(device=device).manual_seed(0)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(parent, name, _linear(bnb, child, base if name != "lm_head" else "bf16", dtype, generator))
        for name, parameter in list(parent._parameters.items()):
            if parameter is not None and parameter.is_meta:
                value = _random(parameter.shape, dtype, generator) if parameter.dim() > 1 else None
                value = torch.ones(parameter.shape, device=device, dtype=dtype) if value is None else value
                setattr(parent, name, torch.nn.Parameter(value, requires_grad=False))
    decoder = model.get_decoder()
    decoder.rotary_emb = type(decoder.rotary_emb)(config=config).to(device)
    model.tie_weights()
    if base in ("nf4", "int8"):
        setattr(model, "is_loaded_in_4bit" if base == "nf4" else "is_loaded_in_8bit", True)
    model.requires_grad_(False)
    return model


def _random(shape: Any, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, device=generator.device, dtype=dtype, generator=generator).mul_(0.02)


def _linear(bnb: Any, child: Any, base: str, dtype: torch.dtype, generator: torch.Generator) -> Any:
    device, bias = generator.device, child.bias is not None
    weight = _random(child.weight.shape, dtype, generator)
    if base == "bf16":
        new = torch.nn.Linear(child.in_features, child.out_features, bias=bias, device="meta")
        new.weight = torch.nn.Parameter(weight, requires_grad=False)
    elif base == "nf4":
        new = bnb.nn.Linear4bit(
            child.in_features, child.out_features, bias=bias, compute_dtype=dtype, quant_type="nf4",
            compress_statistics=True, device="meta",
        )  # fmt: skip
        new.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
        new.weight = new.weight._quantize(device)
    else:
        new = bnb.nn.Linear8bitLt(
            child.in_features, child.out_features, bias=bias, has_fp16_weights=False, device="meta"
        )
        new.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        new.weight = new.weight._quantize(device)
    if bias:
        value = torch.randn(child.out_features, device=device, generator=generator, dtype=dtype).mul_(0.02)
        new.bias = torch.nn.Parameter(value, requires_grad=False)
    return new


def documents(tokens: int, vocabulary: int, longest: int = 1024) -> list[dict[str, list[int]]]:
    """Random documents with `tokens` tokens in all: log-normal lengths around 350 (48 to `longest`), two thirds of
    the tokens labelled (the last ones of each)."""
    generator = torch.Generator().manual_seed(0)
    rows: list[dict[str, list[int]]] = []
    while tokens > 0:
        length = int(torch.exp(torch.randn((), generator=generator) * 0.55 + 5.72).clamp(48, min(1024, longest)))
        ids = torch.randint(10, vocabulary, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3 :]})
        tokens -= length
    return rows


class WordTokenizer:
    """Built lazily: a fast tokenizer is all that the trainers need of one (rows are token ids already)."""

    @staticmethod
    def build() -> Any:
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast

        words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2, "a": 3}, unk_token="<unk>"))
        return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
