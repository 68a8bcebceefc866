"""What `augment` adds to a prepared data set: rows behind the training rows, preference pairs, counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.config import RunConfig
from holdfast.core.records import SPLITS, Example, examples_bytes, read_examples
from holdfast.dataset.augment import augment
from holdfast.dataset.augment_rules import read_rules
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.preferences import count_pairs, gather_facts, make_pairs
from holdfast.dataset.validate import validate_examples, violations_error

NEAR = 0.8  # where near duplicates are not looked for among the rows, new rows still keep away from held-out ones


class Extension(NamedTuple):
    """rows: new training rows, to be put behind the others; pairs: preferences.jsonl; counts: for the report.

    warnings: rules that made nothing, in words.
    """

    rows: list[Example]
    pairs: list[dict[str, Any]]
    counts: dict[str, Any] | None
    warnings: list[str]


def extend_training(
    config: RunConfig, by_split: Mapping[str, Sequence[Example]], contract: DatasetContract | None
) -> Extension:
    """Apply the rules file to the rows of `train`, once the splits are fixed. Without one, nothing changes.

    Raises ConfigError for a wrong rules file, ContractError when a rule makes rows that break the contract. Rows made
    by `decompose` answer in another form and are not held against it; their words are those of rows that keep it.
    """
    if config.augment.rules is None:
        return Extension([], [], None, [])
    train = by_split["train"]
    rules = read_rules(Path(config.augment.rules))
    made = augment(
        train, rules, config.seed, max_share=config.augment.max_synthetic_share,
        held_out=[*by_split["valid"], *by_split["test"]], contract=contract,
        threshold=config.prepare.near_duplicate_threshold or NEAR,
    )  # fmt: skip
    checked = [row for row in made.rows if row.tags["augmentation"] != "decompose"]
    if contract is not None and (violations := validate_examples(checked, contract)):
        raise violations_error(violations, len(checked))
    pairs: list[dict[str, Any]] = []
    counts = dict(made.counts)
    if rules.preferences:
        facts = gather_facts(train, contract, rules.preferences.nodes)
        pairs = make_pairs(train, rules.preferences, facts, config.seed)
        counts["preferences"] = {"pairs": len(pairs), "by_break": count_pairs(pairs, rules.preferences)}
    return Extension(made.rows, pairs, counts, _idle(counts))


def extend_file(config: RunConfig, folder: Path, contract: DatasetContract | None) -> Extension:
    """`extend_training` on `<split>.jsonl` files in `folder`: new rows are put behind those of train.jsonl.

    Copies that sampling made of a row (tag `copy`) are passed over.
    """
    if config.augment.rules is None:
        return Extension([], [], None, [])
    by_split: dict[str, list[Example]] = {
        split: [row for row in read_examples(folder / f"{split}.jsonl") if "copy" not in row.tags] for split in SPLITS
    }
    extension = extend_training(config, by_split, contract)
    with (folder / "train.jsonl").open("ab") as file:
        file.write(examples_bytes(extension.rows))
    return extension


def _idle(counts: Mapping[str, Any]) -> list[str]:
    idle = [f"the rule {name!r} of augment made no row" for name, rule in counts["by_rule"].items() if not rule["made"]]
    breaks = counts.get("preferences", {}).get("by_break", {})
    return idle + [f"no row could be broken as {name!r} for a preference pair" for name, n in breaks.items() if not n]
