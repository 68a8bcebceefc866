"""The one door to Hugging Face: find, load, render chat, generate. Always offline, always safetensors.

The heavy libraries are imported inside functions: they take seconds, and `holdfast --help` must not pay for them.
"""

import itertools
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from holdfast.core.base_model import BUNDLED as BUNDLED
from holdfast.core.base_model import MODEL_FILES as MODEL_FILES
from holdfast.core.base_model import digest_base_model as digest_base_model
from holdfast.core.base_model import find_base_model as find_base_model
from holdfast.core.chat_template import settled
from holdfast.core.errors import ModelError
from holdfast.core.labels import NOT_TRAINED as NOT_TRAINED
from holdfast.core.labels import TrainingTokens as TrainingTokens
from holdfast.core.labels import label_tokens, lies_across
from holdfast.core.records import Message
from holdfast.core.weight_files import require_whole_weights

# A fast tokenizer and a causal model of transformers; its own annotations do not cover quantised or adapted models.
Tokenizer = Any
Model = Any
Quantized = Literal["nf4", "int8", "none"]


MARK = "\u27e6answer\u27e7"
EDIT_TEMPLATE = "change chat_template.jinja in a copy of the model's folder so that it"


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


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """The text that asks for the next answer: chat template plus generation prompt."""
    return _render(tokenizer, messages, ask=True)


def _render(tokenizer: Tokenizer, messages: Sequence[Message], *, ask: bool) -> str:
    from jinja2 import TemplateError

    plain = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=ask))
    except TemplateError as error:  # Gemma's, for example, refuses a system prompt
        roles = ", ".join(m.role for m in messages)
        if any(m.role == "system" for m in messages):
            hint = (
                "without collect.system_prompt and system rows where it knows no system role; else another base model"
            )
        else:
            hint = f"{EDIT_TEMPLATE} takes question and answer without a system turn; else another base model"
        raise ModelError(
            f"the base model's chat template refuses a conversation of {roles}: {error}", hint=hint
        ) from None


def _bos_to_add(tokenizer: Tokenizer, text: str) -> list[int]:
    """The beginning token, when the tokenizer adds one by itself and the template has not written it: never two."""
    bos = tokenizer.bos_token_id
    if bos is None or (tokenizer.bos_token and text.startswith(tokenizer.bos_token)):
        return []
    return [bos] if tokenizer("")["input_ids"][:1] == [bos] else []


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Token ids of `render_prompt`, with exactly one beginning token where the model has one."""
    text = render_prompt(tokenizer, messages)
    return _bos_to_add(tokenizer, text) + list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_example(tokenizer: Tokenizer, messages: Sequence[Message]) -> TrainingTokens:
    """Tokens and labels of a conversation: every assistant answer and the token that ends it are trained.

    Raises ModelError when the chat template rewrites earlier turns or hides the answer.
    """
    return encode_examples(tokenizer, [messages])[0]


def encode_examples(tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]]) -> list[TrainingTokens]:
    """`encode_example` for several conversations at once, which is faster."""
    texts, spans = zip(*(_trained_text(tokenizer, messages) for messages in conversations), strict=True)
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for text, own, ids, places in zip(texts, spans, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if lies_across(places, [begin for begin, _ in own]):
            ids, places = _encode_apart(tokenizer, text, [begin for begin, _ in own], ids, places)
        bos = _bos_to_add(tokenizer, text)
        found.append(TrainingTokens(bos + list(ids), [NOT_TRAINED] * len(bos) + label_tokens(ids, places, own)))
    return found


def _encode_apart(
    tokenizer: Tokenizer, text: str, borders: Sequence[int], ids: list[int], places: list[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens and their places with borders that no token lies across, as where a prompt ends and an answer begins; as
    given where the pieces alone are another text (SentencePiece puts a space before each)."""
    cut = [0, *borders, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(cut)]
    encoded = tokenizer(pieces, add_special_tokens=False, return_offsets_mapping=True)
    apart = [token for piece in encoded["input_ids"] for token in piece]
    if tokenizer.decode(apart) != tokenizer.decode(ids):
        return ids, places
    shifted = zip(cut, encoded["offset_mapping"], strict=False)
    return apart, [(start + shift, end + shift) for shift, found in shifted for start, end in found]


