"""Fuzz every reader: python tests/fuzz_readers.py [N] [--seed S]. Prints one JSON line; exit 1 when anything failed.

Sound files of every format and wrapping are mutated (bytes, words of the format, JSON values, slices of other files)
and read as a source. Whatever comes out must be examples, defects or a HoldfastError: no other exception, no more
than LIMIT seconds, no file opened for writing. The same seed gives the same inputs.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.config import Source
from holdfast.core.errors import HoldfastError
from holdfast.core.records import Example
from holdfast.sources.defects import Defect
from holdfast.sources.readers import read_source
from source_rows import PAGE, ROWS, RULES, TICKETS, as_gzip, as_jsonl, as_parquet, as_zst

LIMIT = 5
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
WORDS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe",
    b"NaN", b"-Infinity", b"1e999", b"null", b"true", b"\\ud800", b"\xed\xa0\x80", b"9" * 400, b"[" * 300, b'{"a":' * 300,
    b'"messages"', b'"conversations"', b'"from"', b'"role"', b'"tool"', b'"gpt"', b'"chosen"', b'"rejected"',
    b'"prompt"', b'"tools":[{}],', b";", b"\t", b'""', b"- ", b"---\n", b"&a ", b"*a", b"<<: ", b"!!python/object:os.system", b"# ",
    b"## ", b"```\n", b"~~~", b"groups:\n", b"expr: ", b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"  ", b"'",
    b"{{ $x }}",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, 2**70, 1e308, "", " ", "x", "é", "\ud800", [], {}, [[]], [None], {"role": "tool"}, {"from": 1},
    [{"role": "user", "content": "a"}], "\x00", "A" * 3000, {"mean": 0, "stddev": 0}, [{"from": "gpt", "value": "x"}],
]  # fmt: skip


class Seed(NamedTuple):
    """A sound file. `options` are those of its source."""

    name: str
    data: bytes
    options: dict[str, Any]


class HangError(BaseException):
    """An input took longer than the limit; a BaseException, so that no reader swallows it."""


def make_seeds() -> list[Seed]:
    """Every format in every wrapping that can hold it."""
    seeds = []
    for form, rows in ROWS.items():
        options = {"tickets": TICKETS} if form == "tickets" else {}
        seeds.append(Seed(f"{form}.jsonl", as_jsonl(rows), options))
        seeds.append(Seed(f"{form}-named.jsonl", as_jsonl(rows), {**options, "format": form}))
        seeds.append(Seed(f"{form}.json", json.dumps(rows, indent=1).encode(), options))
        seeds.append(Seed(f"{form}-object.json", json.dumps({"version": 1, "data": rows}, indent=1).encode(), options))
    seeds.append(Seed("messages.parquet", as_parquet(ROWS["messages"]), {}))
    seeds.append(Seed("instruction.parquet", as_parquet([{"instruction": "a", "output": "b"}] * 20), {}))
    seeds.append(Seed("instruction.csv", b'instruction,input,output\na,"b ""c""",d\ne,,f\n', {}))
    seeds.append(Seed("preference.tsv", b"prompt\tchosen\trejected\na\tb\tc\n", {}))
    seeds.append(Seed("tickets.csv", b"subject;body;priority;reason\nx;y;high;z\n", {"tickets": TICKETS}))
    seeds.append(Seed("messages.jsonl.gz", as_gzip(as_jsonl(ROWS["messages"])), {}))
    seeds.append(Seed("messages.jsonl.zst", as_zst(as_jsonl(ROWS["messages"])), {}))
    crd = "kind: PrometheusRule\nspec:\n" + "".join(f"  {line}\n" for line in RULES.splitlines())
    seeds.append(Seed("rules.yaml", RULES.encode(), {"format": "prometheus_rules"}))
    seeds.append(Seed("crd.yml", crd.encode(), {"format": "prometheus_rules"}))
    seeds.append(Seed("page.md", PAGE.encode(), {}))
    return seeds


