"""Training speed and memory on one card, holdfast and its peers side by side; one JSON line.

    python bench/train_gpu.py --peers                     # every trainer, both shapes, 1k, 8k and 16k tokens a step
    python bench/train_gpu.py --peers --shape Llama-3-8B  # one of the shapes
    python bench/train_gpu.py --case holdfast Qwen2.5-7B nf4 16384 cheap
    python bench/train_gpu.py --smoke                     # the same code on a tiny model, CPU or GPU

Each trainer runs in a process of its own (some of them patch the libraries), over the same documents and as many steps.
tokens/s counts real tokens, never padding, over the median time of a step after the first three (all in `step_ms`); so
what happens once, such as the capture of a graph, is left out for every trainer. peak_gib is torch's peak allocated
over all steps, reserved_gib what its allocator held, process_gib what the whole process held. A signal ends it early:
it prints what it has, with `cut: true`.
"""

import argparse
import hashlib
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

GIB = 2**30
CONTEXT = 0.87  # GiB of a card that torch cannot use once all kernels are loaded: process_gib less reserved_gib


def gemm_limit() -> float:
    """TFLOP/s of an 8192^3 bf16 product of random matrices: the limit that fractions are of."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(20):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / start.elapsed_time(end) / 1e9


def counting(collate: Any, seen: list[int]) -> Any:
    """The collator, adding the real tokens of each batch to `seen`."""

    def counted(rows: Any) -> Any:
        batch = collate(rows)
        mask = batch.get("attention_mask")
        seen[0] += int(mask.sum()) if mask is not None and mask.dim() == 2 else int(batch["input_ids"].numel())
        return batch

    return counted


def cut_card(case: dict[str, Any]) -> None:
    """Let torch use no more than it could on a smaller card, where the CUDA context takes its part."""
    import torch

    if torch.cuda.is_available() and "card_gib" in case:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((case["card_gib"] - CONTEXT) * GIB / total)


def measure(case: dict[str, Any], steps: int = 5, warm: int = 2) -> dict[str, Any]:
    """Train `steps` steps and report on those after the first `warm`. The peak is that of all steps."""
    import gc
    import tempfile

    import torch
    from transformers import TrainerCallback

    cuda, at_rest = torch.cuda.is_available(), 0
    marks: list[tuple[float, int]] = []
    losses: list[float] = []
    seen, held = [0], [0]  # real tokens collated so far; most memory that the whole process held
    ours = case["trainer"] == "holdfast"  # collates in a process of its own, so that it is asked instead

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            if state.global_step < warm:
                return
            if cuda:
                torch.cuda.synchronize()
                free, total = torch.cuda.mem_get_info()
                held[0] = max(held[0], total - free)
            marks.append((time.perf_counter(), trainer._total_train_tokens if ours else seen[0]))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **named: Any) -> None:
            if "loss" in (logs or {}):
                losses.append(logs["loss"])

    from gpu_trainers import BUILDERS

    if "folder" in case:  # loading has to fit too
        cut_card(case)
    with tempfile.TemporaryDirectory() as folder:
        trainer = BUILDERS[case["trainer"]](case, steps, Path(folder))
        trainer.add_callback(Clock())
        if not ours:
            trainer.data_collator = counting(trainer.data_collator, seen)
        if cuda:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            if "folder" not in case:
                cut_card(case)
            at_rest = torch.cuda.memory_allocated()
        trainer.train()
    found = case | speed(marks) | {"losses": [round(x, 4) for x in losses]}
    return found | (memory_of_card(held[0], at_rest) if cuda else {})


def speed(marks: list[tuple[float, int]]) -> dict[str, Any]:
    """Of the steps between (seconds, tokens so far) at their ends: `tokens_per_second` is the mean number of tokens
    over the median time of a step."""
    seconds = [after[0] - before[0] for before, after in itertools.pairwise(marks)]
    tokens = (marks[-1][1] - marks[0][1]) / len(seconds)
    return {
        "tokens_per_second": round(tokens / statistics.median(seconds), 1),
        "mean_tokens_per_second": round(tokens / statistics.mean(seconds), 1),
        "tokens_per_step": int(tokens),
        "step_ms": [round(1e3 * step, 1) for step in seconds],
    }


def memory_of_card(held: int, at_rest: int) -> dict[str, Any]:
    """Peaks of torch's allocator and of the whole process."""
    import torch

    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    segments = torch.cuda.memory_snapshot()
    return {
        "peak_bytes": peak, "reserved_bytes": reserved, "at_rest_bytes": at_rest,
        "peak_gib": round(peak / GIB, 3), "reserved_gib": round(reserved / GIB, 3),
        "process_gib": round(held / GIB, 3),
        "expandable": sum(bool(s.get("is_expandable")) for s in segments) / max(1, len(segments)),
    }  # fmt: skip