def _trained_text(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
    """The rendered conversation, and where in it the answers with their end tokens are."""
    text = _render(tokenizer, messages, ask=False)
    turns = [at for at, message in enumerate(messages) if message.role == "assistant"]
    prompts = [_render(tokenizer, messages[:at], ask=True) for at in turns]
    if turns == [len(messages) - 1] and not text.startswith(prompts[0]):
        text = _behind_its_prompt(tokenizer, messages, prompts[0], text)
    spans = [
        _answer_span(tokenizer, messages[at].content, prompt, text) for at, prompt in zip(turns, prompts, strict=True)
    ]
    places = [(begin, last) for begin, last, _ in spans]
    if spans and spans[-1][2]:  # the template ends a turn without a token of its own: the end token is appended
        text = text.rstrip() + str(tokenizer.eos_token)
        places[-1] = (places[-1][0], len(text))
    return text, places


def _behind_its_prompt(tokenizer: Tokenizer, messages: Sequence[Message], prompt: str, text: str) -> str:
    """The rendered conversation, its only answer behind the prompt that asks for it; as given where they do not fit.

    Some templates put the system prompt into a user turn as long as that is the last one (Mistral 7B v0.3): with the
    answer there, it is gone from the text. What is served has it, so what is trained must have it.
    """
    content = messages[-1].content
    marked = _render(tokenizer, [*messages[:-1], Message(role="assistant", content=MARK)], ask=False)
    before, found, end = marked.rpartition(MARK)
    shown = next((form for form in (content, content.strip()) if text.endswith(form + end)), None)
    asked = messages[-2].content.strip() if len(messages) > 1 else ""
    between = [side.rpartition(asked)[2].rstrip() if asked else side for side in (prompt, before)]
    if not found or shown is None or between[0] != between[1]:  # between question and answer nothing may differ
        return text
    space = before[len(before.rstrip()) :]
    return prompt.removesuffix(space) + space + shown + end


def _answer_span(tokenizer: Tokenizer, content: str, prompt: str, text: str) -> tuple[int, int, bool]:
    """Character span of one answer with its end token in `text`, and whether that end token is missing."""
    if not text.startswith(prompt):
        raise ModelError(
            f"the chat template renders what stands before the answer {content[:40]!r} differently once it is there; "
            "what is trained would not be what is served",
            hint="use a template that keeps earlier turns as they are, or rows with one answer each",
        )
    # The prompt ends here; white space that the template puts before the answer is the model's to write (Mistral's).
    begin = text.find(content if content in text[len(prompt) :] else content.strip(), len(prompt))
    if begin < 0 or text[len(prompt) : begin].strip():
        shown = text[len(prompt) :][:40]
        raise ModelError(
            f"the chat template does not show the answer {content[:40]!r} right after its prompt, but {shown!r}",
            hint=f"{EDIT_TEMPLATE} writes nothing between the prompt and the answer (such as a block for "
            "thoughts), or use a base model that does not",
        )
    after = begin + len(content if text.startswith(content, begin) else content.strip())
    rest = text[after:]
    for token in sorted(tokenizer.all_special_tokens + list(tokenizer.added_tokens_encoder), key=len, reverse=True):
        if rest.lstrip().startswith(token):
            return len(prompt), after + len(rest) - len(rest.lstrip()) + len(token), False
    return len(prompt), after, True


def end_token_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the tokens that end an answer: the tokenizer's end token and the one its template writes."""
    probe = [Message(role="user", content="a"), Message(role="assistant", content="b")]
    trained = [label for label in encode_example(tokenizer, probe).labels if label != NOT_TRAINED]
    return sorted({trained[-1], *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])})


def device_name() -> Literal["cuda", "cpu"]:
    """Where models run here."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(folder: Path, *, quantization: Quantized, adapter: Path | None = None) -> Model:
    """Load a causal language model for evaluation or as the frozen base of training.

    bf16 on CUDA, fp32 on the CPU (bf16 matrix products are slow there); NF4 with double quantisation is the QLoRA
    setting (https://arxiv.org/abs/2305.14314, section 3). Raises ModelError for files that are not whole, or a
    config.json that asks for something unknown.
    """
    go_offline()
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils.logging import disable_progress_bar

    require_whole_weights(folder)
    disable_progress_bar()
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
    return model.eval()


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
