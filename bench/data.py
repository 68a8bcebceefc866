"""How fast and in how much memory is a data set prepared? Prints one JSON line.

python bench/data.py [--rows 100000 1000000 3000000] [--near] [--datasets] [--dir D]

Runs the product (`holdfast prepare`, as a user would) on generated rows of about 600 bytes, reads from the journal how
long each phase took, and samples the resident memory of the process and its children. `rows_per_second` is rows over
the seconds of stage collect plus the phases contract, conflicts, duplicates, assign and write of stage prepare: read →
contract → exact duplicates → split → write. `--redact` also masks secrets (`bench/redact.py` measures that alone). Near
duplicates and the split proof are counted apart. `--tokens` adds the token audit, `--near` adds near duplicates,
`--datasets` the same contract and duplicate work through `datasets.map` and `filter`, `--sketches` rensa against
datasketch.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTION = "Classify the support ticket priority and return strict JSON."
LABELS = ("critical", "high", "medium", "low")
COUNTED = ("contract", "conflicts", "duplicates", "assign", "write")
CONTRACT = f"""\
task: bench
instruction: "{INSTRUCTION}"
label_field: priority
labels: [{", ".join(LABELS)}]
required_fields: [priority, reason]
"""
WORDS = " ".join(
    (
        "checkout router storage backup cluster replica gateway billing queue worker cache index tenant login session",
        "certificate latency timeout deploy rollback schema shard partition volume snapshot mailbox printer sensor",
        "ledger invoice payment webhook proxy firewall tunnel switch rack node disk memory kernel driver firmware",
        "license token",
    )
).split(" ")


def write_rows(path: Path, rows: int, seed: int = 1) -> int:
    """Write generated rows as chat JSONL, one in fifty an exact copy of another; bytes written."""
    rng = random.Random(seed)
    domains = [f"team-{n}" for n in range(12)]
    body = ticket = answer = ""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % 50 != 1:
                body = " ".join(rng.choices(WORDS, k=38))
                ticket = f"Ticket {rng.getrandbits(60):x} of host {rng.randrange(10**6)}: {body}."
                answer = json.dumps({"priority": LABELS[number % 4], "reason": body[:90]})
            turns = [
                {"role": "user", "content": f"{INSTRUCTION}\n\n{ticket}"},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": turns, "domain": domains[number % 12]}) + "\n")
    return path.stat().st_size


def measure_product(folder: Path, data: Path, rows: int, *, near: bool, tokens: bool, redact: bool) -> dict[str, Any]:
    """One `holdfast prepare` in a process of its own; without `tokens` it is ended when the splits are written."""
    (folder / "contract.yaml").write_text(CONTRACT)
    threshold = "0.8" if near else "null"
    (folder / "holdfast.yaml").write_text(
        f"name: bench\ncollect:\n  sources:\n    - {{path: {data}}}\n"
        f"prepare: {{contract: contract.yaml, near_duplicate_threshold: {threshold}, test_set_size: 10000, "
        "val_set_size: 10000}\n"
        f"redact: {{enabled: {str(redact).lower()}, pseudonym_key_file: {folder / 'key'}}}\n"
    )
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "holdfast", "prepare", "-c", str(folder / "holdfast.yaml"), "--run-dir", str(run)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_WAIT_POLICY": "passive"}
    started = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        memory = Memory(process.pid, lambda: _phase(run))
        while process.poll() is None:
            time.sleep(0.05)
            if not tokens and _phase(run) == "tokens":
                process.kill()  # the token audit is not asked for
        code = process.wait()
    peak = memory.stop()
    if code and tokens:
        raise SystemExit(f"holdfast prepare ended with {code}:\n{(folder / 'log.txt').read_text()}")
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    seconds: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    for event in events:
        if event["event"] == "phase":  # the split may be dealt and proved more than once
            seconds[event["phase"]] += event["seconds"]
            cpu[event["phase"]] += event["cpu_seconds"]
    seconds.update({event["stage"]: event["seconds"] for event in events if event["event"] == "end"})
    counted = seconds["collect"] + sum(seconds[phase] for phase in COUNTED)
    found: dict[str, Any] = {
        "rows": rows,
        "bytes": data.stat().st_size,
        "rows_per_second": round(rows / counted),
        "prepare_rows_per_second": round(rows / (counted - seconds["collect"])),
        "prepare_rows_per_cpu_second": round(rows / sum(cpu[phase] for phase in COUNTED)),
        "collect_rows_per_second": round(rows / seconds["collect"]),
        "collect_rows_per_cpu_second": round(rows / (memory.cpu["collect"] - memory.cpu.get("start", 0.0))),
        "redact": redact,
        "seconds": {**seconds, "wall": round(time.monotonic() - started, 1)},
        "peak_rss_mib": {phase: round(size / 2**20) for phase, size in peak.items()},
    }
    if near:
        found["near_rows_per_second"] = round(rows / (seconds["near"] + seconds["proof"]))
        found["near_rows_per_cpu_second"] = round(rows / (cpu["near"] + cpu["proof"]))
    if tokens:
        report = json.loads((run / "02-prepare" / "report.json").read_text())
        found["token_rows_per_second"] = round(rows / seconds["tokens"])
        found["exact_duplicates"] = report["duplicates"]["exact_dropped_rows"]
        found["near_pairs"] = report["duplicates"]["near_pairs"]
        found["split_proof"] = report["split_proof"]["largest"]["similarity"]
    return found


def _phase(run: Path) -> str:
    """What runs now, from the last line of the journal."""
    order = (
        "contract",
        "conflicts",
        "duplicates",
        "near",
        "assign",
        "proof",
        "write",
        "augment",
        "tokens",
        "documents",
    )
    try:
        last = json.loads((run / "journal.jsonl").read_text().splitlines()[-1])
    except (OSError, IndexError, ValueError):
        return "start"
    if last["event"] == "phase":
        return order[order.index(last["phase"]) + 1]
    return "contract" if last.get("stage") == "prepare" else str(last.get("stage", "start"))


class Memory:
    """Samples a process and its children: most memory in each phase (shared pages count once), processor seconds."""

    def __init__(self, pid: int, phase: Callable[[], str]) -> None:
        self.peak: dict[str, int] = {}
        self.cpu: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid, phase))
        self._thread.start()

    def _watch(self, pid: int, phase: Callable[[], str]) -> None:
        while not self._ended.wait(0.1):
            try:
                tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
                size = sum(process.memory_full_info().pss for process in tree)
                cpu = sum(sum(process.cpu_times()[: 4 if process.pid == pid else 2]) for process in tree)
            except psutil.Error:
                continue
            name = phase()
            self.cpu[name] = cpu  # seconds since the start, of ended children too
            self.peak[name] = max(self.peak.get(name, 0), size)

    def stop(self) -> dict[str, int]:
        """End sampling; bytes by phase."""
        self._ended.set()
        self._thread.join()
        return self.peak


def measure_datasets(folder: Path, data: Path, rows: int) -> dict[str, Any]:
    """The same contract and exact duplicates with `datasets`: load, map (2 processes), filter, split, write."""
    script = Path(__file__).with_name("data_datasets.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_DATASETS_CACHE": str(folder / "cache"),
                                "HF_HUB_OFFLINE": "1"}  # fmt: skip
    started = time.monotonic()
    command = [sys.executable, str(script), str(data), str(folder / "peer"), str(folder / "contract.yaml")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    memory = Memory(process.pid, lambda: "all")
    if process.wait():
        raise SystemExit("the datasets script failed; run it by hand")
    seconds = time.monotonic() - started
    peak = memory.stop()["all"]
    return {"rows": rows, "rows_per_second": round(rows / seconds), "seconds": round(seconds, 1),
            "peak_rss_mib": round(peak / 2**20)}  # fmt: skip


def measure_sketches(rows: int = 2000) -> dict[str, Any]:
    """MinHash signatures a second of one core from the same shingles: rensa and datasketch, 128 permutations."""
    from datasketch import MinHash
    from rensa import RMinHash

    from holdfast.dataset.similarity import hash_shingles

    rng = random.Random(3)
    texts = [" ".join(rng.choices(WORDS, k=38)) for _ in range(rows)]
    hashes, starts = hash_shingles(texts)
    clock = time.perf_counter()
    RMinHash.digest_matrix_from_flat_token_hashes(hashes, starts.astype("u8"), 128, 1).to_rows()
    rust = time.perf_counter() - clock
    clock = time.perf_counter()
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        sketch = MinHash(num_perm=128, hashfunc=int)
        sketch.update_batch((hashes[begin:end] & 0xFFFFFFFF).tolist())
    return {"rensa": round(rows / rust), "datasketch": round(rows / (time.perf_counter() - clock))}


def versions() -> Iterator[tuple[str, str]]:
    """Versions that matter."""
    yield "python", platform.python_version()
    for name in ("msgspec", "numpy", "rensa", "datasets"):
        yield name, version(name)


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000, 3_000_000])
    parser.add_argument("--near", type=int, nargs="*", default=[], metavar="ROWS")
    parser.add_argument("--datasets", type=int, nargs="*", default=[], metavar="ROWS")
    parser.add_argument("--tokens", action="store_true", help="let prepare end: adds the token audit")
    parser.add_argument("--redact", action="store_true", help="mask secrets while collecting")
    parser.add_argument("--sketches", action="store_true")
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    result: dict[str, Any] = {
        "bench": "data", "versions": dict(versions()), "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        for rows in sorted({*options.rows, *options.near, *options.datasets}):
            data = folder / "rows.jsonl"
            write_rows(data, rows)
            if rows in options.rows:
                result.setdefault("product", []).append(
                    measure_product(folder, data, rows, near=False, tokens=options.tokens, redact=options.redact)
                )
            if rows in options.near:
                result.setdefault("near", []).append(
                    measure_product(folder, data, rows, near=True, tokens=options.tokens, redact=options.redact)
                )
            if rows in options.datasets:
                result.setdefault("datasets", []).append(measure_datasets(folder, data, rows))
    if options.sketches:
        result["signatures_per_second"] = measure_sketches()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
