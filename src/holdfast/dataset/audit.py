"""What the tokens say: how long rows are, what is trained, and whether the model is taught to stop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.core.records import Example

NOT_TRAINED = -100
SHOWN = 50


class RowTokens(NamedTuple):
    """One row in tokens. tokens, trained: counts; ended: answers that train their end token; answers: how many."""

    source: str
    tokens: int
    trained: int
    answers: int
    ended: int
    prompt_tokens: int


class Audit(NamedTuple):
    """rows by split; sample: the decoded text of one training row, whole and only what is trained."""

    rows: dict[str, list[RowTokens]]
    sample: dict[str, str]


def audit_tokens(model_folder: Path, splits: dict[str, list[Example]]) -> Audit:
    """Encode every row as training will, with the base model's own tokenizer and chat template."""
    from holdfast import models

    tokenizer = models.load_tokenizer(model_folder)
    ends = set(models.end_token_ids(tokenizer))
    rows: dict[str, list[RowTokens]] = {}
    for split, examples in splits.items():
        rows[split] = []
        for example in examples:
            encoded = models.encode_example(tokenizer, example.messages)
            prompt = models.encode_prompt(tokenizer, example.prompt)
            rows[split].append(measure_row(example, encoded.labels, len(prompt), ends))
    sample: dict[str, str] = {}
    for example in splits["train"][:1]:
        encoded = models.encode_example(tokenizer, example.messages)
        trained = [token for token in encoded.labels if token != NOT_TRAINED]
        sample = {
            "source": example.source,
            "text": str(tokenizer.decode(encoded.input_ids)),
            "trained_text": str(tokenizer.decode(trained)),
        }
    return Audit(rows, sample)


def measure_row(example: Example, labels: Sequence[int], prompt_tokens: int, ends: set[int]) -> RowTokens:
    """Count one row. A run of trained labels is one answer; it must end with one of `ends`."""
    runs = [
        label
        for label, following in zip(labels, [*labels[1:], NOT_TRAINED], strict=True)
        if label != NOT_TRAINED and following == NOT_TRAINED
    ]
    answers = sum(message.role == "assistant" for message in example.messages)
    trained = sum(label != NOT_TRAINED for label in labels)
    ended = sum(last in ends for last in runs)
    return RowTokens(example.source, len(labels), trained, max(answers, len(runs)), ended, prompt_tokens)


def check_rows(rows: Sequence[RowTokens]) -> None:
    """Raise ContractError when a row trains nothing, or an answer does not train its end token."""
    silent = [row for row in rows if not row.trained]
    if silent:
        raise ContractError(
            f"{len(silent)} of {len(rows)} rows have no trained token, so they teach nothing: {_sources(silent)}",
            hint="an answer must not be empty, and the base model's chat template must mark where it begins",
        )
    endless = [row for row in rows if row.ended < row.answers]
    if endless:
        raise ContractError(
            f"{len(endless)} of {len(rows)} rows do not train the end token of each answer "
            f"({endless[0].ended} of {endless[0].answers} in the first); the model would not learn to stop: "
            f"{_sources(endless)}",
            hint="choose a base model whose chat template closes the assistant's turn with its end token",
        )


def too_long(rows: Sequence[RowTokens], sequence_len: int, action: Literal["error", "drop"]) -> set[str]:
    """Sources of rows longer than `sequence_len` tokens. Raises ContractError when they are an error, not dropped."""
    long = [row for row in rows if row.tokens > sequence_len]
    if long and action == "error":
        lines = [f"{row.source}: {row.tokens} tokens" for row in long[:SHOWN]]
        raise ContractError(
            f"{len(long)} of {len(rows)} rows are longer than sequence_len {sequence_len} "
            f"(longest {max(row.tokens for row in long)}); nothing is cut:\n  " + "\n  ".join(lines),
            hint="raise sequence_len, shorten the rows, or set prepare.on_too_long: drop",
        )
    return {row.source for row in long}


def summarise(rows: Sequence[RowTokens], sequence_len: int) -> dict[str, Any]:
    """Counts for the report. Lengths are tokens; truncated = longer than `sequence_len`: a trainer would cut them."""
    tokens, trained = sum(r.tokens for r in rows), sum(r.trained for r in rows)
    return {
        "rows": len(rows),
        "tokens": tokens,
        "trained_tokens": trained,
        "trained_share": round(trained / tokens, 4) if tokens else 0.0,
        **length_percentiles([r.tokens for r in rows]),
        "longest": max((r.tokens for r in rows), default=0),
        "shortest": min((r.tokens for r in rows), default=0),
        "truncated_rows": sum(r.tokens > sequence_len for r in rows),
        "rows_with_trained_eos": sum(r.ended == r.answers for r in rows),
        "zero_label_rows": sum(not r.trained for r in rows),
    }


def length_percentiles(lengths: Sequence[int]) -> dict[str, int]:
    """The lengths that 50, 90 and 99 % of the rows do not exceed (nearest rank), in tokens; 0 without rows."""
    ordered = sorted(lengths)
    return {f"p{share}": ordered[-(-share * len(ordered) // 100) - 1] if ordered else 0 for share in (50, 90, 99)}


def _sources(rows: Sequence[RowTokens]) -> str:
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    return ", ".join(row.source for row in rows[:10]) + more
