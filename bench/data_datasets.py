"""The peer of `bench/data.py`: contract, exact duplicates, split and write with `datasets`, on two processes.

python bench/data_datasets.py DATA OUT CONTRACT
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from datasets import load_dataset

from holdfast.core.records import Example, Message
from holdfast.dataset.contract import read_contract
from holdfast.dataset.table import Reading, table_of
from holdfast.dataset.validate import validate_example


def check(batch: dict[str, list[Any]], contract_file: Path) -> dict[str, list[Any]]:
    """The same functions on each row as the product uses, in batches."""
    contract = read_contract(contract_file)
    examples = [Example(messages=tuple(Message(**turn) for turn in turns), source="") for turns in batch["messages"]]
    rows = table_of(examples, Reading(contract)).rows
    return {
        "broken": [bool(validate_example(example, contract)) for example in examples],
        "prompt": [f"{a:016x}{b:016x}" for a, b in zip(rows["prompt"].tolist(), rows["prompt2"].tolist(), strict=True)],
    }


def main() -> None:
    """Load, check, drop copies, split, write."""
    data, out, contract = (Path(text) for text in sys.argv[1:4])
    rows = load_dataset("json", data_files=str(data), split="train")
    rows = rows.map(partial(check, contract_file=contract), batched=True, num_proc=2)
    seen: set[str] = set()

    def fresh(broken: bool, prompt: str) -> bool:
        new = not broken and prompt not in seen
        seen.add(prompt)
        return new

    kept = rows.filter(fresh, input_columns=["broken", "prompt"]).remove_columns(["broken", "prompt"])
    held_out = kept.train_test_split(test_size=20_000 if len(kept) > 40_000 else 0.2, seed=42)
    for name, part in held_out.items():
        part.to_json(out / f"{name}.jsonl", num_proc=2)


if __name__ == "__main__":
    main()
