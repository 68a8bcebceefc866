"""From documents to flat rows of tokens: background processes generate and tokenise, the trainer reads in fixed order.

Shard i holds the documents of corpus seed i, so that the token stream depends on nothing but the seed.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

import corpus
from shape import END_OF_TEXT, IM_END, IM_START

ANSWER, PLAIN, CONTEXT = 10, 5, 2  # loss weights in tenths: answers count most, prompts teach vocabulary
LONGEST = 1024

Tokens = NDArray[np.uint16]
Weights = NDArray[np.uint8]
Lengths = NDArray[np.int32]


class Batch(NamedTuple):
    """One flat row: int64 tokens and positions (T,), float32 weights of each token as a target (T,), int32 offsets."""

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]
    offsets: NDArray[np.int32]


class Job(NamedTuple):
    """What one background process needs to make one shard."""

    folder: Path
    tokenizer_file: str
    seed: int
    documents: int
    held_out: float


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise SystemExit(f"the tokenizer has no {token}")
    return number


def parts(document: corpus.Document) -> list[str]:
    """The texts of a document, one a message."""
    return [document] if isinstance(document, str) else [message["content"] for message in document]


def encode_documents(tokenizer: Tokenizer, documents: Sequence[corpus.Document]) -> tuple[Tokens, Weights, Lengths]:
    """Tokens (uint16), weights (uint8, tenths) and document lengths (int32) of some documents."""
    texts = [text for document in documents for text in parts(document)]
    encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    ids = {t: special_id(tokenizer, t) for t in (END_OF_TEXT, IM_START, IM_END)}
    newline = tokenizer.encode("\n").ids
    headers = {r: [ids[IM_START], *tokenizer.encode(r + "\n").ids] for r in ("system", "user", "assistant")}
    tokens: list[int] = []
    weights: list[int] = []
    lengths: list[int] = []
    for document in documents:
        before = len(tokens)
        if isinstance(document, str):
            tokens += [*next(encoded).ids, ids[END_OF_TEXT]]
            weights += [PLAIN] * (len(tokens) - before)
        else:
            for message in document:
                header, content = headers[message["role"]], next(encoded).ids
                weight = ANSWER if message["role"] == "assistant" else CONTEXT
                tokens += [*header, *content, ids[IM_END], *newline]
                weights += [0] * len(header) + [weight] * (len(content) + 1) + [CONTEXT] * len(newline)
        length = len(tokens) - before
        lengths += [min(LONGEST, length - start) for start in range(0, length, LONGEST)]
    return np.array(tokens, np.uint16), np.array(weights, np.uint8), np.array(lengths, np.int32)


def write_shard(job: Job) -> None:
    """Make one shard; the temporary name hides it until it is whole."""
    tokenizer = Tokenizer.from_file(job.tokenizer_file)
    documents = list(corpus.documents(job.seed, job.documents, job.held_out))
    tokens, weights, lengths = encode_documents(tokenizer, documents)
    temporary = job.folder / f".{job.seed}.npz"
    np.savez(temporary, tokens=tokens, weights=weights, lengths=lengths)
    temporary.rename(job.folder / f"{job.seed}.npz")


def start_producers(
    folder: Path, tokenizer_file: Path, shards: int, documents: int, processes: int, held_out: float
) -> Pool:
    """Begin to fill `folder` with shards 0 … shards-1 in the background; returns the pool (keep it alive)."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder.mkdir(parents=True, exist_ok=True)
    pool = multiprocessing.get_context("spawn").Pool(processes)
    jobs = [Job(folder, str(tokenizer_file), seed, documents, held_out) for seed in range(shards)]
    pool.map_async(write_shard, jobs, chunksize=1, error_callback=lambda e: print("producer failed:", e, flush=True))
    return pool


def read_batches(folder: Path, shards: int, size: int, slots: int) -> Iterator[Batch]:
    """Endless flat batches of `size` tokens from the shards in order, round and round; offsets padded to `slots`."""
    tokens: Tokens = np.empty(0, np.uint16)
    weights: Weights = np.empty(0, np.uint8)
    lengths: Lengths = np.empty(0, np.int32)
    shard = 0
    while True:
        while len(tokens) < size:
            path = folder / f"{shard % shards}.npz"
            while not path.exists():
                time.sleep(0.05)
            data = np.load(path)
            tokens, weights = np.concatenate((tokens, data["tokens"])), np.concatenate((weights, data["weights"]))
            lengths = np.concatenate((lengths, data["lengths"]))
            shard += 1
        ends = np.cumsum(lengths)
        whole = int(np.searchsorted(ends, size, side="left"))
        cut = size - (int(ends[whole - 1]) if whole else 0)
        row = np.concatenate((lengths[:whole], [cut])).astype(np.int64)
        yield make_batch(tokens[:size], weights[:size], row, slots)
        rest = lengths[whole] - cut
        lengths = np.concatenate(([rest], lengths[whole + 1 :])) if rest else lengths[whole + 1 :]
        tokens, weights = tokens[size:], weights[size:]


def make_batch(tokens: Tokens, weights: Weights, lengths: NDArray[np.int64], slots: int) -> Batch:
    """Positions from lengths; the offsets are padded with empty documents so that shapes never change."""
    starts = np.concatenate(([0], np.cumsum(lengths)))
    positions = np.arange(len(tokens)) - np.repeat(starts[:-1], lengths)
    if len(starts) > slots:
        raise SystemExit(f"{len(starts)} documents in one batch, room for {slots}")
    offsets = np.full(slots, len(tokens), np.int32)
    offsets[: len(starts)] = starts
    targets = weights.astype(np.float32) / np.float32(10)
    targets[positions == 0] = 0  # a document's first token is nobody's target
    return Batch(tokens.astype(np.int64), positions, targets, offsets)
