"""SWI-Prolog as a sandboxed child process: give it files as text, ask listed predicates, get plain values.

The worker (`prolog_worker.pl`) checks every clause before it takes any, and the process stands behind the walls of
`prolog_jail`. It is given no file and writes none. One worker reads one knowledge base; whatever goes wrong in it (a
limit, a crash, silence) refuses the knowledge base.
"""

import json
import os
import re
import select
import shutil
import subprocess
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from holdfast.core.errors import ContractError, StageError, UsageError
from holdfast.sources.prolog_jail import make_jail

WORKER = Path(__file__).with_name("prolog_worker.pl")
INSTALL = "apt-get install swi-prolog-nox  (or another SWI-Prolog of version 9, with swipl on the PATH)"
MEBIBYTE = 2**20
GRACE_SECONDS = 3.0  # past its own time limit, before the worker counts as hanging
START_SECONDS = 20.0
SHOWN = 50
PIPE_BYTES, BATCH = 32 * 1024, 64
PLAIN_CONTROLS = frozenset("\t\n\r")
KEEP = (
    "keep facts and rules; of directives only dynamic, discontiguous and module are allowed "
    "(library lists, apply, aggregate and pairs are there without use_module)"
)
HINTS = {
    "encoding": "save the file as UTF-8 without a byte-order mark and without invisible characters",
    "syntax": "look at the line and at the clause before it",
    "goal": "rules may call rules of these files and the built-in predicates for lists, text and numbers, nothing that "
    "reads, writes or changes facts",
}


class Limits(NamedTuple):
    """What a knowledge base may cost. seconds and inferences hold for one query; a breach refuses, nothing is cut.

    rows, characters: answers to one query. clauses, predicates, cells (of one term; a list of n holds 3n), file_bytes:
    the files. stack_mebibytes: Prolog's stacks; memory_mebibytes: the process; cpu_seconds: its whole life.
    """

    seconds: int = 2
    inferences: int = 5_000_000
    rows: int = 10_000
    characters: int = 1_000_000
    clauses: int = 20_000
    predicates: int = 500
    cells: int = 20_000
    file_bytes: int = 2 * MEBIBYTE
    stack_mebibytes: int = 128
    memory_mebibytes: int = 1024
    cpu_seconds: int = 120


class PrologString(str):
    """A Prolog string ("…"); an atom is a plain `str`. They differ in Prolog, so they go back as what they came."""


class PrologTerm(str):
    """A compound term as quoted text."""


Value = int | float | str
DEFAULT_LIMITS = Limits()