def mutate(data: bytes, others: list[Seed], rng: random.Random) -> bytes:
    """One to four changes of any kind."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 5, 40)))
        kind = rng.randrange(7)
        if kind == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:at] + rng.choice(WORDS) + data[at:]
        elif kind == 3:
            data = data[:at] + data[at:end] * rng.choice((2, 3, 50)) + data[end:]
        elif kind == 4:
            data = data[:at]
        elif kind == 5:
            other = rng.choice(others).data
            data = data[:at] + other[rng.randrange(len(other)) :][:200] + data[end:]
        else:
            data = _change_value(data, rng)
    return data


def _change_value(data: bytes, rng: random.Random) -> bytes:
    """Replace, add or drop a value somewhere in the first JSON row; data that is no JSON stays."""
    line, newline, rest = data.partition(b"\n")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return data
    place: Any = row
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        if not keys:
            return data
        key = rng.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
            break
        place = place[key]
    if rng.random() < 0.2:
        del place[key]
    else:
        place[key] = rng.choice(VALUES)
    return json.dumps(row).encode() + newline + rest


class _Watch:
    """Sees every file that is opened for writing while a reader works."""

    def __init__(self) -> None:
        self.active = False
        self.written: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, values: tuple[Any, ...]) -> None:
        if self.active and (
            event == "open"
            and (values[2] or 0) & WRITING
            or event in ("os.mkdir", "os.rename", "os.remove", "os.system")
        ):
            self.written.append(f"{event} {values[0]!r}")


def check(path: Path, options: dict[str, Any]) -> str:
    """Read one input; returns what came out. Raises AssertionError for what must not come out."""
    outcome = "nothing"
    try:
        for item in read_source(Source.model_validate({"path": str(path), **options}), path.name):
            if isinstance(item, Example):
                outcome = "examples" if outcome != "defects" else outcome
                assert item.source.startswith(path.name), item
                assert item.messages[-1].role == "assistant", item
                assert all(type(m.content) is str and m.content.strip() for m in item.messages), item
                str([item.messages, item.tags, item.rejected]).encode()
            else:
                outcome = "defects"
                assert isinstance(item, Defect), item
                assert item.source.startswith(f"{path.name}:"), item
                assert len(item.value) <= 80, item
                str(tuple(item)).encode()
    except HoldfastError as error:
        error.message.encode()
        assert error.hint or error.message, error
        return "refused"
    return outcome


def fuzz(count: int, seed: int, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Read `count` mutated files; the account of what came out. `failures` holds at most 20 descriptions."""
    rng = random.Random(seed)
    seeds = make_seeds()
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    watch = _Watch()
    slowest = 0.0

    def hang(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            for number in range(count):
                chosen = seeds[number % len(seeds)]
                data = mutate(chosen.data, seeds, rng)
                path = Path(folder) / chosen.name
                path.write_bytes(data)
                begin = time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, LIMIT)
                watch.active = True
                try:
                    outcomes[check(path, chosen.options)] += 1
                except (Exception, HangError) as error:  # noqa: BLE001 (that is what is looked for)
                    failures.append(
                        f"input {number} of seed {seed}, {chosen.name}: {type(error).__name__}: {error}"[:400]
                    )
                finally:
                    watch.active = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
                slowest = max(slowest, time.monotonic() - begin)
                if os.listdir(folder) != [chosen.name]:  # noqa: PTH208
                    failures.append(f"input {number} of seed {seed}: files were left: {os.listdir(folder)}")  # noqa: PTH208
                path.unlink()
                if len(failures) >= 20:
                    break
                if number % 20_000 == 19_999:
                    say(f"{number + 1} inputs, {dict(outcomes)}")
    finally:
        signal.signal(signal.SIGALRM, before)
    failures += watch.written[:20]
    return {
        "inputs": sum(outcomes.values()) + len(failures), "seed": seed, "files": len(seeds), "outcomes": dict(outcomes),
        "failures": failures, "slowest_ms": round(slowest * 1000, 1), "seconds": round(time.monotonic() - started, 1),
        "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, "python": sys.version.split()[0],
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    account = fuzz(given.count, given.seed, lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(account))
    sys.exit(bool(account["failures"]))
