"""Stage `verify`: the exported files in the real server. First token parity, then the score of every quantisation."""

import json
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast.core.config import RunConfig
from holdfast.core.context import StageContext
from holdfast.core.errors import IntegrityError, StageError
from holdfast.core.records import Example, read_examples

NOT_SCORES = ("tokens_per_second", "median_first_token_seconds", "median_answer_seconds", "seconds")


class Rung(NamedTuple):
    """One quantisation: its line of ladder.json, its samples, its parity report."""

    line: dict[str, Any]
    samples: list[dict[str, Any]]
    parity: dict[str, Any]


def run(context: StageContext) -> None:
    """Write ladder.json, samples-<quantisation>.jsonl and parity.json.

    Raises IntegrityError when the server does not see the tokens of training, ServerError when it does not run,
    StageError when the test set is empty or a prompt does not fit `verify.n_ctx`.
    """
    config, out = context.config, context.out
    test = read_examples(context.inputs["prepare"] / "test.jsonl")
    train = read_examples(context.inputs["prepare"] / "train.jsonl")
    if not test:
        raise StageError("there are no test items to verify with", hint="raise prepare.test_set_size")
    rungs = []
    for quantization in dict.fromkeys(("F16", *config.export.quantizations)):
        rung = climb(quantization, context, test, train)
        out.write_jsonl(f"samples-{quantization}.jsonl", rung.samples)
        context.console.say(f"  {describe(rung.line)}")
        rungs.append(rung)
    deployed = next(rung for rung in rungs if rung.line["rung"] == config.verify.deploy)
    checked = [rung.line["file"] for rung in rungs]
    tuned = json.loads((context.inputs["evaluate"] / "results.json").read_bytes())
    out.write_json("parity.json", {**deployed.parity, "files": checked})
    out.write_json("ladder.json", {
        "rungs": [rung.line for rung in rungs],
        "deploy": config.verify.deploy,
        "tuned": {name: tuned[name] for name in (*tuned["intervals"], "n")},
    })  # fmt: skip


def climb(quantization: str, context: StageContext, test: Sequence[Example], train: Sequence[Example]) -> Rung:
    """Start the server with one file, check parity there, let it answer the test items and score them."""
    from holdfast import models
    from holdfast.evaluate.parity import check_parity
    from holdfast.evaluate.runtimes import answer_in_server
    from holdfast.evaluate.scorers import score_sample, summarize
    from holdfast.evaluate.tasks import read_task
    from holdfast.runtime import start_server

    config = context.config
    gguf = context.inputs["export"] / f"{config.name}-{quantization}.gguf"
    task = read_task(context.inputs["prepare"] / "task.json")
    tokenizer = models.load_tokenizer(models.find_base_model(config.base_model))
    prompts = [len(models.encode_prompt(tokenizer, list(example.prompt))) for example in test]
    check_context(config, prompts)
    with start_server(gguf, parallel=1, n_ctx=config.verify.n_ctx, threads=config.verify.threads) as server:
        parity = check_parity(tokenizer, server, choose_rows(test, train, config.verify.parity_rows))
        clock = time.monotonic()
        replies = answer_in_server(server, test, config.evaluate, context.console, f"{quantization} in the server")
        seconds = time.monotonic() - clock
        backend = server.backend
    for example, reply, tokens in zip(test, replies, prompts, strict=True):
        if reply.prompt_tokens != tokens:
            raise IntegrityError(
                f"{example.source}: the server's chat endpoint read {reply.prompt_tokens} tokens, training {tokens}"
            )
    samples = [
        score_sample(task, example, reply.text, reply.stopped, reply.tokens)
        for example, reply in zip(test, replies, strict=True)
    ]
    summary = summarize(samples)
    generating = sum(reply.generation_seconds for reply in replies)
    generated = sum(max(reply.tokens - 1, 0) for reply in replies)  # the first token belongs to reading the prompt
    line = {
        "rung": quantization,
        "file": gguf.name,
        **{name: summary[name] for name in (*summary["intervals"], "n")},
        "size_bytes": gguf.stat().st_size,
        "tokens_per_second": round(generated / generating, 1) if generated and generating else None,
        "median_first_token_seconds": round(statistics.median(r.first_token_seconds for r in replies), 4),
        "median_answer_seconds": round(statistics.median(r.seconds for r in replies), 4),
        "seconds": round(seconds, 2),
        "backend": backend,
    }
    return Rung(line, samples, parity)


def choose_rows(test: Sequence[Example], train: Sequence[Example], limit: int) -> list[Example]:
    """At most `limit` rows for the parity check: half from each split, spread evenly over it."""
    from_test = _spread(test, max(limit - limit // 2, limit - len(train)))
    return from_test + _spread(train, limit - len(from_test))


def check_context(config: RunConfig, prompts: Sequence[int]) -> None:
    """Raise StageError when the longest prompt and an answer do not fit the server's context."""
    prompt, answer, limit = max(prompts), config.evaluate.max_new_tokens, config.verify.n_ctx
    needed = prompt + answer
    if needed > limit:
        raise StageError(
            f"the longest test prompt has {prompt} tokens and an answer may have {answer}: "
            f"{needed} in all, but verify.n_ctx is {limit}",
            hint=f"--set verify.n_ctx={needed}, or shorten the prompts (prepare) or the answers (evaluate)",
        )


def describe(line: dict[str, Any]) -> str:
    """One line for people: a rung's scores, size and speed."""
    scores = ", ".join(
        f"{name} {line[name]:.3f}" for name in line if name not in NOT_SCORES and isinstance(line.get(name), float)
    )
    return f"{line['rung']}: {scores}, {line['size_bytes'] / 2**20:.1f} MiB, {line['tokens_per_second']} tokens/s"


def _spread(examples: Sequence[Example], count: int) -> list[Example]:
    count = max(0, min(count, len(examples)))
    return [examples[i * len(examples) // count] for i in range(count)]
