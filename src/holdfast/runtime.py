"""The one door to llama.cpp: its HTTP server as a child process that dies with this one, and a small client for it.

A `llama-server` on PATH is preferred (it may use the GPU), else the xllamacpp wheel. Nothing else is ever contacted.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO, Any, NamedTuple

from holdfast.core.errors import ServerError
from holdfast.core.loopback import bring_loopback_up
from holdfast.core.records import Message

START_SECONDS = 300.0
ANSWER_SECONDS = 600.0
LOG_LINES = 6
CHILD = Path(__file__).with_name("llama_child.py")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy must ever see a prompt


class Reply(NamedTuple):
    """One answer. `stopped` = the model ended it itself (end token), not the token limit. Times in seconds."""

    text: str
    tokens: int
    stopped: bool
    seconds: float
    prompt_tokens: int
    first_token_seconds: float
    generation_seconds: float


class LlamaServer:
    """A running server; made by `start_server`. A context manager: leaving it stops the child process."""

    def __init__(
        self, process: subprocess.Popen[bytes], log: IO[bytes], *, api_key: str | None, parallel: int, backend: str
    ) -> None:
        self.process = process
        self.url = ""
        self.parallel = parallel
        self.backend = backend
        self._log = log
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

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
        """Answer a conversation greedily; nothing is reused from earlier requests, so the answer is reproducible.
        Raises ServerError when the prompt does not fit the context or the server does not answer."""
        body: dict[str, Any] = {
            "messages": _rows(messages), "max_tokens": max_tokens, "temperature": 0, "top_k": 1, "seed": 0,
            "cache_prompt": False, "reasoning_format": "none",
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

        With more at a time rounding depends on which meet in a batch: `parallel=1` gives the same on every run."""
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

    def log_lines(self, limit: int = LOG_LINES) -> list[str]:
        """First and last lines of the server's log, `limit` of each, without the time stamps."""
        self._log.seek(0)
        data = self._log.read(65536)
        self._log.seek(max(len(data), self._log.seek(0, os.SEEK_END) - 65536))
        lines = (data + self._log.read()).decode(errors="replace").splitlines()
        told = [(line.partition(" ")[2] if line[:1].isdigit() else "") or line for line in lines if line.strip()]
        return told if len(told) <= 2 * limit else [*told[:limit], "…", *told[-limit:]]

    def close(self) -> None:
        """Stop the child and wait for its end; may be called twice."""
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request, for what has no function here. Raises ServerError."""
        return self._request(route, json.dumps(body).encode(), ANSWER_SECONDS)

    def _request(self, route: str, data: bytes | None, seconds: float) -> dict[str, Any]:
        request = urllib.request.Request(self.url + route, data, self._headers)
        try:
            with _OPENER.open(request, timeout=seconds) as response:
                document: dict[str, Any] = json.load(response)
                return document
        except urllib.error.HTTPError as error:
            hint = "shorten the text, or raise verify.n_ctx" if "context size" in (reason := _reason(error)) else ""
            raise ServerError(f"the server answered {error.code} to {route}: {reason}", hint) from None
        except TimeoutError:
            raise ServerError(f"the server gave no answer to {route} within {seconds:.0f} s") from None
        except (OSError, ValueError) as error:
            raise self.gone(f"no answer to {route} ({error})") from None

    def gone(self, what: str) -> ServerError:
        """A ServerError that says whether the child still runs or how it ended, with lines of its log."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)
        state = _describe_status(status := self.process.poll())
        log = "".join(f"\n  | {line}" for line in self.log_lines())
        hint = "`dmesg` says whether the kernel ended it for want of memory" if status == -signal.SIGKILL else ""
        return ServerError(f"llama.cpp server: {what}; {state}{f'. Its log:{log}' if log else ''}", hint=hint)


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

    threads: 0 = one for each physical core. answer_tokens: for requests that do not say (-1 = no limit); these are
    answered greedily. metrics: Prometheus counters at /metrics. descriptor: an open file to serve instead of opening
    `gguf` again, so that what was hashed is what is loaded. Raises ServerError: port taken, bad file, time-out.
    """
    _check_gguf(gguf, descriptor)
    bring_loopback_up()
    if port:
        _check_port(host, port)
    binary = shutil.which("llama-server")
    settings = {
        "gguf": str(gguf.resolve()) if descriptor is None else f"/proc/self/fd/{descriptor}",
        "host": host, "port": port, "n_ctx": n_ctx, "parallel": parallel, "threads": threads, "api_key": api_key,
        "alias": alias, "answer_tokens": answer_tokens, "cache_prompt": cache_prompt, "metrics": metrics,
        "llama_server": binary, "parent": os.getpid(),
        "started_by_main_thread": threading.current_thread() is threading.main_thread(),
    }  # fmt: skip
    log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)
    process = subprocess.Popen(
        [sys.executable, "-P", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
        start_new_session=True, pass_fds=() if descriptor is None else (descriptor,),
    )  # fmt: skip
    backend = "llama-server" if binary else "xllamacpp"
    server = LlamaServer(process, log, api_key=api_key, parallel=parallel, backend=backend)
    try:
        _await_health(server, settings, gguf, start_seconds)
    except BaseException:
        server.close()
        raise
    return server


def _await_health(server: LlamaServer, settings: dict[str, Any], gguf: Path, seconds: float) -> None:
    """Hand over the settings, read the report, wait for /health."""
    deadline = time.monotonic() + seconds
    process = server.process
    if process.stdin is None or process.stdout is None:
        raise ServerError("the server's pipes are missing")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(settings).encode() + b"\n")
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise ServerError(f"{gguf} was not loaded within {seconds:.0f} s")
    report = json.loads(process.stdout.readline() or b"{}")
    if "url" not in report:
        raise server.gone(f"{gguf} cannot be served")
    server.url = report["url"]
    while True:
        try:
            server._request("/health", None, 5.0)
            return
        except ServerError as error:
            if process.poll() is not None:
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


def _describe_status(status: int | None) -> str:
    if status is None:
        return "it still runs"
    return f"it ended with signal {-status}" if status < 0 else f"it ended with exit status {status}"
