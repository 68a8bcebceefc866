"""What a model thinks of the reference answers: its next-token distribution at every position, from either runtime.

Both are fed the same token ids (teacher forcing). In transformers that is one forward pass; the llama.cpp server has no
such call, so a grammar of token ids leaves it exactly one next token each time, while the log-probabilities that it
reports are those before the grammar (llama.cpp, grammars/README.md "Tokens"; tools/server/README.md, `n_probs`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast import models
from holdfast.core.errors import ServerError
from holdfast.core.records import Example
from holdfast.runtime import LlamaServer

TOP = 64  # tokens kept at each position
FLOATS = 64  # positions whose logits are float32 at the same time
Distribution = Mapping[int, float]  # token id → natural log-probability, of the likeliest tokens


class Forced(NamedTuple):
    """One reference answer as token ids, without the token that ends it."""

    prompt: list[int]
    answer: list[int]


class Thoughts(NamedTuple):
    """At each position of one answer, its end included: the likeliest tokens, and the log-probability of the answer's
    own token (None for the end, which has several spellings)."""

    distributions: list[Distribution]
    own: list[float | None]


def forced_answers(tokenizer: Any, examples: Sequence[Example]) -> list[Forced]:
    """The reference answers of examples, as trained."""
    ends = set(models.end_token_ids(tokenizer))
    found = []
    for example in examples:
        prompt = models.encode_prompt(tokenizer, list(example.prompt))
        whole = models.encode_example(tokenizer, list(example.messages)).input_ids
        answer = whole[len(prompt) :]
        end = next((at for at, token in enumerate(answer) if token in ends), len(answer))
        if whole[: len(prompt)] == prompt and end:
            found.append(Forced(prompt, answer[:end]))
    return found


def think_in_transformers(
    folder: Path, adapter: Path | None, quantization: models.Quantized, forced: Sequence[Forced]
) -> list[Thoughts]:
    """Distributions of a model folder with an optional adapter."""
    model = models.load_model(folder, quantization=quantization, adapter=adapter)
    return [think_with(model, item) for item in forced]


def think_with(model: models.Model, item: Forced) -> Thoughts:
    """Distributions of a loaded model at one answer."""
    import torch

    ids = torch.tensor([item.prompt + item.answer], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(item.answer) + 1).logits[0]
    found: list[Distribution] = []
    own: list[float | None] = []
    for start in range(0, len(logits), FLOATS):
        logs = logits[start : start + FLOATS].float().log_softmax(-1)
        values, tokens = logs.topk(min(TOP, logs.shape[-1]))
        found += [dict(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), values.tolist(), strict=True)]
        own += [float(logs[at, token]) for at, token in enumerate(item.answer[start : start + FLOATS])]
    return Thoughts(found, [*own, None])


def think_in_server(server: LlamaServer, forced: Sequence[Forced]) -> list[Thoughts]:
    """Distributions of the model in the server. Raises ServerError when it does not say the tokens it is held to."""
    return [_think(server, item) for item in forced]


def _think(server: LlamaServer, item: Forced) -> Thoughts:
    body = {
        "prompt": item.prompt, "n_predict": len(item.answer) + 1, "temperature": 0, "top_k": 1, "seed": 0,
        "n_probs": TOP, "return_tokens": True, "cache_prompt": False,
        "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in item.answer),
    }  # fmt: skip
    reply = server.post("/completion", body)
    if reply["tokens"][: len(item.answer)] != item.answer or len(reply["completion_probabilities"]) <= len(item.answer):
        raise ServerError(
            f"the server was held to {len(item.answer)} tokens and said others: it has no grammar of token ids",
            hint="take a newer llama-server off PATH or put one there; xllamacpp has it",
        )
    steps = reply["completion_probabilities"][: len(item.answer) + 1]
    own = [float(step["logprob"]) for step in steps[:-1]]
    return Thoughts([{t["id"]: float(t["logprob"]) for t in step["top_logprobs"]} for step in steps], [*own, None])
