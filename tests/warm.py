"""One process that has loaded the heavy libraries, and forks a command from itself whenever a test wants one.

Each command is still a process of its own, with its own environment, folder, exit status and memory; only the seconds
of importing are paid once a session instead of once a command. Where a card is in the machine nothing is forked.

python tests/warm.py SOCKET     is the server; it ends when its standard input does. `run_warm` is the client.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

ROOT = Path(__file__).parents[1]
# What a run loads at some point; the server only imports them and computes nothing, so that no thread is forked away.
PRELOADED = (
    "torch", "transformers", "transformers.models.qwen2.modeling_qwen2", "peft", "trl", "trl.trainer.sft_trainer",
    "bitsandbytes", "datasets", "accelerate", "gguf", "scipy.stats", "jsonschema", "jinja2.sandbox", "spacy",
    "holdfast.pipeline", "holdfast.cli", "holdfast.models", "holdfast.train.trainer", "holdfast.export.merge",
    "holdfast.export.quantize", "holdfast.evaluate.forgetting", "holdfast.distributions",
)  # fmt: skip
CARD = Path("/dev/nvidiactl")


class Finished(NamedTuple):
    """A command that ended. A negative code is the signal that ended it."""

    code: int
    out: str
    err: str


def available() -> bool:
    """Whether commands may be forked here: a process that has looked at a CUDA card may not."""
    return hasattr(os, "fork") and not CARD.exists()


def run_warm(
    script: Path | None, words: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float
) -> Finished:
    """`python -m holdfast WORDS`, or `python SCRIPT WORDS`, forked from the warm process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Process(script, words, cwd, environment, out, err)
        try:
            code = process.wait(timeout)
        except BaseException:  # also Ctrl-C: a forked command has a session of its own
            process.send_signal(signal.SIGKILL)
            raise
        out.seek(0)
        err.seek(0)
        return Finished(code, out.read().decode(), err.read().decode())


def start_warm(words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> "Process":
    """`python -m holdfast WORDS`, forked from the warm process and still running; what it says is thrown away."""
    with Path(os.devnull).open("wb") as nowhere:
        return Process(None, words, cwd, environment, nowhere, nowhere)


class Process:
    """A forked command, with what the tests use of subprocess.Popen."""

    def __init__(
        self, script: Path | None, words: Sequence[str], cwd: Path, environment: Mapping[str, str], out: IO[bytes],
        err: IO[bytes],
    ) -> None:  # fmt: skip
        self.words = list(words)
        self.code: int | None = None
        request = {
            "script": script and str(script), "words": self.words, "cwd": str(cwd), "environment": dict(environment),
        }  # fmt: skip
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(_server()))
        message = json.dumps(request).encode()
        socket.send_fds(connection, [len(message).to_bytes(8, "big")], [out.fileno(), err.fileno()])
        connection.sendall(message)
        self.answers = connection.makefile("r")
        self.connection = connection
        if not select.select([connection], [], [], 60)[0]:
            raise subprocess.TimeoutExpired(self.words, 60)
        self.pid = int(self.answers.readline())

    def wait(self, timeout: float) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        if self.code is None:
            if not select.select([self.connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.words, timeout)
            self.code = int(self.answers.readline())
            self.answers.close()
            self.connection.close()
        return self.code

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        """As os.kill; nothing when it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@functools.cache
def _server() -> Path:
    """The socket of this session's warm process, which lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    path = Path(folder.name) / "socket"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", "the warm process did not start"
    _server.kept = (folder, process)  # type: ignore[attr-defined]
    return path


class Command(NamedTuple):
    """What a forked process is to become."""

    request: Mapping[str, Any]
    out: int
    err: int


def wait_for_requests(path: str) -> Command | None:
    """Fork for each request. Returns a Command in the process that is to become it, None in the server at its end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if 0 in ready:
                return None
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _handle(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _handle(connection: socket.socket) -> Command:
    """Fork the command; this process then only waits for its end and says how it was."""
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 2)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(head, "big")))
    pid = os.fork()
    if pid == 0:
        connection.close()
        return Command(request, *descriptors)
    connection.sendall(f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # whoever asked may have gone
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def become(command: Command) -> NoReturn:
    """Be what a fresh interpreter would be for this command. At its end only what a program asked for at exit is done:
    to take all those modules down would touch, and so copy, every page of them."""
    request = command.request
    os.setsid()
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (command.out, 1), (command.err, 2)):
        os.dup2(source, target)
        os.close(source)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if request["script"]:
            sys.argv = [request["script"], *request["words"]]
            runpy.run_path(request["script"], run_name="__main__")
        else:
            sys.argv = ["holdfast", *request["words"]]
            runpy.run_module("holdfast", run_name="__main__", alter_sys=True)
    finally:
        leave(sys.exc_info()[1])


def leave(error: BaseException | None) -> NoReturn:
    """End this process as the interpreter would for what left the program."""
    code: Any = 0
    if isinstance(error, SystemExit):
        code = error.code
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def main() -> None:
    """The server, and in forked processes the command."""
    importlib.import_module("holdfast.models").go_offline()
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    command = wait_for_requests(sys.argv[1])
    if command is not None:
        become(command)


if __name__ == "__main__":
    main()
