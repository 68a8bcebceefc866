"""The one door to llama.cpp: a small client for its HTTP server, and `start_server`, which starts one to ask.

The server is a child process (`llama_process.py`) that dies with this one. Nothing but it is ever contacted.
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.errors import RefusedRequestError, ServerError
from holdfast.core.loopback import bring_loopback_up
from holdfast.core.records import Message
from holdfast.llama_process import LlamaProcess, start_process

START_SECONDS = 300.0
ANSWER_SECONDS = 600.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy must ever see a prompt


class Reply(NamedTuple):
    """One answer.

    text: what the model wrote. tokens: how many it wrote, the end token included. stopped: the model ended it itself
    (end token), not the token limit. seconds: from the request to the whole answer, as the client saw it.
    first_token_seconds: reading the prompt; generation_seconds: writing the answer; both as the server says.
    """

    text: str
    tokens: int
    stopped: bool
    seconds: float
    prompt_tokens: int
    first_token_seconds: float
    generation_seconds: float


class LlamaServer:
    """A running server; made by `start_server`. A context manager: leaving it stops the child process."""

    def __init__(self, child: LlamaProcess, url: str, *, api_key: str | None, parallel: int) -> None:
        """url: where it listens. parallel: requests that are answered at once. api_key: sent with each request."""
        self.child = child
        self.url = url
        self.parallel = parallel
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The child process."""
        return self.child.popen

    @property
    def backend(self) -> str:
        """`llama-server` (found on PATH) or `xllamacpp` (the wheel)."""
        return self.child.backend

    def __enter__(self) -> "LlamaServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def chat(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        json_schema: dict[str, Any] | None = None,
        logit_bias: dict[int, float] | None = None,
    ) -> Reply:
        """Answer a conversation greedily, with at most `max_tokens` tokens; nothing is reused from earlier requests, so
        the answer is reproducible.

        json_schema: the answer is made to be JSON of this schema. logit_bias: token id → what is added to its logit.
        Raises ServerError when the prompt does not fit the context or the server does not answer.
        """
        body: dict[str, Any] = {
            "messages": _rows(messages), "max_tokens": max_tokens, "temperature": 0, "top_k": 1, "seed": 0,
            "cache_prompt": False,
        }  # fmt: skip
        if json_schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": json_schema},
            }
        if logit_bias:
            body["logit_bias"] = [[token, bias] for token, bias in logit_bias.items()]
        clock = time.monotonic()
        answer = self.post("/v1/chat/completions", body)
        seconds = time.monotonic() - clock
        choice, usage, timings = answer["choices"][0], answer["usage"], answer.get("timings", {})
        return Reply(
            text=choice["message"]["content"] or "",
            tokens=usage["completion_tokens"],
            stopped=choice["finish_reason"] == "stop",
            seconds=seconds,
            prompt_tokens=usage["prompt_tokens"],
            first_token_seconds=timings.get("prompt_ms", 0.0) / 1000,
            generation_seconds=timings.get("predicted_ms", 0.0) / 1000,
        )

    def chat_many(
        self,
        conversations: Sequence[Sequence[Message]],
        max_tokens: int,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> list[Reply]:
        """Answer many conversations, `parallel` at a time, in their order; `on_done(1)` after each answer.

        With more than one at a time rounding depends on which requests meet in a batch: `parallel=1` gives the same
        answers on every run. Raises ServerError at the first that fails; those that wait are not asked.
        """
        with ThreadPoolExecutor(self.parallel) as pool:
            futures = [pool.submit(self.chat, messages, max_tokens) for messages in conversations]
            try:
                for future in as_completed(futures):
                    future.result()
                    on_done(1)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def tokenize(self, text: str, *, parse_special: bool, add_special: bool = False) -> list[int]:
        """Token ids of a text. `add_special` puts the BOS token before it where the model wants one (chat does)."""
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return list(self.post("/tokenize", body)["tokens"])

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt text that the server makes of a conversation (its chat template, generation prompt included)."""
        return str(self.post("/apply-template", {"messages": _rows(messages)})["prompt"])

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, for what has no function here. Raises ServerError."""
        return self._request(route, json.dumps(body).encode(), ANSWER_SECONDS)

    def _request(self, route: str, data: bytes | None, seconds: float) -> dict[str, Any]:
        request = urllib.request.Request(self.url + route, data, self._headers)
        try:
            with _OPENER.open(request, timeout=seconds) as response:
                document: dict[str, Any] = json.load(response)
                return document
        except urllib.error.HTTPError as error:
            hint = "shorten the text, or raise verify.n_ctx" if "context size" in (reason := _reason(error)) else ""
            raise RefusedRequestError(f"the server answered {error.code} to {route}: {reason}", hint) from None
        except TimeoutError:
            raise ServerError(f"the server gave no answer to {route} within {seconds:.0f} s") from None
        except (OSError, ValueError) as error:
            raise self.gone(f"no answer to {route} ({error})") from None

    def gone(self, what: str) -> ServerError:
        """A ServerError that says whether the child still runs or how it ended, with lines of its log."""
        return self.child.gone(what)

    def close(self) -> None:
        """Stop the child and wait for its end; may be called twice."""
        self.child.close()


def start_server(
    gguf: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    n_ctx: int = 1024,
    parallel: int = 2,
    threads: int = 0,
    api_key: str | None = None,
    alias: str = "holdfast",
    answer_tokens: int = -1,
    metrics: bool = False,
    cache_prompt: bool = False,
    descriptor: int | None = None,
    start_seconds: float = START_SECONDS,
) -> LlamaServer:
    """Serve a GGUF file; returns when it is loaded. `n_ctx` tokens for each of `parallel` requests; port 0 = any.

    host, port: where it listens. threads: 0 = one for each physical core. api_key: what each request must carry.
    alias: the model's name in answers. answer_tokens: at most, for requests that do not say (-1 = no limit); these are
    answered greedily. metrics: Prometheus counters at /metrics. cache_prompt: the default of requests that do not say.
    descriptor: an open file to serve instead of opening `gguf` again, so that what was hashed is what is loaded.
    Raises ServerError: port taken, not a GGUF file, not loaded within `start_seconds`.
    """
    _check_gguf(gguf, descriptor)
    bring_loopback_up()
    if port:
        _check_port(host, port)
    settings = {
        "gguf": str(gguf.resolve()) if descriptor is None else f"/proc/self/fd/{descriptor}",
        "host": host, "port": port, "n_ctx": n_ctx, "parallel": parallel, "threads": threads, "api_key": api_key,
        "alias": alias, "answer_tokens": answer_tokens, "cache_prompt": cache_prompt, "metrics": metrics,
    }  # fmt: skip
    deadline = time.monotonic() + start_seconds
    child = start_process(settings, descriptor)
    try:
        url = child.hand_over(gguf, start_seconds)
        server = LlamaServer(child, url, api_key=api_key, parallel=parallel)
        _await_health(server, gguf, start_seconds, deadline)
    except BaseException:
        child.close()
        raise
    return server


def _await_health(server: LlamaServer, gguf: Path, seconds: float, deadline: float) -> None:
    """Return when /health says that the model is loaded. ServerError when the child ends, or after `deadline`."""
    while True:
        try:
            server._request("/health", None, 5.0)
            return
        except ServerError as error:
            if server.process.poll() is not None:
                raise server.gone(f"{gguf} cannot be served") from None
            if time.monotonic() > deadline:
                raise ServerError(f"{gguf} was not loaded within {seconds:.0f} s: {error.message}") from None
        time.sleep(0.1)


def _check_gguf(gguf: Path, descriptor: int | None) -> None:
    try:
        if descriptor is None:
            with gguf.open("rb") as file:
                magic = file.read(4)
        else:
            magic = os.pread(descriptor, 4, 0)
    except OSError as error:
        raise ServerError(f"{gguf} cannot be read: {error.strerror}", hint="holdfast export -c FILE makes it") from None
    if magic != b"GGUF":
        raise ServerError(f"{gguf} is not a GGUF file: it begins with {magic!r}, expected b'GGUF'")


def _check_port(host: str, port: int) -> None:
    """Raise ServerError when nobody can listen there, before a child process is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"cannot listen on {host} port {port}: {error.strerror}",
                hint=f"--port 0 picks a free port; `ss -ltnp 'sport = :{port}'` shows who has this one",
            ) from None


def _rows(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read(2000).decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]
