"""Smaller cards, emulated on a large one: does what the planner chooses really fit there, and how fast is it?

    python bench/gpu_cards.py [--only 8GB]   # 8 GB: Qwen2.5-7B at 1,024; 16 GB: Llama-3-8B at 8,192; 24 GB: both
    python bench/gpu_cards.py --load         # every model comes from files, not that of 8 GB alone
    python bench/gpu_cards.py --tight        # how much more than its peak torch must have (plan: fragmentation)
    python bench/gpu_cards.py --smoke        # the same code on a tiny model, CPU or GPU

The process may use the card's memory less what its CUDA context takes (torch.cuda.set_per_process_memory_fraction);
what the whole process held is measured (`process_gib`) and must not exceed `limit_gib`. On 8 GB the model is loaded
from files on the small card, as `holdfast train` does it, and several settings are tried, the planner's first, until
one fits; every attempt is in the answer. Other models are made on the card before it is cut. One JSON line.
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
from train_gpu import CONTEXT, environment, in_processes

# (card, GiB that the process may hold, shape, sequence_len, rows at once)
CARDS = (
    ("8GB", 7.5, "Qwen2.5-7B", 1024, 1),
    ("16GB", 16.0, "Llama-3-8B", 8192, 1),
    ("24GB", 24.0, "Qwen2.5-7B", 8192, 2),
    ("24GB", 24.0, "Llama-3-8B", 8192, 2),
)
# What is tried in turn where the planner's settings do not fit: simpler policies.
SMALLER: tuple[dict[str, Any], ...] = (
    {},
    {"levels": None, "level": "layer", "graph_tokens": 2048},
    {"levels": None, "level": "layer", "graph_tokens": 0},
    {"levels": None, "level": "layer", "graph_tokens": 0, "mlp_tokens": 512},
)
SHARES = (0.01, 0.02, 0.04, 0.07, 0.12, 0.2)  # of torch's peak, on top of it


def planned(limit: float, shape: str, sequence_len: int, rows: int) -> dict[str, Any] | None:
    """What the planner chooses for a card of `limit` GiB, as a case of train_gpu.py; None when it refuses."""
    from holdfast.plan.choose import make_plan
    from holdfast.plan.hardware import Hardware

    config = run_config("nf4", sequence_len, micro_batch_size=rows)
    config = config.model_copy(update={"plan": config.plan.model_copy(update={"gpu": f"{limit:g}GB"})})
    large = 2**40
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SHAPES[shape]))
        plan = make_plan(Path(folder), config, None, Hardware((), large, large, "/", large, 16))
    needed = next(p for p in plan["phases"] if (p["phase"], p["place"]) == ("train", "gpu"))["needed"]
    recompute = plan["settings"]["recompute"]
    if recompute is None or needed > plan["limits"]["gpu"]["usable"]:
        return None
    tokens = sequence_len * plan["settings"]["micro_batch_size"]
    return {"tokens": tokens, "planned_gib": round(needed / 2**30, 3), **recompute}


def attempts(card: str, limit: float, shape: str, sequence_len: int, rows: int) -> list[dict[str, Any]]:
    """The planner's case and, on the smallest card, what to try after it."""
    chosen = planned(limit, shape, sequence_len, rows)
    if chosen is None:
        raise SystemExit(f"the planner refuses {shape} at {sequence_len} on {card}")
    case = {"trainer": "holdfast", "shape": shape, "base": "nf4", "card": card, "card_gib": limit, "steps": 8, **chosen}
    changes = SMALLER if card == "8GB" else ({},)
    return [case | change for change in changes]


def run(card: str, limit: float, shape: str, sequence_len: int, rows: int) -> dict[str, Any]:
    """Attempts in turn, each in a process of its own, until one fits; `fits` and all attempts."""
    return _until_one_fits(card, limit, shape, attempts(card, limit, shape, sequence_len, rows))


def _until_one_fits(card: str, limit: float, shape: str, cases: list[dict[str, Any]]) -> dict[str, Any]:
    tried: list[dict[str, Any]] = []
    for case in cases:
        tried += [{name: value for name, value in row.items() if name != "folder"} for row in in_processes([[case]])]
        if tried and fits(tried[-1], limit):
            break
    good = bool(tried) and fits(tried[-1], limit)
    loaded = "folder" in cases[0]
    return {"card": card, "limit_gib": limit, "shape": shape, "loaded": loaded, "fits": good, "attempts": tried}


def tight(card: str, limit: float, shape: str, sequence_len: int, rows: int) -> dict[str, Any]:
    """How much more than its peak torch must have: the planner's case with room, then with less and less of it."""
    case = attempts(card, limit, shape, sequence_len, rows)[0]
    free = in_processes([[{name: value for name, value in case.items() if name != "card_gib"}]])[0]
    tried = []
    for share in SHARES:
        row = in_processes([[case | {"card_gib": round(CONTEXT + free["peak_gib"] * (1 + share), 3), "steps": 12}]])[0]
        tried.append({"share": share} | row)
        if "error" not in row:
            break
    return {"card": card, "shape": shape, "with_room": free, "attempts": tried}


def load(card: str, limit: float, shape: str, sequence_len: int, rows: int) -> dict[str, Any]:
    """`run` with a model that is loaded from files, as `holdfast train` does it, on the small card."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--write", shape, folder], check=True)
        cases = [case | {"folder": folder} for case in attempts(card, limit, shape, sequence_len, rows)]
        return _until_one_fits(card, limit, shape, cases)


def write_model(shape: str, folder: str) -> None:
    """A model with random 16-bit weights, as files."""
    from gpu_model import WordTokenizer, build_model

    build_model(shape, "bf16").save_pretrained(folder)
    WordTokenizer.build().save_pretrained(folder)


def fits(row: dict[str, Any], limit: float) -> bool:
    """Whether it trained and the whole process stayed below the limit (without a card: whether it trained)."""
    return "error" not in row and row.get("process_gib", 0.0) <= limit


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--tight", action="store_true", help="the least memory beyond its peak that torch trains with")
    parser.add_argument("--load", action="store_true", help="load every model from files on the small card")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--only", help="one card, for example 8GB")
    options = parser.parse_args()
    if options.write:
        return write_model(*options.write)
    cards = (("8GB", 7.5, "smoke", 256, 2),) if options.smoke else CARDS
    rows = []
    for card in (card for card in cards if options.only in (None, card[0])):
        measure = tight if options.tight else load if options.load or card[0] == "8GB" else run
        rows.append(measure(*card))
    name = "gpu_cards --tight" if options.tight else "gpu_cards"
    print(json.dumps({"bench": name, **environment(), "rows": rows}))
    return None


if __name__ == "__main__":
    main()
