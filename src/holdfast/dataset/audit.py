"""What the tokens say: how long rows are, what is trained, and whether the model is taught to stop."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.core.labels import NOT_TRAINED as NOT_TRAINED
from holdfast.core.packing import most_packed
from holdfast.core.records import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 50
BINS = 32
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


class RowTokens(NamedTuple):
    """One row in tokens. tokens, trained: counts; ended: answers that train their end token; answers: how many; early:
    trained end tokens before the end of an answer; pair: a preference row."""

    source: str
    tokens: int
    trained: int
    answers: int
    ended: int
    prompt_tokens: int
    early: int = 0
    pair: bool = False


@dataclass
class Tally:
    """Rows of one split, counted. `silent`, `endless`, `long`: how many; of each the first are named in `*_rows`.

    tokens: one count a row. densest: largest share of trained tokens in a row. long_rows: (source, tokens). pairs:
    preference rows.
    """

    tokens: "NDArray[np.uint32]"
    trained: int = 0
    densest: float = 0.0
    ended: int = 0
    prompt_max: int = 0
    answer_max: int = 0
    silent: int = 0
    endless: int = 0
    long: int = 0
    silent_rows: list[str] = field(default_factory=list)
    endless_rows: list[str] = field(default_factory=list)
    early: int = 0
    early_rows: list[str] = field(default_factory=list)
    long_rows: list[tuple[str, int]] = field(default_factory=list)
    pairs: int = 0


def tally(rows: Sequence[RowTokens], sequence_len: int) -> Tally:
    """Count rows. A row is silent when it trains nothing, endless when an answer does not train its end token."""
    import numpy as np

    silent = [row for row in rows if not row.trained]
    endless = [row for row in rows if row.ended < row.answers]
    early = [row for row in rows if row.early]
    long = [row for row in rows if row.tokens > sequence_len]
    return Tally(
        tokens=np.array([row.tokens for row in rows], dtype=np.uint32),
        trained=sum(row.trained for row in rows),
        densest=max((row.trained / row.tokens for row in rows if row.tokens), default=0.0),
        ended=len(rows) - len(endless),
        prompt_max=max((row.prompt_tokens for row in rows), default=0),
        answer_max=max((row.tokens - row.prompt_tokens for row in rows), default=0),
        silent=len(silent),
        endless=len(endless),
        long=len(long),
        silent_rows=[row.source for row in silent[:SHOWN]],
        endless_rows=[row.source for row in endless[:SHOWN]],
        early=len(early),
        early_rows=[row.source for row in early[:SHOWN]],
        long_rows=[(row.source, row.tokens) for row in long[:SHOWN]],
        pairs=sum(row.pair for row in rows),
    )


def join(tallies: Sequence[Tally]) -> Tally:
    """Tallies of consecutive shards, or of several splits, as one."""
    import numpy as np

    return Tally(
        tokens=np.concatenate([np.zeros(0, dtype=np.uint32), *(t.tokens for t in tallies)]),
        trained=sum(t.trained for t in tallies),
        densest=max((t.densest for t in tallies), default=0.0),
        ended=sum(t.ended for t in tallies),
        prompt_max=max((t.prompt_max for t in tallies), default=0),
        answer_max=max((t.answer_max for t in tallies), default=0),
        silent=sum(t.silent for t in tallies),
        endless=sum(t.endless for t in tallies),
        long=sum(t.long for t in tallies),
        silent_rows=[row for t in tallies for row in t.silent_rows][:SHOWN],
        endless_rows=[row for t in tallies for row in t.endless_rows][:SHOWN],
        early=sum(t.early for t in tallies),
        early_rows=[row for t in tallies for row in t.early_rows][:SHOWN],
        long_rows=[row for t in tallies for row in t.long_rows][:SHOWN],
        pairs=sum(t.pairs for t in tallies),
    )


def measure_row(
    example: Example, labels: Sequence[int], prompt_tokens: int, ends: Collection[int], stops: Collection[int] = ()
) -> RowTokens:
    """Count one row. A run of trained labels is one answer; it must end with one of `ends`, and have none of them and
    of `stops` before."""
    import numpy as np

    array = np.array([*labels, NOT_TRAINED], dtype=np.int64)
    is_trained = array != NOT_TRAINED
    runs = array[:-1][is_trained[:-1] & ~is_trained[1:]].tolist()  # the last label of each
    answers = sum(message.role == "assistant" for message in example.messages)
    trained = int(is_trained.sum())
    ended = sum(last in ends for last in runs)
    inside = is_trained[:-1] & is_trained[1:]  # an answer goes on after this token
    early = int(np.isin(array[:-1][inside], [*ends, *stops]).sum())
    return RowTokens(
        example.source, len(labels), trained, max(answers, len(runs)), ended, prompt_tokens, early,
        example.rejected is not None,
    )  # fmt: skip


def check_rows(found: Tally) -> None:
    """Raise ContractError when a row trains nothing, or an answer does not train its end token last and only there."""
    rows = len(found.tokens)
    if found.silent:
        raise ContractError(
            f"{found.silent} of {rows} rows have no trained token, so they teach nothing: "
            f"{_sources(found.silent_rows, found.silent)}",
            hint="an answer must not be empty, and the base model's chat template must mark where it begins",
        )
    if found.endless:
        raise ContractError(
            f"{found.endless} of {rows} rows do not train the end token of each answer; "
            f"the model would not learn to stop: {_sources(found.endless_rows, found.endless)}",
            hint="choose a base model whose chat template closes the assistant's turn with its end token",
        )
    if found.early:
        raise ContractError(
            f"{found.early} of {rows} rows have the model's own end token in the text of an answer; the model would "
            f"learn to stop there: {_sources(found.early_rows, found.early)}",
            hint="take it out of these answers; it is often left of an export that a chat template had rendered",
        )


def refuse_long(found: Tally, sequence_len: int, remedy: str) -> None:
    """Raise ContractError when a row is longer than `sequence_len` tokens. remedy: another value of on_too_long."""
    if found.long:
        lines = [f"{source}: {tokens} tokens" for source, tokens in found.long_rows]
        if found.long > len(lines):
            lines.append(f"… and {found.long - len(lines)} more")
        raise ContractError(
            f"{found.long} of {len(found.tokens)} rows are longer than sequence_len {sequence_len} "
            f"(longest {found.tokens.max()}); nothing is cut:\n  " + "\n  ".join(lines),
            hint=f"raise sequence_len, shorten the rows, or set prepare.on_too_long: {remedy}",
        )


def summarise(found: Tally) -> dict[str, Any]:
    """Counts for the report. Lengths are tokens; truncated = longer than sequence_len: a trainer would cut them."""
    tokens = int(found.tokens.sum(dtype="u8"))
    return {
        "rows": len(found.tokens),
        "tokens": tokens,
        "trained_tokens": found.trained,
        "trained_share": round(found.trained / tokens, 4) if tokens else 0.0,
        **length_percentiles(found.tokens),
        "longest": int(found.tokens.max(initial=0)),
        "shortest": int(found.tokens.min()) if len(found.tokens) else 0,
        "truncated_rows": found.long,
        "rows_with_trained_eos": found.ended,
        "zero_label_rows": found.silent,
    }


def length_percentiles(lengths: "NDArray[np.uint32]") -> dict[str, int]:
    """The lengths that 50, 90 and 99 % of the rows do not exceed, in tokens; 0 without rows."""
    import numpy as np

    if not len(lengths):
        return {"p50": 0, "p90": 0, "p99": 0}
    found = np.percentile(lengths, (50, 90, 99), method="inverted_cdf")
    return {f"p{share}": int(value) for share, value in zip((50, 90, 99), found, strict=True)}


def describe_lengths(found: Tally) -> dict[str, Any]:
    """What `lengths.json` says of one split: rows, tokens, those trained, the largest share of them in a row, longest,
    percentiles, histogram (32 bins), and how many rows a packed row may hold.

    histogram: [tokens up to which, rows]; packed: [tokens of a packed row, most rows in it].
    """
    import numpy as np

    tokens = found.tokens
    if not len(tokens):
        return {"rows": 0, "tokens": 0, "trained": 0, "trained_share_max": 0.0, "longest": 0,
                "percentiles": {}, "histogram": [], "packed": []}  # fmt: skip
    longest = int(tokens.max())
    width = max(1, -(-longest // BINS))
    counts = np.bincount((np.maximum(tokens, 1).astype(np.int64) - 1) // width)
    values = np.percentile(tokens, PERCENTILES, method="inverted_cdf")
    return {
        "rows": len(tokens),
        "tokens": int(tokens.sum(dtype=np.uint64)),
        "trained": found.trained,
        "trained_share_max": round(found.densest, 4),
        "longest": longest,
        "percentiles": {str(p): int(value) for p, value in zip(PERCENTILES, values, strict=True)},
        "histogram": [[(i + 1) * width, count] for i, count in enumerate(counts.tolist())],
        "packed": most_packed(tokens),
    }


def _sources(rows: Sequence[str], count: int) -> str:
    return ", ".join(rows[:10]) + (f" and {count - 10} more" if count > 10 else "")
