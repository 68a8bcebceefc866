"""Learning is intact: pebble trained by the fast path and by the plain path has the same test scores. One JSON line.

    python bench/learning_gpu.py [--seeds 3 --jobs 3]   # the whole triage example, on the card when there is one
    python bench/learning_gpu.py --smoke         # some rows and steps, CPU or GPU

Both paths go through the pipeline up to `evaluate`, once for each seed; everything before `train` is shared. `scores`
holds the mean difference (fast less plain, in points) with a 95 % interval over the seeds (Student's t), and the spread
of the plain path from seed to seed; `same` says that the interval holds zero.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

TRIAGE = Path(__file__).parents[1] / "examples" / "triage"
SCORES = ("label_accuracy", "valid_json")
PATHS = {"plain": "never", "fast": "auto"}


def write_example(folder: Path, rows: int | None) -> Path:
    """The triage example in a folder of its own, with the first `rows` rows of each file; its configuration."""
    shutil.copytree(TRIAGE, folder)
    for path in folder.glob("*.jsonl") if rows else ():
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:rows]))
    return folder / "holdfast.yaml"


def run_once(config_file: Path, folder: Path, seed: int, path: str, changes: list[str]) -> dict[str, Any]:
    """One training and its evaluation in `folder` (which may hold the shared stages already)."""
    from holdfast.core.config import load_config
    from holdfast.core.console import Console
    from holdfast.core.rundir import RunDir
    from holdfast.pipeline import run_pipeline

    overrides = [f"seed={seed}", f"train.kernels.use={PATHS[path]}", "evaluate.general_probe=false", *changes]
    began = time.monotonic()
    outcomes = run_pipeline(load_config(config_file, overrides), RunDir(folder), Console(quiet=True), until="evaluate")
    results = json.loads((folder / "06-evaluate" / "results.json").read_bytes())
    training = json.loads((folder / "05-train" / "training.json").read_bytes())
    return {
        "path": path, "seed": seed, **{name: results[name] for name in SCORES}, "n": results["n"],
        "steps": training["steps"], "last_loss": training["last_loss"], "valid_losses": training["valid_losses"][-1:],
        "tokens_per_second": training["tokens_per_second"],
        "train_seconds": next(outcome.seconds for outcome in outcomes if outcome.stage == "train"),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def run_apart(*arguments: Any) -> dict[str, Any]:
    """`run_once` in a process of its own: nothing of one path may meet the other.

    Not by multiprocessing's spawn: there the loader's workers are spawned as well, and each imports torch anew.
    """
    command = [sys.executable, __file__, "--once", json.dumps(arguments, default=str)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def both_paths(config: Path, scratch: Path, changes: list[str], seed: int) -> list[dict[str, Any]]:
    """Plain, then fast, with the stages before `train` computed once."""
    found: list[dict[str, Any]] = []
    for path in PATHS:
        folder = scratch / f"{path}-{seed}"
        if found:
            shared = scratch / f"{found[0]['path']}-{seed}"
            shutil.copytree(shared, folder, ignore=shutil.ignore_patterns("03-*", "05-*", "06-*"))
        found.append(run_apart(config, folder, seed, path, changes))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def compare(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Fast less plain over the seeds, in points."""
    from scipy.stats import t

    by = {path: [100 * row[name] for row in rows if row["path"] == path] for path in PATHS}
    apart = [fast - plain for fast, plain in zip(by["fast"], by["plain"], strict=True)]
    estimate = mean(apart)
    half = t.ppf(0.975, len(apart) - 1) * stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else None
    return {
        "plain": [round(value, 2) for value in by["plain"]], "fast": [round(value, 2) for value in by["fast"]],
        "difference": round(estimate, 2), "half_width": None if half is None else round(float(half), 2),
        "spread_of_seeds": round(stdev(by["plain"]), 2) if len(apart) > 1 else None,
        "same": half is not None and bool(abs(estimate) <= half + 1e-9),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at the same time")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        config_file, folder, *rest = json.loads(options.once)
        print(json.dumps(run_once(Path(config_file), Path(folder), *rest)))
        return
    from train_gpu import environment

    smoke = ["train.max_steps=2", "prepare.near_duplicate_threshold=null"]
    seeds = range(1, (2 if options.smoke else options.seeds) + 1)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        config = write_example(Path(scratch) / "triage", 6 if options.smoke else None)
        work = partial(both_paths, config, Path(scratch), smoke if options.smoke else [])
        rows = [row for found in pool.map(work, seeds) for row in found]
    scores = {name: compare(rows, name) for name in SCORES}
    print(json.dumps({"bench": "learning_gpu", **environment(), "seeds": len(seeds), "scores": scores, "rows": rows}))


if __name__ == "__main__":
    main()
