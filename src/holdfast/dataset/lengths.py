"""Fit to length: every row is encoded as in training; long conversations are split at turn borders, nothing is cut."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec import structs

from holdfast.core.chat_template import stop_tokens
from holdfast.core.console import Console
from holdfast.core.errors import ModelError
from holdfast.core.labels import TrainingTokens
from holdfast.core.records import Example, Message, Split, decode_example, encode_example
from holdfast.core.shards import Piece, Range, cut, load, read_lines, run_shards, shard_files
from holdfast.dataset.audit import NOT_TRAINED, RowTokens, Tally, join, measure_row, tally

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Action = Literal["error", "drop", "split", "split_or_drop"]
# Sources of dropped and split rows that the report names; all are counted.
NAMED = 1000
ROWS_AT_ONCE = 256  # tokenised together
REMEDY: dict[Action, str] = {"error": "drop or split", "split": "split_or_drop", "drop": "", "split_or_drop": ""}


class FitJob(NamedTuple):
    """One shard of a split to encode. Test rows are counted, never changed."""

    path: Path
    part: Range
    split: Split
    model: Path
    sequence_len: int
    action: Action


class Fitted(NamedTuple):
    """What came of one split.

    tally: of the rows that stay. text: the new lines of each shard, None where nothing changed. sample: first row.
    """

    tally: Tally
    dropped: int
    dropped_rows: list[str]
    divided: int
    parts: int
    sample: dict[str, str]


class Encoder(NamedTuple):
    """A tokenizer, the tokens that end an answer, and those at which a server stops by the model's own list."""

    tokenizer: Any
    ends: frozenset[int]
    stops: frozenset[int] = frozenset()


def fit_split(
    path: Path, split: Split, model: Path, sequence_len: int, action: Action, folder: Path, console: Console
) -> "tuple[Fitted, Iterator[NDArray[np.uint8] | None]]":
    """Encode a file of rows; (what was found, for each shard its new text or None when it stays as it is)."""
    jobs = [FitJob(path, part, split, model, sequence_len, action) for part in cut(path)]
    label = f"tokens of {split}"
    found: list[tuple[Tally, dict[str, Any]]] = []
    single: list[Piece] = []  # what is on disk is not kept in memory
    for piece in run_shards(fit_shard, jobs, folder, console, label):
        found.append((_tally_of(piece), piece.facts))
        single = [piece] if len(jobs) == 1 else []
    facts = [fact for _, fact in found]
    fitted = Fitted(
        join([counted for counted, _ in found]),
        sum(fact["dropped"] for fact in facts),
        [name for fact in facts for name in fact["dropped_rows"]][:NAMED],
        sum(fact["divided"] for fact in facts),
        sum(fact["parts"] for fact in facts),
        facts[0]["sample"],
    )
    if not any(fact["changed"] for fact in facts):
        return fitted, iter(())
    pieces = iter(single) if single else map(load, shard_files(folder, label, len(jobs)))
    return fitted, (piece.arrays.get("text") for piece in pieces)


def fit_shard(job: FitJob) -> Piece:
    """Encode the rows of a shard; keep, divide or drop each. `text`: the rows that stay, when that is not all of it."""
    import numpy as np

    encoder = _encoder(job.model)
    rows: list[RowTokens] = []
    lines: list[bytes] = []
    facts: dict[str, Any] = {"dropped": 0, "dropped_rows": [], "divided": 0, "parts": 0, "sample": {}}
    given = read_lines(job.path, job.part)
    for line, example, own in _measured(encoder, given, job):
        if not rows and job.split == "train" and not job.part.begin:
            facts["sample"] = _show(encoder, example)
        parts = [(example, own)]
        if own.tokens > job.sequence_len and job.split != "test" and job.action != "error":
            if job.action in ("split", "split_or_drop") and (pieces := _divided(encoder, example, job.sequence_len)):
                facts["divided"] += 1
                facts["parts"] += len(pieces)
                parts = pieces
            if job.action in ("drop", "split_or_drop"):
                kept = [(part, size) for part, size in parts if size.tokens <= job.sequence_len]
                facts["dropped"] += len(parts) - len(kept)
                if len(kept) < len(parts):
                    facts["dropped_rows"].append(example.source)
                parts = kept
        lines += [line + b"\n"] if parts == [(example, own)] else [encode_example(part) for part, _ in parts]
        rows += [size for _, size in parts]
    facts["changed"] = bool(facts["dropped"] or facts["divided"])
    facts["dropped_rows"] = facts["dropped_rows"][:NAMED]
    counted = tally(rows, job.sequence_len)
    arrays: dict[str, NDArray[Any]] = {"tokens": counted.tokens}
    if facts["changed"]:
        arrays["text"] = np.frombuffer(b"".join(lines), dtype=np.uint8)
    numbers = {name: value for name, value in vars(counted).items() if name != "tokens"}
    return Piece(arrays, facts | {"tally": numbers})


