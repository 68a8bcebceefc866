"""`holdfast serve` and `holdfast ask`: the deployed file of a finished run, and only if it is what was measured."""

import contextlib
import hashlib
import json
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.digest import digest_bytes
from holdfast.core.documents import deployed_quantization
from holdfast.core.errors import IntegrityError, UsageError
from holdfast.core.manifest import read_manifest
from holdfast.core.measured import SERVED, refuse_unmeasured
from holdfast.core.records import Message
from holdfast.core.rundir import RunDir
from holdfast.runtime import LlamaServer, Reply, start_server
from holdfast.serve.proven import require_proven

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class CheckedModel(NamedTuple):
    """A GGUF file whose digest is the manifest's, held open so that the very same bytes are served."""

    path: Path
    descriptor: int
    digest: str
    opened: os.stat_result


def serve(
    run_dir: Path,
    *,
    host: str,
    port: int,
    api_key_file: Path | None,
    quant: str | None,
    console: Console,
) -> None:
    """Serve a run's model over HTTP (OpenAI-compatible) until SIGINT or SIGTERM. A request that does not say otherwise
    is answered as the test items were: greedily, with at most evaluate.max_new_tokens tokens.

    Raises UsageError (verdict is not `keep`, run.yaml has other values than were measured, no such file, host without
    key), IntegrityError (the file is not what the manifest says), ServerError (port taken, server died).
    """
    key = _read_key(api_key_file, console)
    if host not in LOCAL_HOSTS and key is None:
        raise UsageError(
            f"--host {host} would let other machines in without a key; only {', '.join(LOCAL_HOSTS)} need none",
            hint="(umask 077; openssl rand -hex 32 > api.key), then repeat with --api-key-file api.key",
        )
    run = RunDir(run_dir)
    config = run.read_config()
    require_keep(run, run_dir)
    refuse_unmeasured(run, config, "verify", SERVED)
    with (
        checked_model(run, config, quant) as model,
        start_server(
            model.path, descriptor=model.descriptor, host=host, port=port, api_key=key, alias=config.name,
            n_ctx=config.verify.n_ctx, threads=config.verify.threads, parallel=config.serve.parallel,
            answer_tokens=config.evaluate.max_new_tokens, metrics=True,
        ) as server,
        _stop_signals() as stop,  # last: while a large file is hashed and loaded, Ctrl-C must end the command at once
    ):  # fmt: skip
        _check_unchanged(model)
        example = _curl(server.url, config.name, prompt_messages(run, "…"), api_key_file)
        document = {"url": server.url, "model": config.name, "file": str(model.path), "digest": model.digest}
        console.result(document, f"{config.name} ({model.path.name}) at {server.url}\n\n{example}\n")
        server.child.log.show(lambda line: console.warn(f"llama.cpp: {line}"))
        console.say("stop with Ctrl-C")
        while not stop.wait(0.2):
            if server.process.poll() is not None:
                raise server.gone("it is gone")
    console.say("stopped")


def ask(run_dir: Path, text: str, *, quant: str | None, console: Console) -> Reply:
    """One question to a run's model, asked exactly as in training. Raises what `serve` raises."""
    if not text.strip():
        raise UsageError("there is no question", hint=f'holdfast ask {run_dir} "…"')
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("the question is not UTF-8 text", hint="convert it, for example with iconv -t UTF-8")
    run = RunDir(run_dir)
    config = run.read_config()
    require_keep(run, run_dir)
    refuse_unmeasured(run, config, "verify", SERVED)
    messages = prompt_messages(run, text)
    with checked_model(run, config, quant) as model, _start_for_ask(model, config) as server:
        _check_unchanged(model)
        reply = server.chat(messages, config.evaluate.max_new_tokens)
    if not reply.stopped:
        console.warn(f"the answer was cut off after {reply.tokens} tokens (evaluate.max_new_tokens)")
    return reply


def require_keep(run: RunDir, run_dir: Path) -> None:
    """Raise UsageError unless the run's verdict is `keep`, IntegrityError when the decision was changed afterwards."""
    folder = run.stage("decide").path
    if read_manifest(folder) is None:
        raise UsageError(f"{run_dir} has no decision yet", hint=f"holdfast status {run_dir}")
    verdict = _read_product(run, "decide", "decision.json")["verdict"]
    if verdict != "keep":
        raise UsageError(
            f"{run_dir} is not served: its verdict is {verdict!r}, and only a model that was shown to be better "
            f"(`keep`) is; there is no flag to override this. The reasons are in {folder / 'decision.md'}",
            hint=f"holdfast status {run_dir} shows what is missing; holdfast run -c FILE decides again",
        )


