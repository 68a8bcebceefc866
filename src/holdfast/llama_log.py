"""What llama.cpp's server prints: a little of it is kept in memory, and shown while it serves; none of it is on disk.

At the verbosity that holdfast sets (`llama_child.py`) a start and an answered request print nothing. A refused request
prints a line of about 150 bytes, a wrong grammar also the grammar: a client can make it print without end.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader

KEPT_LINES = 6  # first ones and last ones, for the message of a server that ended
LINE_BYTES = 500
SHOWN_LINES, SHOWN_SECONDS = 60, 60.0
# Time since the start, and a letter for the level: "0.00.018.869 E srv …". I and D are of a `llama-server` that knows
# the verbosity by another name: it says I for every request, and D with the prompt in it.
_PREFIX = re.compile(r"\d[\d.]*\.\d+ ([A-Z]) ")
_NOISE = ("I", "D")


class ServerLog:
    """First and last lines, and where new ones are shown. `add` runs in a thread of its own (`follow`)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._left_out = False
        self._show: Callable[[str], None] | None = None
        self._clock = clock
        self._since, self._shown = clock(), 0
        self._lock = threading.Lock()

    def follow(self, stream: BufferedReader) -> threading.Thread:
        """Read `stream` to its end in a thread, so that the server never waits for a full pipe."""
        thread = threading.Thread(target=self._read, args=(stream,), name="llama.cpp log", daemon=True)
        thread.start()
        return thread

    def _read(self, stream: BufferedReader) -> None:
        begins = True
        with stream:
            while piece := stream.readline(LINE_BYTES):
                if begins:  # the rest of a longer line is dropped
                    self.add(piece)
                begins = piece.endswith(b"\n")

    def add(self, line: bytes) -> None:
        """Keep a line, and show it. Control characters are escaped: clients choose what is in a wrong grammar."""
        text = line.decode(errors="replace").rstrip()
        found = _PREFIX.match(text)
        if not text or (found and found[1] in _NOISE):
            return
        told = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[found.start(1) if found else 0 :])
        with self._lock:
            if len(self._first) < KEPT_LINES:
                self._first.append(told)
            else:
                self._left_out |= len(self._last) == KEPT_LINES
                self._last.append(told)
            if self._show is not None:
                self._pass_on(self._show, told)

    def show(self, show: Callable[[str], None]) -> None:
        """From now on give each line to `show`, but no more than SHOWN_LINES in SHOWN_SECONDS."""
        with self._lock:
            self._show = show
            for line in self._first:
                self._pass_on(show, line)

    def _pass_on(self, show: Callable[[str], None], line: str) -> None:
        now = self._clock()
        if now - self._since >= SHOWN_SECONDS:
            if self._shown > SHOWN_LINES:
                self._try(show, f"({self._shown - SHOWN_LINES} more lines were not shown)")
            self._since, self._shown = now, 0
        self._shown += 1
        if self._shown <= SHOWN_LINES:
            self._try(show, line)

    @staticmethod
    def _try(show: Callable[[str], None], line: str) -> None:
        with suppress(OSError, ValueError):  # a full disk or a closed pipe below stderr: answers go on
            show(line)

    def lines(self) -> list[str]:
        """First and last lines, KEPT_LINES of each, without the time stamps; "…" where some were between."""
        with self._lock:
            return [*self._first, *(["…"] if self._left_out else []), *self._last]
