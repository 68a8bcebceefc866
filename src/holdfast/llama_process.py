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
import threading
from io import BufferedReader
from pathlib import Path
from typing import Any

from holdfast.core.errors import ServerError
from holdfast.llama_log import ServerLog

STOP_SECONDS = 5.0
CHILD = Path(__file__).with_name("llama_child.py")


class LlamaProcess:
    """A child that was started and is loading or serving; made by `start_process`."""

    def __init__(
        self, popen: subprocess.Popen[bytes], printed: BufferedReader, settings: dict[str, Any], backend: str
    ) -> None:
        self.popen = popen
        self.backend = backend
        self.log = ServerLog()
        self._settings = settings
        self._reader = self.log.follow(printed)

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

    def gone(self, what: str) -> ServerError:
        """A ServerError that says whether the child still runs or how it ended, with lines of its log."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=1)
            self._reader.join(timeout=1)  # its last words
        state = _describe_status(status := self.popen.poll())
        log = "".join(f"\n  | {line}" for line in self.log.lines())
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
        self._reader.join(timeout=1)
        for stream in (self.popen.stdin, self.popen.stdout):
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
    reading, writing = os.pipe()
    try:
        popen = subprocess.Popen(
            [sys.executable, "-P", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing,
            bufsize=0, start_new_session=True, pass_fds=() if descriptor is None else (descriptor,),
        )  # fmt: skip
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return LlamaProcess(popen, os.fdopen(reading, "rb"), told, "llama-server" if binary else "xllamacpp")


def _describe_status(status: int | None) -> str:
    if status is None:
        return "it still runs"
    return f"it ended with signal {-status}" if status < 0 else f"it ended with exit status {status}"
