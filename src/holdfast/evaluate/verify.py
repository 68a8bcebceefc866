"""Stage `verify`: the exported files in the real server. First token parity, then the score of every quantisation."""

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.config import RunConfig
from holdfast.core.context import StageContext
from holdfast.core.errors import IntegrityError, RefusedRequestError, StageError
from holdfast.core.measures import shown_scores
from holdfast.core.records import Example, read_examples
from holdfast.core.resident import peak_memory

if TYPE_CHECKING:
    from holdfast.distributions import Forced
    from holdfast.evaluate.ladder import Rung
    from holdfast.models import Quantized
    from holdfast.runtime import Reply

KL_ITEMS = 24  # test items whose reference answers the divergences are measured on


class Work(NamedTuple):
    """What every rung needs: the test items, tokens of their prompts, and the reference answers as token ids."""

    context: StageContext
    tokenizer: Any
    test: Sequence[Example]
    train: Sequence[Example]
    prompts: Sequence[int]
    forced: "Sequence[Forced]"


def run(context: StageContext) -> None:
    """Write ladder.json, parity.json and the samples of every rung.

    Raises IntegrityError when the server does not see the tokens of training (parity.json then has the difference),
    ServerError when it does not run, StageError when the test set is empty or a prompt does not fit `verify.n_ctx`.
    """
    from holdfast import distributions, models
    from holdfast.evaluate import ladder

    config, out = context.config, context.out
    test = read_examples(context.inputs["prepare"] / "test.jsonl")
    train = read_examples(context.inputs["prepare"] / "train.jsonl")
    if not test:
        raise StageError("there are no test items to verify with", hint="raise prepare.test_set_size")
    tokenizer = models.load_tokenizer(models.find_base_model(config.base_model))
    prompts = [len(models.encode_prompt(tokenizer, list(example.prompt))) for example in test]
    check_context(config, prompts)
    forced = distributions.forced_answers(tokenizer, _spread(test, KL_ITEMS))
    if len(forced) < min(KL_ITEMS, len(test)):
        context.console.warn(f"divergences: {len(forced)} answers measured, the others are empty or begin in a token")
    work = Work(context, tokenizer, test, train, prompts, forced)
    files: list[Rung] = []
    parity: dict[str, dict[str, Any]] = {}
    for quantization in dict.fromkeys(("F16", *config.export.quantizations)):
        rung, parity[quantization] = climb(quantization, work)
        files.append(rung)
    rungs = [*climb_in_transformers(work), *files]
    tuned = json.loads((context.inputs["evaluate"] / "results.json").read_bytes())
    lines, metric = [rung.line for rung in files], config.decide.primary
    deploy: str = config.verify.deploy
    why = "named in the configuration"
    if deploy == "auto":
        deploy, why = ladder.choose(lines, tuned, metric, config.decide.maximum_deployed_loss)
    report = parity[deploy]
    proof = f"{report['identical']} of {report['rows']} prompts have the same token ids on both sides"
    steps = ladder.describe_steps(rungs, metric, config.decide.alpha, proof)
    for rung in rungs[1:]:
        context.console.say(f"  {describe(rung.line)}")
    structured = climb_with_schema(next(r for r in files if r.line["rung"] == deploy), work)
    if config.verify.deploy == "auto":
        _write_modelfile(context, f"{config.name}-{deploy}.gguf")
    out.write_json("parity.json", {**report, "files": [line["file"] for line in lines]})
    out.write_json("ladder.json", {
        "rungs": lines,
        "deploy": deploy,
        "why": why,
        "tuned": {name: tuned[name] for name in (*tuned["intervals"], "n")},
        "before": [rung.line for rung in rungs[: -len(files)]],
        "losses": steps,
        "kl": ladder.kl_document(len(forced), files[0].thoughts),
        "structured": structured,
    })  # fmt: skip


def climb(quantization: str, work: Work) -> "tuple[Rung, dict[str, Any]]":
    """Start the server with one file, check parity there, let it answer the test items and score them."""
    from holdfast.distributions import think_in_server
    from holdfast.evaluate.ladder import Rung, answer_loss
    from holdfast.evaluate.parity import measure_parity, require_parity
    from holdfast.evaluate.runtimes import answer_in_server
    from holdfast.runtime import start_server

    context, test = work.context, work.test
    config = context.config
    gguf = context.inputs["export"] / f"{config.name}-{quantization}.gguf"
    with start_server(gguf, parallel=1, n_ctx=config.verify.n_ctx, threads=config.verify.threads) as server:
        parity = measure_parity(work.tokenizer, server, choose_rows(test, work.train, config.verify.parity_rows))
        if not parity.passed:
            context.out.write_json("parity.json", {**parity.document, "files": [gguf.name]})
        require_parity(parity)
        clock = time.monotonic()
        replies = answer_in_server(server, test, config.evaluate, context.console, f"{quantization} in the server")
        seconds = time.monotonic() - clock
        thoughts = think_in_server(server, work.forced)
        backend, memory = server.backend, peak_memory(server.process.pid)
    for example, reply, tokens in zip(test, replies, work.prompts, strict=True):
        if reply.prompt_tokens != tokens:
            raise IntegrityError(
                f"{example.source}: the server's chat endpoint read {reply.prompt_tokens} tokens, training {tokens}"
            )
    samples, summary = _score(f"samples-{quantization}.jsonl", replies, work)
    reading = sum(reply.first_token_seconds for reply in replies)
    generating = sum(reply.generation_seconds for reply in replies)
    generated = sum(max(reply.tokens - 1, 0) for reply in replies)  # the first token belongs to reading the prompt
    line = {
        "rung": quantization,
        "file": gguf.name,
        **{name: summary[name] for name in (*summary["intervals"], "n", "intervals")},
        "size_bytes": gguf.stat().st_size,
        "tokens_per_second": round(generated / generating, 1) if generated and generating else None,
        "prompt_tokens_per_second": round(sum(work.prompts) / reading, 1) if reading else None,
        "median_first_token_seconds": round(statistics.median(r.first_token_seconds for r in replies), 4),
        "median_answer_seconds": round(statistics.median(r.seconds for r in replies), 4),
        "peak_memory_bytes": memory,
        "reference_loss": answer_loss(thoughts),
        "seconds": round(seconds, 2),
        "backend": backend,
    }
    return Rung(line, samples, thoughts), parity.document


