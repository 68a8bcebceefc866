"""Two processes against one, on the same work; and a model in parts that one small card refuses. One JSON line.

    python bench/train_two.py [--only fsdp]   # two cards
    python bench/train_two.py --smoke         # the same code on a tiny model, two processes: CPU (gloo) or cards

`ddp_over_one`: tokens/s of two processes over those of one, Qwen2.5-7B in NF4, 2 x 16,384 tokens an optimiser step (one
process takes them one after the other). `fsdp`: Qwen2.5-32B at 49,152 tokens with the planner's settings for a machine
of 96 GiB of RAM, on cards that are cut to 24 GB once the model is built: one is refused by the planner (and tried all
the same), two train it.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("NCCL_NVLS_ENABLE", "0")  # NVLink multicast: not worth its risk for two cards

from gpu_model import SHAPES
from gpu_trainers import run_config
from train_gpu import CONTEXT, GIB, environment

CARD = 24.0  # GiB
NCCL = 1.0  # GiB that its buffers may take outside of torch's allocator
WARM = 2


def plan_case(shape: str, tokens: int, card: float, **train: Any) -> dict[str, Any]:
    """The planner's settings for one micro-batch of `tokens` on cards of `card` GiB: fits, needed and usable GiB,
    recompute."""
    from holdfast.plan.choose import make_plan
    from holdfast.plan.hardware import Gpu, Hardware

    config = run_config("nf4", tokens, **train)
    ram, disk = 96 * GIB, 2**40
    cards = (Gpu("emulated", int(card * GIB), int(card * GIB), ""),) * config.train.nproc
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SHAPES[shape]))
        plan = make_plan(Path(folder), config, None, Hardware(cards, ram, ram, "/", disk, 16))
    needed = next(p for p in plan["phases"] if (p["phase"], p["place"]) == ("train", "gpu"))
    return {
        "fits": needed["needed"] <= needed["usable"], "planned_gib": round(needed["needed"] / GIB, 2),
        "usable_gib": round(needed["usable"] / GIB, 2), "recompute": plan["settings"]["recompute"],
    }  # fmt: skip


def work(case: dict[str, Any]) -> None:
    """One process: train, and (process 0) print a ROW."""
    import torch
    from gpu_model import WordTokenizer, build_model, documents
    from torch.utils.tensorboard import SummaryWriter
    from transformers import TrainerCallback

    from holdfast.models import TrainingTokens
    from holdfast.train.guard import LossGuard
    from holdfast.train.recompute import read_policy
    from holdfast.train.stop import StopRequest
    from holdfast.train.together import Agreement, join, same_order
    from holdfast.train.trainer import Job, build_trainer

    count = case["processes"]
    together = join(Path(case["folder"]) / "stop") if count > 1 else None
    cuda = torch.cuda.is_available()
    model = build_model(case["shape"], "nf4")
    layers = model.config.num_hidden_layers
    least = {"levels": [["layer", layers]], "offload": cuda, "mlp_tokens": 2048, "host_embedding": True}
    recompute = case["recompute"] or least
    steps, tokens = case["steps"], case["tokens"]
    train = run_config(
        "nf4", tokens, max_steps=steps, nproc=count, distributed=case["distributed"],
        gradient_accumulation_steps=case["accumulation"],
    ).train  # fmt: skip
    needed = (steps * case["accumulation"] * count + 4) * tokens
    rows = [TrainingTokens(**row) for row in documents(needed, model.config.vocab_size, tokens)]
    marks: list[tuple[float, int]] = []
    held = [0]

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
                free, total = torch.cuda.mem_get_info()
                held[0] = max(held[0], total - free)
            if state.global_step >= WARM:
                marks.append((time.perf_counter(), trainer._total_train_tokens))

    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), train, tokens, 1, 1, case["accumulation"], None, read_policy(recompute))
        writer = SummaryWriter(folder)
        trainer = build_trainer(job, model, WordTokenizer.build(), rows, [], Path(folder), writer)
        if together is not None:
            order = same_order(trainer, 1)
            guard = LossGuard(trainer, rows, Path(folder))
            trainer.add_callback(Agreement(together, StopRequest(), StopRequest(), guard, order))
        trainer.add_callback(Clock())
        if cuda:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            if case.get("card_gib"):
                total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
                beside = CONTEXT + (NCCL if count > 1 else 0.0)
                torch.cuda.set_per_process_memory_fraction((case["card_gib"] - beside) * GIB / total)
        trainer.train()
    if together is None or together.main:
        seconds, seen = marks[-1][0] - marks[0][0], marks[-1][1] - marks[0][1]
        losses = [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row]
        found = {"tokens_per_second": round(seen / seconds, 1), "losses": losses}
        if cuda:
            found |= {"peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
                      "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
                      "process_gib": round(held[0] / GIB, 2)}  # fmt: skip
        print("ROW " + json.dumps(found), flush=True)


def measure(case: dict[str, Any], limit: float) -> dict[str, Any]:
    """All processes of one case, ended together after `limit` seconds; the row of process 0 or the end of an error."""
    with tempfile.TemporaryDirectory() as folder:
        case = case | {"folder": folder}
        started = []
        for rank in range(case["processes"]):
            log = (Path(folder) / f"{rank}.log").open("w+")
            lo = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"}
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(case["processes"]),
                     "HOLDFAST_STORE": f"{folder}/store", "MASTER_PORT": "0"}  # fmt: skip
            extra = ranks | lo if case["processes"] > 1 else {"CUDA_VISIBLE_DEVICES": _first_card()}
            command = [sys.executable, __file__, "--worker", json.dumps(case)]
            started.append(
                (subprocess.Popen(command, env=os.environ | extra, stdout=log, stderr=subprocess.STDOUT), log)
            )
        until = time.monotonic() + limit
        while time.monotonic() < until and all(process.poll() is None for process, _ in started):
            time.sleep(0.5)
        failed = any(process.poll() not in (None, 0) for process, _ in started)
        for process, _ in started:
            try:
                process.wait(5 if failed else max(5.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        texts = []
        for _, log in started:
            log.seek(0)
            texts.append(log.read())
            log.close()
    print("\n".join(text[-1500:] for text in texts), file=sys.stderr, flush=True)
    rows = [line[4:] for line in texts[0].splitlines() if line.startswith("ROW ")]
    del case["folder"]
    if rows:
        return case | json.loads(rows[-1])
    lines = [line for text in texts for line in text.splitlines() if "Error" in line]
    return case | {"error": (lines or ["it was ended after its time"])[-1][:300]}


def _first_card() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", choices=("ddp", "fsdp"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(json.loads(options.worker))
    small = options.smoke
    shape, large = ("smoke", "smoke") if small else ("Qwen2.5-7B", "Qwen2.5-32B")
    tokens, long, steps = (256, 256, 6) if small else (16384, 49152, 8)
    found: dict[str, Any] = {"bench": "train_two", **environment()}
    if options.only in (None, "ddp"):
        found |= compare_ddp(shape, tokens, steps)
    if options.only in (None, "fsdp"):
        found["fsdp"] = compare_fsdp(large, long, None if small else CARD)
    print(json.dumps(found))
    return None


def compare_ddp(shape: str, tokens: int, steps: int) -> dict[str, Any]:
    """The same work in one process and in two."""
    recompute = plan_case(shape, tokens, 80.0)["recompute"]
    ddp = {"shape": shape, "tokens": tokens, "steps": steps, "distributed": "ddp", "recompute": recompute}
    one = measure(ddp | {"processes": 1, "accumulation": 2}, 150)
    two = measure(ddp | {"processes": 2, "accumulation": 1}, 150)
    speeds = [row.get("tokens_per_second") for row in (one, two)]
    ratio = round(speeds[1] / speeds[0], 3) if all(speeds) else None
    return {"ddp_over_one": ratio, "loss_difference": _apart(one, two), "one": one, "two": two}


def compare_fsdp(shape: str, tokens: int, card_gib: float | None) -> dict[str, Any]:
    """A model in parts on two small cards, and what becomes of it on one."""
    alone = plan_case(shape, tokens, CARD)
    parts = plan_case(shape, tokens, CARD, nproc=2, distributed="fsdp", gradient_accumulation_steps=2)
    case = {"shape": shape, "tokens": tokens, "steps": 4, "accumulation": 1, "card_gib": card_gib}
    two = measure(case | {"processes": 2, "distributed": "fsdp", "recompute": parts["recompute"]}, 240)
    one = measure(case | {"processes": 1, "distributed": "ddp", "recompute": alone["recompute"]}, 120)
    return {"plan_of_one": alone, "plan_of_two": parts, "one": one, "two": two}


def _apart(one: dict[str, Any], two: dict[str, Any]) -> float | None:
    pairs = list(zip(one.get("losses", ()), two.get("losses", ()), strict=False))
    return max((abs(a - b) / a for a, b in pairs), default=None)


if __name__ == "__main__":
    main()
