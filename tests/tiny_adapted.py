"""A tiny random model with LoRA on every matrix, on any base weights and device, and packed documents for it."""

from typing import Any

import torch
from torch import Tensor

from holdfast import models

models.go_offline()

LENGTHS = (17, 1, 40, 23)


def tiny_model(
    family: str = "qwen2",
    base: str = "plain",
    *,
    device: str = "cpu",
    seed: int = 0,
    special: dict[str, Any] | None = None,
    **lora: Any,
) -> Any:
    """A PEFT model with random adapters (B is not zero). base: plain, nf4 or int8; bf16 on CUDA, fp32 elsewhere.
    special: further keys of its config.json."""
    import bitsandbytes as bnb
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1,
    }  # fmt: skip
    config = AutoConfig.for_model(family, **(sizes | (special or {})))
    model: Any = AutoModelForCausalLM.from_config(config)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model = model.to(dtype)
    for parent in list(model.modules()) if base != "plain" else []:
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear) and name != "lm_head":
                setattr(parent, name, _quantized(bnb, child, base, dtype, device))
    model = model.to(device)
    if device == "cpu":
        models._keep_weights_as_they_are(model)
    if base != "plain":
        setattr(model, "is_loaded_in_4bit" if base == "nf4" else "is_loaded_in_8bit", True)
    settings = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear"} | lora
    model = get_peft_model(model, LoraConfig(init_lora_weights=False, **settings))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train()


def _quantized(bnb: Any, child: Any, base: str, dtype: torch.dtype, device: str) -> Any:
    bias = child.bias is not None
    if base == "nf4":
        new = bnb.nn.Linear4bit(
            child.in_features, child.out_features, bias=bias, compute_dtype=dtype, quant_type="nf4",
            compress_statistics=True,
        )  # fmt: skip
        new.weight = bnb.nn.Params4bit(
            child.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
        )  # fmt: skip
        if device == "cpu":
            new.weight._quantize("cpu")
    else:
        new = bnb.nn.Linear8bitLt(child.in_features, child.out_features, bias=bias, has_fp16_weights=False)
        new.weight = bnb.nn.Int8Params(child.weight.data, requires_grad=False, has_fp16_weights=False)
        if device == "cpu":
            new.weight._quantize("cpu")
    if bias:
        new.bias = torch.nn.Parameter(child.bias.data, requires_grad=False)
    return new


def packed(device: str = "cpu", seed: int = 1) -> dict[str, Tensor]:
    """Documents of LENGTHS tokens in one row; about a third of the labels is masked, and every first one."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 512, (1, sum(LENGTHS)), generator=generator)
    position = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    labels = ids.clone()
    labels[torch.rand(ids.shape, generator=generator) < 0.33] = -100
    labels[position == 0] = -100
    return {"input_ids": ids.to(device), "labels": labels.to(device), "position_ids": position.to(device)}


def loss_and_gradients(model: Any, batch: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """Mean loss over the labelled tokens through TRL's contract, and every adapter gradient."""
    model.zero_grad()
    outputs = model(**batch, fused_lm_head=True)
    loss = -outputs.log_probs.sum() / outputs.label_mask.sum()
    loss.backward()
    named = {
        name: p.grad.float().cpu() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None
    }
    return float(loss), named


def worst_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest relative difference, over the gradients, in Frobenius norm."""
    assert one.keys() == other.keys()
    assert one
    return max(float((one[n] - other[n]).norm() / one[n].norm().clamp(min=1e-12)) for n in one)


def float_twin(model: Any) -> Any:
    """The same model in plain float32 on the same device: the reference that errors are measured against."""
    from holdfast.train.weights import dequantize

    family, device = model.config.model_type, next(model.parameters()).device
    twin = tiny_model(family, "plain").float().to(device)
    theirs, ours = dict(twin.named_modules()), dict(model.named_modules())
    for name, module in ours.items():
        other = theirs[name]
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            linear = type(module).__name__ in ("Linear4bit", "Linear8bitLt") and key == "weight"
            value = dequantize(module, torch.float32) if linear else parameter.data.float()
            getattr(other, key).data = value.clone()
    return twin