class Prolog:
    """A worker with one knowledge base. Use it in a `with` block; it ends with it."""

    def __init__(self, process: "subprocess.Popen[bytes]", name: str, limits: Limits) -> None:
        self.process = process
        self.name = name
        self.limits = limits
        self.predicates: frozenset[str] = frozenset()
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker; it has nothing to save."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()

    def ask(self, predicate: str, *arguments: Value | None) -> list[tuple[Value, ...]]:
        """All solutions, as the values of all arguments; None asks. Raises ContractError when a limit is passed, an
        answer leaves a value open or the predicate was not allowed, StageError when the worker dies."""
        return self.ask_many(predicate, [arguments])[0]

    def ask_many(self, predicate: str, questions: Sequence[Sequence[Value | None]]) -> list[list[tuple[Value, ...]]]:
        """`ask` for each list of arguments, in order; several are under way at once. Raises as `ask`."""
        found: list[list[tuple[Value, ...]]] = []
        for batch in _batches([_question(predicate, arguments) for arguments in questions]):
            answers = self._exchange(batch, self.limits.seconds + GRACE_SECONDS)
            for answer, arguments in zip(answers, questions[len(found) :], strict=False):
                if not answer["ok"]:
                    asked = ", ".join("_" if a is None else str(a) for a in arguments)
                    raise ContractError(
                        f"{self.name}: {predicate}({asked}): {answer['error']}",
                        hint="correct the predicate; limits are keys of `prolog:` on the source",
                    )
                found.append([tuple(_value(v) for v in row) for row in answer["rows"]])
        return found

    def load(self, files: Sequence[tuple[str, str]], allowed: Sequence[str]) -> None:
        """Take (name, text) files as one knowledge base; `allowed`: predicates to be asked, as `name/arity`.

        Raises ContractError with every problem of every file; then nothing was taken.
        """
        request = {"load": [{"name": name, "text": text} for name, text in files], "allow": list(allowed)}
        (answer,) = self._exchange([_line(request)], 2 * self.limits.seconds + GRACE_SECONDS)
        if not answer["ok"]:
            found = answer.get("problems") or [
                {"file": self.name, "line": 1, "rule": "limit", "message": answer["error"]}
            ]
            raise refusal([f"{p['file']}:{p['line']}: {p['rule']}: {p['message']}" for p in found], self.name)
        self.predicates = frozenset(answer["predicates"])

    def _exchange(self, requests: Sequence[bytes], seconds: float) -> list[dict[str, Any]]:
        """Send all requests, then read as many answers; `seconds` is the limit for each."""
        try:
            self._send(b"".join(requests), time.monotonic() + seconds)
            lines = [self._read_line(time.monotonic() + seconds) for _ in requests]
        except (BrokenPipeError, EOFError):
            self.process.wait()
            raise ContractError(
                f"{self.name}: the Prolog worker died ({_ending(self.process.returncode)}) "
                "while it worked on this knowledge base; nothing was taken from it",
                hint="look for a query without end or a huge term",
            ) from None
        except TimeoutError:
            self.close()
            raise ContractError(
                f"{self.name}: the Prolog worker was silent for {seconds:g} s (the limit for one query is "
                f"{self.limits.seconds} s) and was stopped; nothing was taken from it",
                hint="look for a query without end or a huge term",
            ) from None
        try:
            return [dict(json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            self.close()
            raise StageError(f"{self.name}: the Prolog worker answered what is no JSON: {lines[0][:80]!r}") from None

    def _send(self, data: bytes, deadline: float) -> None:
        descriptor = self.process.stdin.fileno() if self.process.stdin else -1
        while data:
            ready = select.select([], [descriptor], [], max(0.0, deadline - time.monotonic()))[1]
            if not ready:
                raise TimeoutError
            data = data[os.write(descriptor, data) :]

    def _read_line(self, deadline: float) -> bytes:
        descriptor = self.process.stdout.fileno() if self.process.stdout else -1
        limit = 10 * self.limits.characters + MEBIBYTE
        while (end := self._buffer.find(b"\n")) < 0:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(descriptor, 65536)
            if not data or len(self._buffer) > limit:
                raise EOFError
            self._buffer += data
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line


def start_prolog(name: str, limits: Limits = DEFAULT_LIMITS) -> Prolog:
    """Start a worker for the knowledge base called `name`. Raises UsageError where there is no swipl."""
    found = shutil.which("swipl")
    if found is None:
        raise UsageError(f"{name}: reading Prolog needs SWI-Prolog, and there is no `swipl` on the PATH", hint=INSTALL)
    program = Path(found).resolve()
    command = [
        str(program), "-q", "--no-tty", "-f", "none", f"--stack-limit={limits.stack_mebibytes}m", "--no-signals",
        "--no-packs", str(WORKER), "--",
        *(str(n) for n in (limits.seconds, limits.inferences, limits.rows, limits.characters, limits.clauses,
                           limits.predicates, limits.cells)),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
        env={"PATH": "", "LANG": "C.UTF-8", "HOME": "/"}, start_new_session=True,
        preexec_fn=make_jail(program, WORKER, limits.memory_mebibytes * MEBIBYTE, limits.cpu_seconds),  # noqa: PLW1509
    )  # fmt: skip
    prolog = Prolog(process, name, limits)
    try:
        prolog._read_line(time.monotonic() + START_SECONDS)
    except (EOFError, TimeoutError):
        prolog.close()
        raise StageError(
            f"{name}: the Prolog worker did not start ({_ending(process.returncode)})",
            hint=f"try: {program} --version; needed is {INSTALL}",
        ) from None
    return prolog


def read_texts(kb: str, files: Sequence[tuple[str, Path]], limits: Limits = DEFAULT_LIMITS) -> list[tuple[str, str]]:
    """(name, text) of each file of the knowledge base `kb`: UTF-8 without tricks.

    Raises ContractError with every problem of every file.
    """
    texts, problems = [], []
    for name, path in files:
        data = path.read_bytes()
        found = check_bytes(name, data, limits)
        problems += found
        if not found:
            texts.append((name, data.decode()))
    if problems:
        raise refusal(problems, kb)
    return texts


def check_bytes(name: str, data: bytes, limits: Limits) -> list[str]:
    """What is wrong with the bytes of a file, before Prolog sees them."""
    if len(data) > limits.file_bytes:
        return [f"{name}:1: limit: {len(data):,} bytes; the limit is {limits.file_bytes:,}"]
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return [f"{name}:{line}: encoding: byte {error.start} ({data[error.start]:#04x}) is not UTF-8"]
    return [
        f"{name}:{number}: encoding: invisible character U+{ord(character):04X}"
        for number, line in enumerate(text.split("\n"), 1)
        for character in dict.fromkeys(line)
        if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Co", "Cn") and character not in PLAIN_CONTROLS
    ]


def refusal(problems: Sequence[str], name: str) -> ContractError:
    """One error for all problems of a knowledge base: up to 50 shown, all counted."""
    rules = [found[1] for text in problems if (found := re.match(r".*?:\d+: (\w+): ", text))]
    more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return ContractError(
        f"{name} is refused as a whole, {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n  "
        + "\n  ".join([*problems[:SHOWN], *more]),
        hint="; ".join(dict.fromkeys(HINTS.get(rule, KEEP) for rule in rules)) or KEEP,
    )


def _question(predicate: str, arguments: Sequence[Value | None]) -> bytes:
    given = [{"string": str(a)} if isinstance(a, PrologString) else a for a in arguments]
    return _line({"ask": predicate, "args": given})


def _line(request: dict[str, Any]) -> bytes:
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"


def _batches(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Lines in groups that fit into an empty pipe, so that sending never waits for a worker that waits for us."""
    batch: list[bytes] = []
    for line in lines:
        if batch and (sum(map(len, batch)) + len(line) > PIPE_BYTES or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append(line)
    if batch:
        yield batch


def _value(value: Any) -> Value:
    if isinstance(value, dict):
        return PrologString(value["string"]) if "string" in value else PrologTerm(value["term"])
    return value if isinstance(value, int | float) else str(value)


def _ending(code: int | None) -> str:
    if code is None:
        return "no answer"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
