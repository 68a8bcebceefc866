"""Does answering and scoring fit a smaller card, emulated on a large one, as the plan says? One JSON line.

    python bench/evaluate_gpu.py           # Qwen2.5-7B in NF4 with an adapter on 7.5 GiB, short and long prompts
    python bench/evaluate_gpu.py --smoke   # the same code on a tiny model, CPU or GPU

The base model and an adapter with random weights are written as files, loaded on the small card as stage evaluate does
it, and asked as many items at once as the planner chooses there; then it is scored at the reference answers, and its
distributions are taken at one of them, as `verify` does. `peak_gib` is torch's peak over all of that, also where memory
ran out (`error`), `planned_gib` the plan's components inside torch, `process_gib` what the whole process held.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

from gpu_model import SHAPES
from gpu_trainers import run_config
from train_gpu import GIB, cut_card, environment

OUTSIDE_TORCH = ("cuda context", "process", "fragmentation")
# (GiB, shape, tokens of the longest prompt, of the longest answer)
CASES = ((7.5, "Qwen2.5-7B", 250, 90), (7.5, "Qwen2.5-7B", 1000, 90))


def planned(limit: float, shape: str, prompt: int, answer: int) -> dict[str, Any]:
    """The planner's batch on a card of `limit` GiB, and what it counts for it."""
    from holdfast.plan.choose import make_plan
    from holdfast.plan.hardware import Hardware

    config = run_config("nf4", 1024)
    config = config.model_copy(update={"plan": config.plan.model_copy(update={"gpu": f"{limit:g}GB"})})
    rows = [prompt + answer] * 1000
    lengths = {"train": rows, "test_prompt_max": prompt, "test_answer_max": answer, "test_max": prompt + answer}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SHAPES[shape]))
        plan = make_plan(Path(folder), config, lengths, Hardware((), 2**40, 2**40, "/", 2**40, 16))
    phase = next(p for p in plan["phases"] if p["phase"] == "evaluate")
    inside = sum(size for name, size in phase["components"].items() if name not in OUTSIDE_TORCH)
    return {
        "batch_size": plan["evaluation"]["batch_size"], "fits": phase["fits"], "planned_gib": round(inside / GIB, 3),
        "planned_process_gib": round(phase["needed"] / GIB, 3),
    }  # fmt: skip


def write_files(shape: str, folder: Path) -> None:
    """A base model and an adapter on all of its matrices."""
    from gpu_model import build_model
    from peft import LoraConfig, get_peft_model

    model = build_model(shape, "bf16")
    model.save_pretrained(folder / "base")
    get_peft_model(model, LoraConfig(r=16, target_modules="all-linear")).save_pretrained(folder / "adapter")


def answer(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Load, answer and score one batch on a card of `card_gib`."""
    import torch

    from holdfast import distributions, likelihood, models

    models.go_offline()
    cut_card(case)
    cuda = torch.cuda.is_available()
    tokenizer, rows = models.load_tokenizer(models.find_base_model("pebble")), case["batch_size"]  # of its words: ids
    prompt = [10 + at % 100 for at in range(case["prompt"])]
    whole = prompt + [11] * case["answer"]
    labels = [models.NOT_TRAINED] * len(prompt) + whole[len(prompt) :]
    together = max(1, min(rows, likelihood.POSITIONS // (case["answer"] + 1)))
    failed = {}
    try:
        model = models.load_model(folder / "base", quantization="nf4", adapter=folder / "adapter")
        models.generate(
            model, tokenizer, [prompt] * rows, max_new_tokens=case["new"], batch_size=rows, on_batch=lambda n: None
        )
        row = models.TrainingTokens(input_ids=whole, labels=labels)
        likelihood._score_batch(model, tokenizer, [row] * together, [len(prompt)] * together)
        distributions.think_with(model, distributions.Forced(prompt, whole[len(prompt) :]))
    except torch.OutOfMemoryError as error:
        failed = {"error": str(error)[:300]}
    if not cuda:
        return case | failed
    free, total = torch.cuda.mem_get_info()
    peak, held = torch.cuda.max_memory_allocated(), total - free
    return case | failed | {"peak_gib": round(peak / GIB, 3), "process_gib": round(held / GIB, 3)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        return write_files(options.write[0], Path(options.write[1]))
    if options.worker:
        print("ROW " + json.dumps(answer(json.loads(options.worker[0]), Path(options.worker[1]))))
        return None
    cases = ((7.5, "smoke", 40, 20),) if options.smoke else CASES
    found = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--write", cases[0][1], folder], check=True)
        for limit, shape, prompt, length in cases:
            plan = planned(limit, shape, prompt, length)
            case = {"shape": shape, "card_gib": limit, "prompt": prompt, "answer": length, "new": 64, **plan}
            done = subprocess.run(
                [sys.executable, __file__, "--worker", json.dumps(case), folder], stdout=subprocess.PIPE, text=True,
                check=True,
            )  # fmt: skip
            found.append(json.loads(next(line for line in done.stdout.splitlines() if line.startswith("ROW "))[4:]))
    print(json.dumps({"bench": "evaluate_gpu", **environment(), "rows": found}))
    return None


if __name__ == "__main__":
    main()