def climb_in_transformers(work: Work) -> "list[Rung]":
    """The rungs above the files: what was trained (its samples are those of `evaluate`), and the merged model, where
    stage plan found room for it."""
    from holdfast import models
    from holdfast.core.records import read_jsonl
    from holdfast.evaluate.planned import answering, merged_fits
    from holdfast.evaluate.runtimes import answer_with_transformers
    from holdfast.evaluate.stage import quantization_of

    context, config = work.context, work.context.config
    base, precision = models.find_base_model(config.base_model), quantization_of(config)
    merged, adapter = context.inputs["export"] / "merged", context.inputs["train"] / "adapter"
    trained = [row for _, row in read_jsonl(context.inputs["evaluate"] / "samples.jsonl")]
    top = _rung_above("adapter", base, adapter, precision, trained, work)
    if not merged_fits(context.inputs["plan"]):
        context.console.say("  the merged model is not run in transformers: its 16-bit weights do not fit (stage plan)")
        return [top]
    replies = answer_with_transformers(
        merged, None, "none", work.test, answering(config, context.inputs["plan"]), context.console
    )
    samples, _ = _score("samples-merged.jsonl", replies, work)
    return [top, _rung_above("merged", merged, None, "none", samples, work)]


def _rung_above(
    name: str, folder: Path, adapter: Path | None, precision: "Quantized", samples: list[dict[str, Any]], work: Work
) -> "Rung":
    from holdfast.distributions import think_in_transformers
    from holdfast.evaluate.ladder import Rung, answer_loss
    from holdfast.evaluate.scorers import summarize

    thoughts, summary = think_in_transformers(folder, adapter, precision, work.forced), summarize(samples)
    line = {
        "rung": name,
        "precision": precision if precision != "none" else "16-bit",
        **{key: summary[key] for key in (*summary["intervals"], "n", "intervals")},
        "size_bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        "reference_loss": answer_loss(thoughts),
    }
    return Rung(line, samples, thoughts)


def climb_with_schema(rung: "Rung", work: Work) -> dict[str, Any] | None:
    """The deployed file once more, its answers held to the task's JSON Schema; None for a task without JSON."""
    from holdfast.evaluate.structured import measure_structured
    from holdfast.evaluate.tasks import read_task
    from holdfast.runtime import start_server

    context, config = work.context, work.context.config
    task = read_task(context.inputs["prepare"] / "task.json")
    if not task.wants_json:
        return None
    gguf = context.inputs["export"] / rung.line["file"]
    with start_server(gguf, parallel=1, n_ctx=config.verify.n_ctx, threads=config.verify.threads) as server:
        try:
            measured = measure_structured(
                server, task, work.test, rung.samples, config.evaluate, context.console,
                metric=config.decide.primary, alpha=config.decide.alpha,
            )  # fmt: skip
        except RefusedRequestError as error:  # a grammar is extra: without it the file serves as it was measured above
            context.console.warn(
                "llama.cpp cannot hold the answers of this model to a JSON schema; clients must not send "
                f"response_format: {error.message}"
            )
            return None
    if measured is None:
        return None
    context.out.write_jsonl("samples-structured.jsonl", measured[1])
    return measured[0]


def _write_modelfile(context: StageContext, file: str) -> None:
    """The export's Modelfile for the file that was chosen, to be used from this folder."""
    folder = context.inputs["export"]
    lines = (folder / "Modelfile").read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(f"FROM ../{folder.name}/{file}\n" if line.startswith("FROM ") else line for line in lines)
    context.out.write_text("Modelfile", text)


def _score(name: str, replies: "Sequence[Reply]", work: Work) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Score the answers to the test items and keep them; the rows and their summary."""
    from holdfast.evaluate.scorers import score_sample, summarize
    from holdfast.evaluate.tasks import read_task

    task = read_task(work.context.inputs["prepare"] / "task.json")
    samples = [
        score_sample(task, example, reply.text, reply.stopped, reply.tokens)
        for example, reply in zip(work.test, replies, strict=True)
    ]
    work.context.out.write_jsonl(name, samples)
    return samples, summarize(samples, task.labels)


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
    """One line for people: a rung's scores, divergence, size and speed."""
    scores = ", ".join(f"{name} {line[name]:.3f}" for name in shown_scores(line) if isinstance(line.get(name), float))
    speed = f", {line['tokens_per_second']} tokens/s" if "tokens_per_second" in line else ""
    kl = f", KL {line['kl_to_above']['mean']:.2g} to {line['above']}" if line.get("kl_to_above") else ""
    return f"{line['rung']}: {scores}{kl}, {line['size_bytes'] / 2**20:.1f} MiB{speed}"


def _spread(examples: Sequence[Example], count: int) -> list[Example]:
    count = max(0, min(count, len(examples)))
    return [examples[i * len(examples) // count] for i in range(count)]