def run_cases(cases: list[dict[str, Any]]) -> None:
    """Worker: one line of JSON a case on stdout; a case that fails says why."""
    import torch

    for case in cases:
        began = time.perf_counter()
        try:
            row = measure(case, steps=case.pop("steps", 5), warm=case.pop("warm", 2))
        except Exception as error:  # noqa: BLE001 (a peer may fail in any way; the others must still be measured)
            import traceback

            traceback.print_exc(file=sys.stderr)
            row = case | {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        row["wall_s"] = round(time.perf_counter() - began, 1)
        if case["trainer"] == "unsloth":  # it pins other versions of some libraries than this benchmark has
            row["versions"] = versions_of("unsloth", "trl", "transformers", "torch", "xformers", "flash-attn")
        print("ROW " + json.dumps(row), flush=True)
        from holdfast.models import let_go  # here, after Unsloth has patched what it wants to

        if torch.cuda.is_available():
            torch._C._cuda_clearCublasWorkspaces()  # some 34 MB for each kind of product, which a fresh process has not
        let_go()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def in_processes(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of one process after the other; progress goes to stderr."""
    return list(_rows_of(groups))


def _rows_of(groups: list[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for group in groups:
        command = [sys.executable, __file__, "--worker", json.dumps(group)]
        environ = dict(os.environ)
        if group[0]["trainer"] == "unsloth" and "UNSLOTH_SITE" in environ:  # it pins older versions of TRL and datasets
            environ["PYTHONPATH"] = environ["UNSLOTH_SITE"] + ":" + environ.get("PYTHONPATH", "")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
            try:
                for line in process.stdout or []:
                    if line.startswith("ROW "):
                        print(line[4:].strip(), file=sys.stderr, flush=True)
                        yield json.loads(line[4:])
            finally:
                process.kill()  # still runs only when a signal has ended this


SHAPES_OF_PEERS = ("Qwen2.5-7B", "Llama-3-8B")
# What the planner chooses for holdfast at each budget: for 8 to 16 GB (what is kept goes to the host, or is computed
# again), and for a card with room.
OURS: dict[int, tuple[dict[str, Any], ...]] = {
    1024: ({"level": "layer"}, {"level": "none", "keep_weights": True}),
    8192: ({"level": "layer", "offload": True, "mlp_tokens": 4096}, {"level": "layer"},
           {"level": "none", "keep_weights": True}),
    16384: ({"level": "layer", "offload": True, "mlp_tokens": 4096},
            {"level": "mlp", "offload": True, "mlp_tokens": 8192}, {"level": "layer"},
            {"level": "cheap", "keep_weights": True}, {"level": "none", "keep_weights": True}),
}  # fmt: skip


def peer_groups(shapes: list[str], budgets: list[int]) -> list[list[dict[str, Any]]]:
    """All trainers at all budgets, each trainer in a process of its own; holdfast with several policies.

    Peers compute every layer again, as they come; the fastest of them also without, at the largest budget.
    """
    groups = []
    for shape in shapes:
        case = {"shape": shape, "base": "nf4"}
        ours = [case | {"trainer": "holdfast", "tokens": t} | policy for t in budgets for policy in OURS.get(t, ({},))]
        groups.append(ours)
        groups += [
            [case | {"trainer": trainer, "tokens": t} for t in budgets] for trainer in ("unsloth", "trl-liger", "trl")
        ]
        groups[-3].append(case | {"trainer": "unsloth", "tokens": max(budgets), "level": "none"})
    for row in (row for group in groups for row in group):
        row |= {"steps": 15 if row["tokens"] <= 1024 else 6, "warm": 3}
    return groups


def versions_of(*names: str) -> dict[str, str | None]:
    """Of installed packages; None where one is missing."""
    from importlib import metadata

    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def environment() -> dict[str, Any]:
    """Versions and hardware. `card_id` is the same in two files when the same card made both (a hash of its UUID)."""
    import torch

    names = ("torch", "transformers", "trl", "peft", "bitsandbytes", "liger-kernel", "triton", "accelerate")
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "card": platform.machine()}
    if torch.cuda.is_available():
        uuid = str(torch.cuda.get_device_properties(0).uuid)
        card_id = hashlib.sha256(uuid.encode()).hexdigest()[:8]
        found |= {"card": torch.cuda.get_device_name(), "card_id": card_id, "driver": driver()}
    return found | {"python": platform.python_version()} | versions_of(*names)


def driver() -> str | None:
    """Version of the card's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def _in_a_process_of_its_own(option: str) -> Any:
    """This process must not hold memory of the card while others are measured."""
    done = subprocess.run([sys.executable, __file__, option], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--shape", default=None, choices=SHAPES_OF_PEERS, help="of --peers: this one alone")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--case", nargs=5, metavar=("TRAINER", "SHAPE", "BASE", "TOKENS", "LEVEL"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--limit", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=Path, help="a JSON file with a list of lists of cases")
    options = parser.parse_args()
    if options.worker:
        return run_cases(json.loads(options.worker))
    if options.limit:
        import torch

        print(json.dumps(gemm_limit() if torch.cuda.is_available() else None))
        return None
    if options.smoke:
        groups = peer_groups(["smoke"], [512])
    elif options.case:
        trainer, shape, base, tokens, level = options.case
        groups = [[{"trainer": trainer, "shape": shape, "base": base, "tokens": int(tokens), "level": level}]]
    elif options.cases:
        groups = json.loads(options.cases.read_text())
    else:
        shapes = [options.shape] if options.shape else list(SHAPES_OF_PEERS)
        groups = peer_groups(shapes, [1024, 8192, 16384])
    limit = _in_a_process_of_its_own("--limit")
    document: dict[str, Any] = {"bench": "train_gpu", **environment(), "gemm_tflops": limit, "rows": []}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        document["rows"].extend(_rows_of(groups))
    except KeyboardInterrupt:
        document["cut"] = True
    print(json.dumps(document))
    return None


if __name__ == "__main__":
    main()
