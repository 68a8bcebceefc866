"""How likely a model thinks given answers are: many after the same prompt, or the reference of every item.

Memory: logits of at most POSITIONS tokens at once (or of one answer that is longer), float32 copies of FLOATS of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from holdfast import models
from holdfast.core.records import Example, Message

POSITIONS = 1024
FLOATS = 64


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
    answers = [len(rows[index].input_ids) - starts[index] + 1 for index in range(len(rows))]
    found: dict[int, ReferenceScore] = {}
    for batch in _batches(order, answers, batch_size):
        scores = _score_batch(model, tokenizer, [rows[i] for i in batch], [starts[i] for i in batch])
        found.update(zip(batch, scores, strict=True))
    return [found[index] for index in range(len(rows))]


def _batches(order: Sequence[int], lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """`order` in batches of at most `batch_size` whose longest of `lengths`, for all of them, fits into POSITIONS."""
    batch: list[int] = []
    for index in order:
        longest = max(lengths[at] for at in (*batch, index))
        if batch and (len(batch) == batch_size or longest * (len(batch) + 1) > POSITIONS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


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
            logits_to_keep=kept, use_cache=False,
        ).logits  # fmt: skip
    logits, wanted = logits[:, :-1], labels[:, labels.shape[1] - logits.shape[1] + 1 :].to(logits.device)
    counted = wanted != models.NOT_TRAINED
    tokens = wanted.clamp(min=0)
    nats = -log_probabilities(logits, tokens) * counted
    right = (logits.argmax(-1) == tokens) & counted
    return [
        ReferenceScore(int(n), float(loss), int(hits))
        for n, loss, hits in zip(counted.sum(1).tolist(), nats.sum(1).tolist(), right.sum(1).tolist(), strict=True)
    ]


def log_probabilities(logits: Any, tokens: Any) -> Any:
    """Of each token, float64 (rows, positions): logits (rows, positions, vocabulary), tokens (rows, positions)."""
    import torch

    found = [
        row[start : start + FLOATS].float().log_softmax(-1).gather(1, own[start : start + FLOATS, None])[:, 0].double()
        for row, own in zip(logits, tokens, strict=True)
        for start in range(0, max(1, len(own)), FLOATS)
    ]
    return torch.cat(found).reshape(tokens.shape)


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
    for batch in _batches(order, [len(row) - shared for row in rows], batch_size):
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
        output = model(
            input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=True, logits_to_keep=1
        )  # fmt: skip
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
        logs = log_probabilities(logits, tokens[:, 1:])
        total = total + (logs * real[:, 1:]).sum(1)
    return [float(value) for value in total.tolist()]
