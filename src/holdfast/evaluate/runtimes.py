"""Answer a list of examples with either runtime: transformers (as trained) or the llama.cpp server (as deployed)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from holdfast import models
from holdfast.core.config import EvaluateConfig
from holdfast.core.console import Console
from holdfast.core.records import Example
from holdfast.runtime import LlamaServer, Reply, start_server


def answer_with_transformers(
    folder: Path,
    adapter: Path | None,
    quantization: Literal["nf4", "int8", "none"],
    examples: Sequence[Example],
    config: EvaluateConfig,
    console: Console,
    then: Callable[[models.Model, models.Tokenizer], None] | None = None,
) -> list[Reply]:
    """Greedy answers of a base model folder with an optional adapter, in order. Times are not measured (0).

    `then` is given the model and its tokenizer before they go.
    """
    tokenizer = models.load_tokenizer(folder)
    prompts = [models.encode_prompt(tokenizer, list(example.prompt)) for example in examples]
    model = models.load_model(folder, quantization=quantization, adapter=adapter)
    with console.progress("answering", len(examples)) as bar:
        answers = models.generate(
            model, tokenizer, prompts,
            max_new_tokens=config.max_new_tokens, batch_size=config.batch_size, on_batch=bar.advance,
        )  # fmt: skip
    if then is not None:
        then(model, tokenizer)
    return [
        Reply(answer.text, answer.tokens, answer.stopped, 0.0, len(prompt), 0.0, 0.0)
        for answer, prompt in zip(answers, prompts, strict=True)
    ]


def answer_with_server(
    gguf: Path,
    examples: Sequence[Example],
    config: EvaluateConfig,
    console: Console,
    *,
    n_ctx: int = 1024,
    threads: int = 0,
) -> list[Reply]:
    """Greedy answers of a GGUF file in the llama.cpp server, in order. Raises ServerError."""
    with start_server(gguf, parallel=1, n_ctx=n_ctx, threads=threads) as server:
        return answer_in_server(server, examples, config, console, gguf.stem)


def answer_in_server(
    server: LlamaServer, examples: Sequence[Example], config: EvaluateConfig, console: Console, label: str
) -> list[Reply]:
    """Answers of a server that runs. Start it with `parallel=1`: only then are the answers the same every time."""
    with console.progress(label, len(examples)) as bar:
        return server.chat_many([example.prompt for example in examples], config.max_new_tokens, bar.advance)
