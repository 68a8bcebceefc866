"""Queries a second of the sandboxed Prolog worker, on the analyst knowledge base: one JSON line.

    python bench/prolog.py [--seconds 3]

`facts`: node_rack(Node, Rack) with Node given, one question after the other. `facts_batched`: the same, 1,400 questions
at a time, as the reader of knowledge bases asks. `per_processor_second`: of those, both processes counted; it
does not depend on what else the machine does. `rules`: runbook_response(Condition, Node, Text), a text of three
sections made by a rule. `start_seconds`: from nothing to a checked knowledge base. Every answer is checked. `hostile`:
the files of tests/hostile_prolog, each beside sound facts: how many are refused as a whole, and how many leave a trace
(the file that they try to make, or anything else in their folder).
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from holdfast.core.errors import ContractError
from holdfast.core.knowledge_config import PrologSource
from holdfast.sources.prolog import Prolog, read_texts, start_prolog
from holdfast.sources.prolog_jail import landlock_version
from holdfast.sources.prolog_knowledge import read_prolog_knowledge

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "analyst" / "knowledge"
HOSTILE = ROOT / "tests" / "hostile_prolog"
ALLOWED = ("node_rack/2", "runbook_response/3")


def rate(ask: Callable[[int], bool], seconds: float) -> float:
    """Questions a second over `seconds`."""
    begun, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        for number in range(count, count + 100):
            assert ask(number)
        count += 100
    return count / spent


def processor_seconds(prolog: Prolog) -> float:
    """Processor time of this process and of the worker until now."""
    fields = Path(f"/proc/{prolog.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hostile() -> dict[str, int]:
    """How many hostile files there are, are refused, and leave a trace."""
    found = {"files": 0, "refused": 0, "traces": 0}
    for path in sorted(HOSTILE.glob("*.pl")):
        with tempfile.TemporaryDirectory() as name:
            canary, folder = Path(name) / "canary", Path(name) / "kb"
            folder.mkdir()
            (folder / "a_good.pl").write_text("alert_condition(c, critical, 'd', true).\n")
            (folder / "hostile.pl").write_text(path.read_text().replace("CANARY", str(canary)))
            found["files"] += 1
            try:
                read_prolog_knowledge(folder, "kb", PrologSource())
            except ContractError:
                found["refused"] += 1
            found["traces"] += canary.exists() or len(list(folder.iterdir())) != 2
    return found


def start() -> Prolog:
    prolog = start_prolog("bench")
    prolog.load(read_texts("bench", [(path.name, path) for path in sorted(FOLDER.glob("*.pl"))]), ALLOWED)
    return prolog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    facts = read_prolog_knowledge(FOLDER, "bench", PrologSource())
    pairs = list(itertools.product(facts.conditions, facts.nodes))
    begun = time.perf_counter()
    with start() as prolog:
        started = time.perf_counter() - begun

        def fact(number: int) -> bool:
            node = facts.nodes[number % len(facts.nodes)]
            return prolog.ask("node_rack", node, None) == [(node, facts.rack_of(node))]

        def rule(number: int) -> bool:
            condition, node = pairs[number % len(pairs)]
            return prolog.ask("runbook_response", condition, node, None)[0][2] == facts.runbook(condition, node)

        nodes = [(node, None) for node in facts.nodes] * 100
        right = [[(node, facts.rack_of(node))] for node, _ in nodes]
        begun, count, used = time.perf_counter(), 0, processor_seconds(prolog)
        while (spent := time.perf_counter() - begun) < seconds:
            assert prolog.ask_many("node_rack", nodes) == right
            count += len(nodes)
        used = processor_seconds(prolog) - used
        per_processor_second = count / used
        found = {
            "facts_batched": round(count / spent),
            "facts": round(rate(fact, seconds)),
            "rules": round(rate(rule, seconds)),
        }
    swipl = Path(shutil.which("swipl") or "swipl").resolve()
    version = subprocess.run([str(swipl), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    print(json.dumps({
        "bench": "prolog", "queries_per_second": found, "per_processor_second": round(per_processor_second),
        "start_seconds": round(started, 3), "hostile": hostile(), "swipl": version,
        "python": platform.python_version(), "landlock": landlock_version(), "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1), "machine": platform.machine(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