def divide_conversation(example: Example, size: Callable[[Example], int], limit: int) -> list[Example]:
    """Split at turn borders: each part is the system turn and as many whole exchanges as fit into `limit`.

    An exchange is the user's turns and the answer to them. One that alone is too long is a part of its own. A row with
    one exchange cannot be split. Parts are tagged `part` and `parts`.
    """
    system = tuple(m for m in example.messages[:1] if m.role == "system")
    exchanges: list[tuple[Message, ...]] = []
    begin = len(system)
    for at, message in enumerate(example.messages):
        if message.role == "assistant":
            exchanges.append(example.messages[begin : at + 1])
            begin = at + 1
    if len(exchanges) < 2 or example.rejected is not None:
        return []
    parts = [(*system, *exchanges[0])]
    for exchange in exchanges[1:]:
        longer = (*parts[-1], *exchange)
        if size(structs.replace(example, messages=longer)) <= limit:
            parts[-1] = longer
        else:
            parts.append((*system, *exchange))
    return [
        structs.replace(example, messages=messages, tags={**example.tags, "part": number, "parts": len(parts)})
        for number, messages in enumerate(parts, 1)
    ]


def _measured(encoder: Encoder, lines: Sequence[bytes], job: FitJob) -> Iterator[tuple[bytes, Example, RowTokens]]:
    for begin in range(0, len(lines), ROWS_AT_ONCE):
        given = lines[begin : begin + ROWS_AT_ONCE]
        examples = [decode_example(line, job.path, number) for number, line in enumerate(given, begin + 1)]
        yield from zip(given, examples, measure(encoder, examples, with_prompt=job.split == "test"), strict=True)


def measure(encoder: Encoder, examples: Sequence[Example], *, with_prompt: bool) -> list[RowTokens]:
    """Rows in tokens; prompt tokens are 0 unless asked for."""
    from holdfast import models

    try:
        encoded = models.encode_examples(encoder.tokenizer, [example.messages for example in examples])
    except ModelError:
        encoded = [_encode_named(encoder.tokenizer, example) for example in examples]
    return [
        measure_row(
            example,
            tokens.labels,
            len(models.encode_prompt(encoder.tokenizer, example.prompt)) if with_prompt else 0,
            encoder.ends,
            encoder.ends | encoder.stops,
        )
        for example, tokens in zip(examples, encoded, strict=True)
    ]


def _encode_named(tokenizer: Any, example: Example) -> TrainingTokens:
    from holdfast import models

    try:
        return models.encode_example(tokenizer, example.messages)
    except ModelError as error:
        raise ModelError(f"{example.source}: {error.message}", error.hint) from None


def _divided(encoder: Encoder, example: Example, limit: int) -> list[tuple[Example, RowTokens]]:
    parts = divide_conversation(example, lambda part: measure(encoder, [part], with_prompt=False)[0].tokens, limit)
    return list(zip(parts, measure(encoder, parts, with_prompt=False), strict=True)) if parts else []


def _encoder(model: Path) -> Encoder:
    from holdfast import models

    return _load(models.load_tokenizer, models.end_token_ids, model)


@lru_cache(maxsize=1)
def _load(load: Callable[[Path], Any], ends: Callable[[Any], Sequence[int]], model: Path) -> Encoder:
    tokenizer = load(model)
    return Encoder(tokenizer, frozenset(ends(tokenizer)), frozenset(stop_tokens(model)))


def _show(encoder: Encoder, example: Example) -> dict[str, str]:
    """The decoded text of one row, whole and only what is trained."""
    from holdfast import models

    encoded = models.encode_example(encoder.tokenizer, example.messages)
    trained = [token for token in encoded.labels if token != NOT_TRAINED]
    return {
        "source": example.source,
        "text": str(encoder.tokenizer.decode(encoded.input_ids)),
        "trained_text": str(encoder.tokenizer.decode(trained)),
    }


def _tally_of(piece: Piece) -> Tally:
    return Tally(tokens=piece.arrays["tokens"], **piece.facts["tally"])
