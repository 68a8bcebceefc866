"""A small real run (bundled model, tickets of the triage example, a few seconds of training) for integration tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.digest import digest_file
from warm import Finished, Process, available, run_warm, start_warm

ROOT = Path(__file__).parents[1]
TRIAGE = ROOT / "examples" / "triage"
PEBBLE = ROOT / "src" / "holdfast" / "pebble"
Started = Process | subprocess.Popen[bytes]
STEPS, SAVE_STEPS, EVAL_STEPS = 12, 3, 4
INSTRUCTION = "Classify the support ticket priority and return strict JSON."
CONFIG = f"""\
name: small
base_model: BASE
sequence_len: 256
seed: 42
collect:
  sources:
    - {{path: train.jsonl, split: train}}
    - {{path: valid.jsonl, split: valid}}
    - {{path: test.jsonl, split: test}}
prepare:
  contract: contract.yaml
  near_duplicate_threshold: 0.6
train:
  lora_r: 8
  micro_batch_size: 2
  max_steps: {STEPS}
  learning_rate: 1e-2
  gradient_checkpointing: false
  logging_steps: 1
  save_steps: {SAVE_STEPS}
  eval_steps: {EVAL_STEPS}
evaluate: {{max_new_tokens: 16, batch_size: 8}}
verify: {{n_ctx: 512, parity_rows: 20}}
decide: {{primary: valid_json, minimum_gain: 0.1, maximum_deployed_loss: 1, maximum_forgetting: 1,
         minimum_items: 8}}
"""
CONTRACT = f"""\
task: small_priority
instruction: "{INSTRUCTION}"
label_field: priority
labels: [critical, high, medium, low]
required_fields: [priority]
"""


class SmallRun(NamedTuple):
    """A configuration with its data, and the run folder that belongs to it."""

    config: Path
    folder: Path
    base: Path

    def copy(self, to: Path) -> "SmallRun":
        """The same configuration and another copy of the run folder."""
        shutil.copytree(self.folder, to / "run")
        return SmallRun(self.config, to / "run", self.base)

    def command(self, *more: str) -> list[str]:
        """`holdfast run` of this configuration in this folder, as arguments."""
        return ["run", "-c", str(self.config), "--run-dir", str(self.folder), *more]

    def adapter_digest(self) -> str:
        """What two equal trainings share."""
        return digest_file(self.folder / "05-train" / "adapter" / "adapter_model.safetensors")

    def verdict(self) -> str:
        """What was decided."""
        return str(json.loads((self.folder / "09-decide" / "decision.json").read_text())["verdict"])

    def events(self) -> list[dict[str, Any]]:
        """The journal, without a line torn by a kill."""
        lines = (self.folder / "journal.jsonl").read_text().splitlines() if self.folder.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]


def environment(**values: str) -> dict[str, str]:
    """Environment of a child process that finds this checkout's package."""
    return os.environ | {"PYTHONPATH": str(ROOT / "src")} | values


def arguments(*words: str | Path) -> list[str]:
    """A holdfast command line."""
    return [sys.executable, "-m", "holdfast", *map(str, words)]


def holdfast(*words: str | Path, cwd: Path | None = None, timeout: float = 400, **values: str) -> Finished:
    """Run a holdfast command to its end, in a warm process; with environment variables of its own in a fresh one."""
    folder = cwd or Path(tempfile.gettempdir())
    if available() and not values:
        return run_warm(None, [str(word) for word in words], folder, environment(), timeout)
    return run_cold(arguments(*words), folder, timeout, **values)


def run_script(script: Path, *words: str | Path, timeout: float = 600) -> Finished:
    """Run a Python script that runs holdfast, as `holdfast` does."""
    folder = Path(tempfile.gettempdir())
    if available():
        return run_warm(script, [str(word) for word in words], folder, environment(), timeout)
    return run_cold([sys.executable, str(script), *map(str, words)], folder, timeout)


def run_cold(command: list[str], folder: Path, timeout: float, **values: str) -> Finished:
    """Run a command in a fresh process."""
    done = subprocess.run(
        command, cwd=folder, env=environment(**values), capture_output=True, text=True, timeout=timeout, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def start(*words: str | Path, **values: str) -> Started:
    """Start a holdfast command, warm where that is possible; what it says is thrown away."""
    if available():
        return start_warm([str(word) for word in words], Path(tempfile.gettempdir()), environment(**values))
    return subprocess.Popen(
        arguments(*words), env=environment(**values), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def ticket_rows(name: str, per_label: int, skip: int = 0) -> list[dict[str, Any]]:
    """Tickets of the triage example, the same number of each label; the answer is the label alone."""
    rows: dict[str, list[dict[str, Any]]] = {"critical": [], "high": [], "medium": [], "low": []}
    for line in (TRIAGE / name).read_text().splitlines():
        row = json.loads(line)
        label = json.loads(row.get("output") or row["expected"])["priority"]
        output = json.dumps({"priority": label}, separators=(",", ":"))
        rows[label].append({"instruction": row["instruction"], "input": row["input"], "output": output})
    return [row for found in zip(*rows.values(), strict=False) for row in found][4 * skip : 4 * (skip + per_label)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def short_training() -> list[str]:
    """Options of a run whose training only has to happen: what it learns does not matter to the test."""
    return ["--set", "train.max_steps=2", "--set", "train.eval_steps=1000", "--set", "train.save_steps=1000"]


def copy_pebble(to: Path) -> Path:
    """The bundled model in a folder of its own, which a test may damage."""
    to.mkdir(parents=True)
    for path in PEBBLE.iterdir():
        if path.is_file():
            shutil.copyfile(path, to / path.name)
    return to


def write_small(folder: Path, base: Path | str = "pebble") -> SmallRun:
    """Data (40 train, 8 valid, 8 test rows), contract and configuration; nothing is run yet."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "train.jsonl", ticket_rows("train.jsonl", 10))
    write_jsonl(folder / "valid.jsonl", ticket_rows("valid.jsonl", 2))
    write_jsonl(folder / "test.jsonl", ticket_rows("test.jsonl", 2))
    (folder / "contract.yaml").write_text(CONTRACT)
    (folder / "small.yaml").write_text(CONFIG.replace("BASE", str(base)))
    return SmallRun(folder / "small.yaml", folder / "run", Path(base) if base != "pebble" else PEBBLE)


def leftovers(folder: Path) -> list[str]:
    """Half-written things below a folder: temporary names, and stages with an intent but no manifest that hold more."""
    if not folder.exists():
        return []
    found = [str(path.relative_to(folder)) for path in folder.rglob(".tmp-*")]
    for intent in folder.rglob("intent.json"):
        names = {path.name for path in intent.parent.iterdir()} - {"intent.json"}
        if "manifest.json" not in names and names:
            found.append(f"{intent.parent.name}: {', '.join(sorted(names))}")
    return found


def wait_for(condition: Callable[[], bool], process: Started, seconds: float = 120) -> bool:
    """Wait until the condition holds; False when the process ended or the time is over before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return condition()
        time.sleep(0.005)
    return False


def stop(process: Started, number: signal.Signals) -> int:
    """Send a signal and wait for the end; the exit status."""
    process.send_signal(number)
    return process.wait(60)
