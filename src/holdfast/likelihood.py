"""How likely a model thinks given answers are: many after the same prompt, or the reference of every item."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast import models
from holdfast.core.records import Example, Message


class ReferenceScore(NamedTuple):
    """A model at the reference answer of one item, its end token included: tokens, the sum of their negative
    log-likelihoods in nats, and at how many of them the right token was the likeliest one."""

    tokens: int
    nats: float
    right: int


def score_references(
    model: models.Model, tokenizer: models.Tokenizer, examples: Sequence[Example], batch_size: int
) -> list[ReferenceScore]:
    """One score an example, in order: the last answer after everything before it (teacher forcing)."""
    rows = [models.encode_example(tokenizer, list(example.messages)) for example in examples]
    starts = [len(models.encode_prompt(tokenizer, list(example.prompt))) for example in examples]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids))
    found: dict[int, ReferenceScore] = {}
    for begin in range(0, len(order), batch_size):
        batch = order[begin : begin + batch_size]
        scores = _score_batch(model, tokenizer, [rows[i] for i in batch], [starts[i] for i in batch])
        found.update(zip(batch, scores, strict=True))
    return [found[index] for index in range(len(rows))]


def _score_batch(
    model: models.Model, tokenizer: models.Tokenizer, rows: Sequence[models.TrainingTokens], starts: Sequence[int]
) -> list[ReferenceScore]:
    import torch

    kept = max(len(row.input_ids) - start for row, start in zip(rows, starts, strict=True)) + 1
    batch = tokenizer.pad({"input_ids": [row.input_ids for row in rows]}, padding_side="left", return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], models.NOT_TRAINED)
    for place, (row, start) in enumerate(zip(rows, starts, strict=True)):
        labels[place, start - len(row.labels) :] = torch.tensor(row.labels[start:])
    with torch.inference_mode():
        logits = model(
            input_ids=batch["input_ids"].to(model.device), attention_mask=batch["attention_mask"].to(model.device),
            logits_to_keep=kept,
        ).logits  # fmt: skip
    logits, wanted = logits[:, :-1].float(), labels[:, labels.shape[1] - logits.shape[1] + 1 :].to(logits.device)
    counted = wanted != models.NOT_TRAINED
    tokens = wanted.clamp(min=0)
    nats = -logits.log_softmax(-1).gather(2, tokens[:, :, None])[:, :, 0].double() * counted
    right = (logits.argmax(-1) == tokens) & counted
    return [
        ReferenceScore(int(n), float(loss), int(hits))
        for n, loss, hits in zip(counted.sum(1).tolist(), nats.sum(1).tolist(), right.sum(1).tolist(), strict=True)
    ]


def log_likelihoods(
    model: models.Model, tokenizer: models.Tokenizer, prompt: Sequence[Message], answers: Sequence[str], batch_size: int
) -> list[float]:
    """Natural log-probability of each answer after the prompt, up to a constant that all of them share.

    The tokens that all answers begin with are run once; only what differs is run for each.
    """
    rows = [models.encode_beginning(tokenizer, prompt, answer) for answer in answers]
    shared = _shared_prefix(rows)
    cache, first = _read_prefix(model, rows[0][:shared])
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found: dict[int, float] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        values = _score_rest(model, cache, first, [rows[i][shared:] for i in batch])
        found.update(zip(batch, values, strict=True))
    return [found[index] for index in range(len(rows))]


def _shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows share; at least one token is left of each."""
    shortest = min(map(len, rows)) - 1
    return next((at for at in range(shortest) if len({row[at] for row in rows}) > 1), shortest)


def _read_prefix(model: models.Model, tokens: Sequence[int]) -> tuple[Any, Any]:
    """The cache after the prefix, and the log-probabilities of the token after it."""
    import torch

    with torch.inference_mode():
        output = model(input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=True)
    return output.past_key_values, output.logits[0, -1].float().log_softmax(-1)


def _score_rest(model: models.Model, cache: Any, first: Any, rests: Sequence[Sequence[int]]) -> list[float]:
    import copy

    import torch

    width = max(map(len, rests))
    tokens = torch.zeros((len(rests), width), dtype=torch.long)
    real = torch.zeros((len(rests), width), dtype=torch.bool)
    for row, rest in enumerate(rests):
        tokens[row, : len(rest)] = torch.tensor(list(rest))
        real[row, : len(rest)] = True
    tokens, real = tokens.to(model.device), real.to(model.device)
    total = first[tokens[:, 0]].double()
    if width > 1:
        own = copy.deepcopy(cache)  # the model writes into it
        own.batch_repeat_interleave(len(rests))
        past = torch.ones((len(rests), own.get_seq_length()), dtype=torch.long, device=model.device)
        with torch.inference_mode():
            logits = model(
                input_ids=tokens[:, :-1], past_key_values=own,
                attention_mask=torch.cat([past, real[:, :-1].long()], dim=1),
            ).logits  # fmt: skip
        logs = logits.float().log_softmax(-1).gather(2, tokens[:, 1:, None])[:, :, 0].double()
        total = total + (logs * real[:, 1:]).sum(1)
    return [float(value) for value in total.tolist()]
