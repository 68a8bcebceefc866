"""The one door to Hugging Face: find, load, generate; chat is `conversation.py`. Always offline, always safetensors.

The heavy libraries are imported inside functions: they take seconds, and `holdfast --help` must not pay for them.
"""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from holdfast.conversation import EDIT_TEMPLATE as EDIT_TEMPLATE
from holdfast.conversation import Tokenizer as Tokenizer
from holdfast.conversation import encode_beginning as encode_beginning
from holdfast.conversation import encode_example as encode_example
from holdfast.conversation import encode_examples as encode_examples
from holdfast.conversation import encode_prompt as encode_prompt
from holdfast.conversation import end_token_ids as end_token_ids
from holdfast.conversation import render_prompt as render_prompt
from holdfast.core.base_model import BUNDLED as BUNDLED
from holdfast.core.base_model import MODEL_FILES as MODEL_FILES
from holdfast.core.base_model import digest_base_model as digest_base_model
from holdfast.core.base_model import find_base_model as find_base_model
from holdfast.core.chat_template import settled
from holdfast.core.errors import ModelError
from holdfast.core.labels import NOT_TRAINED as NOT_TRAINED
from holdfast.core.labels import TrainingTokens as TrainingTokens
from holdfast.core.weight_files import require_whole_weights

# A causal model of transformers; its own annotations do not cover quantised or adapted ones.
Model = Any
Quantized = Literal["nf4", "int8", "none"]


class Answer(NamedTuple):
    """What a model said. `stopped`: it ended by itself instead of running into `max_new_tokens`."""

    text: str
    tokens: int
    stopped: bool


def go_offline() -> None:
    """Forbid every Hub call and telemetry ping; must run before the libraries are imported.

    Idle OpenMP threads sleep instead of spinning: spinning makes two busy cores ten times slower.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # Packed steps differ by some tokens: without this the card's allocator keeps pieces that nothing else fits into.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    # bitsandbytes says on every load that it cannot fetch an optional CPU kernel; it must not fetch anything.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a fast tokenizer with a chat template (else ModelError) and a padding token that is not its end token."""
    go_offline()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError) as error:  # not JSON, or JSON that is no tokenizer
        raise ModelError(
            f"the tokenizer in {folder} cannot be read: {type(error).__name__}: {error}",
            hint="copy tokenizer.json and tokenizer_config.json again, or fetch the whole model again: holdfast fetch",
        ) from None
    if not tokenizer.chat_template:
        raise ModelError(
            f"the model in {folder} has no chat template, so a conversation cannot be rendered for it",
            hint="use an instruct model, or put its template into chat_template.jinja in that folder",
        )
    tokenizer.chat_template = settled(tokenizer.chat_template)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        # Padding with the end token would mask that token in the loss: the model would never learn to stop.
        spare = [t for t in tokenizer.all_special_tokens if t != tokenizer.eos_token and t != tokenizer.bos_token]
        tokenizer.pad_token = spare[0] if spare else tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def device_name() -> Literal["cuda", "cpu"]:
    """Where models run here."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(folder: Path, *, quantization: Quantized, adapter: Path | None = None, together: bool = True) -> Model:
    """Load a causal language model for evaluation or as the frozen base of training.

    bf16 on CUDA, fp32 on the CPU (bf16 matrix products are slow there); NF4 with double quantisation is the QLoRA
    setting (https://arxiv.org/abs/2305.14314, section 3). together: leave no holes between quantised weights on a card
    (compact.py); training does that itself, once its own parts are in. Raises ModelError for files that are not whole,
    or a config.json that asks for something unknown.
    """
    go_offline()
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils.logging import disable_progress_bar

    require_whole_weights(folder)
    disable_progress_bar()
    let_go()
    device = device_name()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    config = None
    if quantization == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    elif quantization == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    try:
        model: Model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": torch.cuda.current_device()} if device == "cuda" else "cpu",
            quantization_config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except KeyError as error:  # its tables of activations and rotary embeddings are dictionaries
        raise ModelError(
            f"{folder / 'config.json'} names what transformers does not know: {str(error)[:120]}",
            hint="fetch the model again, or use another base model",
        ) from None
    if device == "cpu":
        _keep_weights_as_they_are(model)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter, local_files_only=True)
    if together and device == "cuda" and quantization != "none":
        from holdfast.compact import compact

        compact(model)
    return model.eval()


def let_go() -> None:
    """Free models that nobody uses any more. They refer to themselves in circles, so that Python would keep the one of
    an earlier stage until it looks for such circles, and a small card has no room for two. With an 8-bit optimiser
    transformers' Trainer names the embedding to bitsandbytes, whose one manager holds it for ever (0.50.2)."""
    optimizers = sys.modules.get("bitsandbytes.optim")
    if optimizers is not None:
        optimizers.GlobalOptimManager.get_instance().module_weight_config_triple.clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _keep_weights_as_they_are(model: Model) -> None:
    """Stop bitsandbytes 0.50.2 (Linear4bit.forward) from repacking 4-bit weights: it breaks training (docs/log.md)."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if type(module).__name__ == "Linear8bitLt":
            module.register_forward_pre_hook(_keep_scales)


def _keep_scales(module: Any, arguments: Any) -> None:
    """DoRA in PEFT 0.21 (dequantize_module_weight) puts a copy of an 8-bit weight in its place on the CPU; that has
    no scales, and bitsandbytes would take those for its own."""
    if module.weight.SCB is None and module.state.SCB is not None:
        module.weight.CB = None


def generate(
    model: Model,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    on_batch: Callable[[int], None],
) -> list[Answer]:
    """Greedy answers to token-id prompts, in order. Long prompts go together, so that little is padded."""
    import torch

    ends = end_token_ids(tokenizer)
    answers: dict[int, Answer] = {}
    by_length = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for start in range(0, len(prompts), batch_size):
        indices = by_length[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [prompts[i] for i in indices]}, padding_side="left", return_tensors="pt")
        width = batch["input_ids"].shape[1]
        with torch.inference_mode():
            output = model.generate(
                input_ids=batch["input_ids"].to(model.device),
                attention_mask=batch["attention_mask"].to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None, top_p=None, top_k=None,
                eos_token_id=ends,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        for index, row in zip(indices, output[:, width:].tolist(), strict=True):
            length = next((n for n, token in enumerate(row) if token in ends), None)
            kept = row if length is None else row[:length]
            answers[index] = Answer(
                tokenizer.decode(kept, skip_special_tokens=True), len(kept) + (length is not None), length is not None
            )
        on_batch(len(indices))
    return [answers[index] for index in range(len(prompts))]
