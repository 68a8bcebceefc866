"""Measurements of bench/train_gpu.py or bench/gpu_cards.py as a Markdown table.

Usage: python bench/gpu_table.py bench/results/FILE.json

The share of the limit is useful work (forward and backward through frozen weights, nothing recomputed; the scores of
all tokens, labelled or not; attention not counted) over the measured rate of an 8192^3 bf16 product.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

from gpu_model import SHAPES

from holdfast.plan.shape import shape_of


def line(row: dict[str, Any], limit: float) -> str:
    """One row of the table."""
    shape = shape_of(SHAPES[row["shape"]], Path(row["shape"]))
    flop = 4 * (shape.linear_weights + shape.vocabulary * shape.hidden)
    offload = row.get("offload") or (row["trainer"] == "unsloth" and "level" not in row)
    policy = row.get("level", "layer")
    policy += " offload" if offload else ""
    policy += " kept weights" if row.get("keep_weights") else ""
    share = row["tokens_per_second"] * flop / limit / 1e12
    return (
        f"| {row['trainer']} | {row['shape']} {row['base']} | {row['tokens']} | {policy} | "
        f"{row['tokens_per_second']:,.0f} "
        f"| {row['peak_gib']:.2f} | {row['reserved_gib']:.2f} | {row['process_gib']:.2f} | {100 * share:.0f} % |"
    )


def small_cards(document: dict[str, Any]) -> None:
    """The table of smaller cards: the attempt that fits, as it was planned."""
    print(f"{document['card']}, {document['date']}, torch {document['torch']}\n")
    print("| card, GiB | model | tokens/step | recompute | tokens/s | process GiB | planned GiB | peak GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for found in document["rows"]:
        row = found["attempts"][-1]
        policy = ", ".join(f"{count} {level}" for level, count in row.get("levels") or [[row.get("level"), "all"]])
        policy += ", offload" if row.get("offload") else ""
        policy += ", embedding on the host" if row.get("host_embedding") else ""
        policy += ", graph" if row["tokens"] <= row.get("graph_tokens", 0) else ""
        speed = f"{row['tokens_per_second']:,.0f}" if found["fits"] else "does not fit"
        print(
            f"| {found['limit_gib']:g} | {row['shape']} {row['base']} | {row['tokens']} | {policy} | {speed} "
            f"| {row.get('process_gib', 0):.2f} | {row['planned_gib']:.2f} | {row.get('peak_gib', 0):.2f} |"
        )


def trainers(document: dict[str, Any]) -> None:
    """The table of trainers side by side, the fastest first for each number of tokens."""
    rows = [row for row in document["rows"] if "peak_gib" in row and "card_gib" not in row]
    print(f"{document['card']}, {document['date']}, torch {document['torch']}, {document['gemm_tflops']:.0f} TFLOP/s\n")
    print("| trainer | model | tokens/step | recompute | tokens/s | peak GiB | reserved | process | of the limit |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda r: (r["shape"], r["tokens"], -r["tokens_per_second"])):
        print(line(row, document["gemm_tflops"]))


def main() -> None:
    """Print the table."""
    document = json.loads(Path(sys.argv[1]).read_text())
    tables = {"gpu_cards": small_cards, "train_gpu": trainers}
    if document["bench"] not in tables:
        raise SystemExit(f"{sys.argv[1]}: of {document['bench']}; there are tables for {' and '.join(tables)}")
    tables[document["bench"]](document)


if __name__ == "__main__":
    main()
