"""The process that holds llama.cpp's HTTP server, seen from its parent: start, log, end. `runtime.py` talks to it.

The child is `llama_child.py`, run as a script. It dies with this process.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from holdfast.core.errors import ServerError

LOG_LINES = 6
STOP_SECONDS = 5.0
CHILD = Path(__file__).with_name("llama_child.py")


class LlamaProcess:
    """A child that was started and is loading or serving; made by `start_process`."""

    def __init__(self, popen: subprocess.Popen[bytes], log: IO[bytes], settings: dict[str, Any], backend: str) -> None:
        self.popen = popen
        self.backend = backend
        self._log = log
        self._settings = settings

    def hand_over(self, gguf: Path, seconds: float) -> str:
        """Give the settings to the child and wait for its report: the URL where it listens (not yet: has loaded).

        gguf: the name for messages. Raises ServerError when the child ends or says nothing within `seconds`.
        """
        if self.popen.stdin is None or self.popen.stdout is None:
            raise ServerError("the server's pipes are missing")
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(json.dumps(self._settings).encode() + b"\n")
        if not select.select([self.popen.stdout], [], [], seconds)[0]:
            raise ServerError(f"{gguf} was not loaded within {seconds:.0f} s")
        report = json.loads(self.popen.stdout.readline() or b"{}")
        if "url" not in report:
            raise self.gone(f"{gguf} cannot be served")
        return str(report["url"])

    def log_lines(self, limit: int = LOG_LINES) -> list[str]:
        """First and last lines of the server's log, `limit` of each, without the time stamps."""
        self._log.seek(0)
        data = self._log.read(65536)
        self._log.seek(max(len(data), self._log.seek(0, os.SEEK_END) - 65536))
        lines = (data + self._log.read()).decode(errors="replace").splitlines()
        told = [(line.partition(" ")[2] if line[:1].isdigit() else "") or line for line in lines if line.strip()]
        return told if len(told) <= 2 * limit else [*told[:limit], "…", *told[-limit:]]

    def gone(self, what: str) -> ServerError:
        """A ServerError that says whether the child still runs or how it ended, with lines of its log."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=1)
        state = _describe_status(status := self.popen.poll())
        log = "".join(f"\n  | {line}" for line in self.log_lines())
        hint = "`dmesg` says whether the kernel ended it for want of memory" if status == -signal.SIGKILL else ""
        return ServerError(f"llama.cpp server: {what}; {state}{f'. Its log:{log}' if log else ''}", hint=hint)

    def close(self) -> None:
        """Stop the child and wait for its end; may be called twice."""
        self.popen.terminate()
        try:
            self.popen.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def start_process(settings: dict[str, Any], descriptor: int | None) -> LlamaProcess:
    """Start the child; it waits for `hand_over`. `settings` are those that `llama_child.py` reads, without the ones
    that say who the parent is and which binary there is. descriptor: an open file that the child inherits.

    A `llama-server` on PATH is preferred (it may use the GPU), else the xllamacpp wheel.
    """
    binary = shutil.which("llama-server")
    told = settings | {
        "llama_server": binary,
        "parent": os.getpid(),
        "started_by_main_thread": threading.current_thread() is threading.main_thread(),
    }
    log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)
    popen = subprocess.Popen(
        [sys.executable, "-P", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
        start_new_session=True, pass_fds=() if descriptor is None else (descriptor,),
    )  # fmt: skip
    return LlamaProcess(popen, log, told, "llama-server" if binary else "xllamacpp")


def _describe_status(status: int | None) -> str:
    if status is None:
        return "it still runs"
    return f"it ended with signal {-status}" if status < 0 else f"it ended with exit status {status}"