@contextlib.contextmanager
def checked_model(run: RunDir, config: RunConfig, quant: str | None) -> Iterator[CheckedModel]:
    """Open the run's GGUF file and hash what was opened; no one can swap the file between the check and the use.

    Raises UsageError when the run has no such file, IntegrityError when its digest is not the manifest's, or when the
    proof that it is better is not there any more.
    """
    folder = run.stage("export").path
    manifest = read_manifest(folder)
    deployed = quant or deployed_quantization(config.verify.deploy, run.stage("verify").path)
    name = f"{config.name}-{deployed}.gguf"
    if manifest is None or name not in manifest.products:
        made = sorted(path for path in (manifest.products if manifest else ()) if path.endswith(".gguf"))
        raise UsageError(
            f"the run has no {name}; it has: {', '.join(made) or 'no GGUF file'}",
            hint="leave --quant out for the deployed file",
        )
    expected = manifest.products[name].digest
    _require_measured(run, name, expected)
    require_proven(run)
    try:
        file = (folder / name).open("rb")
    except OSError as error:
        raise IntegrityError(f"{folder / name}: {error.strerror}", hint="holdfast run -c FILE makes it again") from None
    with file:
        opened = os.fstat(file.fileno())
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected:
            raise IntegrityError(
                f"{folder / name} is not the file that was measured: digest {digest}, manifest says {expected}",
                hint="holdfast run -c FILE makes it again",
            )
        yield CheckedModel(folder / name, file.fileno(), digest, opened)


def prompt_messages(run: RunDir, text: str) -> list[Message]:
    """The conversation that training would have made of `text`: system prompt, instruction, text."""
    task = _read_product(run, "prepare", "task.json")
    system, instruction = task.get("system_prompt") or "", task.get("instruction") or ""
    if instruction and not text.startswith(instruction):
        text = f"{instruction}\n\n{text}"
    messages = [Message(role="system", content=system)] if system else []
    return [*messages, Message(role="user", content=text)]


def _read_product(run: RunDir, stage: str, name: str) -> dict[str, Any]:
    """A JSON product of a finished stage; IntegrityError when it is not what the stage wrote."""
    folder = run.stage(stage).path
    manifest = read_manifest(folder)
    product = manifest.products.get(name) if manifest else None
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise IntegrityError(f"{folder / name}: {error.strerror}", hint=f"holdfast status {run.path}") from None
    if product is None or digest_bytes(data) != product.digest:
        raise IntegrityError(
            f"{folder / name} is not what the stage wrote", hint=f"holdfast check {run.path} --read-data"
        )
    document: dict[str, Any] = json.loads(data)
    return document


def _require_measured(run: RunDir, name: str, digest: str) -> None:
    """The decision must be about this very file: follow the digests from decide over verify to export."""
    verify, decide = read_manifest(run.stage("verify").path), read_manifest(run.stage("decide").path)
    if verify is None:
        raise IntegrityError(
            f"{run.path}: stage verify was begun again and is not finished: {name} is not measured now",
            hint="holdfast run -c FILE finishes it",
        )
    ladder = verify.products.get("ladder.json")
    measured = verify.materials.get(f"export/{name}")
    decided = decide.materials.get("verify/ladder.json") if decide else None
    if measured != digest or ladder is None or ladder.digest != decided:
        raise IntegrityError(
            f"the decision of {run.path} is about another {name}: it was exported again after it was measured",
            hint="holdfast run -c FILE measures and decides again",
        )


def _start_for_ask(model: CheckedModel, config: RunConfig) -> LlamaServer:
    return start_server(
        model.path, descriptor=model.descriptor, parallel=1, n_ctx=config.verify.n_ctx, threads=config.verify.threads
    )


def _check_unchanged(model: CheckedModel) -> None:
    """The file may have been written in place while it was loaded; the time of its last change tells."""
    now = os.fstat(model.descriptor)
    if (now.st_mtime_ns, now.st_size) != (model.opened.st_mtime_ns, model.opened.st_size):
        raise IntegrityError(f"{model.path} changed while it was loaded", hint="holdfast run -c FILE makes it again")


def _read_key(path: Path | None, console: Console) -> str | None:
    if path is None:
        return None
    try:
        key = path.read_text().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"the API key file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        key = ""
    if (
        not key.isascii()
        or not key.isprintable()
        or not key
        or any(character.isspace() or character == "," for character in key)
    ):
        raise UsageError(
            f"{path} must hold one key: one word of ASCII characters without commas",
            hint=f"(umask 077; openssl rand -hex 32 > {path})",
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        console.warn(f"others than its owner may read the API key file {path} (mode {mode & 0o777:o}): chmod 600 it")
    return key


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the handlers from before come back at the end."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _curl(url: str, model: str, messages: list[Message], key_file: Path | None) -> str:
    body: dict[str, Any] = {
        "model": model, "temperature": 0, "messages": [{"role": m.role, "content": m.content} for m in messages],
    }  # fmt: skip
    key = f"  -H \"authorization: Bearer $(cat '{key_file}')\" \\\n" if key_file else ""
    data = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    return f"curl {url}/v1/chat/completions -H 'content-type: application/json' \\\n{key}  -d '{data}'"
