"""Training of pebble on the CPU: TRL with stock settings, holdfast's plain path, its fast path. One JSON line.

    python bench/train_cpu.py [--steps 12] [--packed]

The same rows in the same steps, learning rate and seed; 4-bit base, LoRA on every matrix. Stock settings are those of
SFTConfig where the recipe does not say otherwise: gradient checkpointing on. `loss_difference` is the largest
difference of a step's loss to TRL's, in shares of it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

ROOT = Path(__file__).parents[1]


def trainer_for(name: str, steps: int, packed: bool, folder: Path) -> Any:
    """A TRL trainer over the triage example's first rows."""
    from torch.utils.tensorboard import SummaryWriter

    from holdfast import models
    from holdfast.core.config import load_config
    from holdfast.core.records import Message
    from holdfast.train.trainer import Job, build_trainer

    config = load_config(ROOT / "examples" / "triage" / "holdfast.yaml")
    tokenizer = models.load_tokenizer(models.find_base_model("pebble"))
    lines = (ROOT / "examples" / "triage" / "train_chat.jsonl").read_text().splitlines()
    rows = []
    for line in lines[: 64 * steps]:
        turns = [Message(role=turn["role"], content=turn["content"]) for turn in json.loads(line)["messages"]]
        rows.append(models.encode_example(tokenizer, turns))
    train = config.train.model_copy(
        update={
            "max_steps": steps, "logging_steps": 1, "save_steps": 10_000, "sample_packing": packed,
            "gradient_checkpointing": name == "trl",
            "kernels": config.train.kernels.model_copy(update={"use": "auto" if name == "fast" else "never"}),
        }
    )  # fmt: skip
    rows_at_once = 2 if packed else 8
    job = Job(models.find_base_model("pebble"), train, config.sequence_len, config.seed, rows_at_once, 1, None)
    base = models.load_model(job.base, quantization="nf4")
    base.config.use_cache = False
    return build_trainer(job, base, tokenizer, rows, [], folder, SummaryWriter(str(folder)))


def measure(name: str, steps: int, packed: bool) -> dict[str, Any]:
    """Tokens a second over all steps but the first two, and every loss."""
    from transformers import TrainerCallback

    marks: list[tuple[float, int]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            if state.global_step >= 2:
                marks.append((time.perf_counter(), trainer._total_train_tokens))

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(name, steps, packed, Path(folder))
        trainer.add_callback(Clock())
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    seconds, tokens = marks[-1][0] - marks[0][0], marks[-1][1] - marks[0][1]
    return {"trainer": name, "tokens_per_second": round(tokens / seconds, 1), "losses": losses}


def main() -> None:
    """Each trainer twice, in turn, so that a busy machine slows all of them; the better run counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--packed", action="store_true")
    options = parser.parse_args()
    from train_gpu import environment

    runs = [measure(name, options.steps, options.packed) for _ in range(2) for name in ("trl", "plain", "fast")]
    best = {
        name: max(r["tokens_per_second"] for r in runs if r["trainer"] == name) for name in ("trl", "plain", "fast")
    }
    first = {r["trainer"]: r["losses"] for r in runs}
    apart = {
        name: max(abs(a - b) / a for a, b in zip(first["trl"], losses, strict=True)) for name, losses in first.items()
    }
    print(json.dumps({
        "bench": "train_cpu", **environment(), "cores": os.cpu_count(), "packed": options.packed,
        "steps": options.steps, "tokens_per_second": best,
        "fast_over_trl": round(best["fast"] / best["trl"], 2),
        "fast_over_plain": round(best["fast"] / best["plain"], 2),
        "loss_difference": {name: float(f"{value:.2g}") for name, value in apart.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
