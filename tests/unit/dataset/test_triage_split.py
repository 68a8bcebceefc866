"""The bundled example keeps its own promises: pytest tests/unit/dataset/test_triage_split.py"""

from collections import Counter
from pathlib import Path

import pytest

from holdfast.core.config import RunConfig, load_config
from holdfast.core.records import SPLITS, Example
from holdfast.dataset.contract import DatasetContract, read_contract
from holdfast.dataset.divide import Divided, Options, divide
from holdfast.dataset.duplicates import find_conflicts
from holdfast.dataset.split import TEST, Sizes
from holdfast.dataset.table import Reading, table_of
from holdfast.dataset.validate import label_of, validate_examples
from holdfast.sources.readers import read_file

FOLDER = Path(__file__).parents[3] / "examples" / "triage"


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load_config(FOLDER / "holdfast.yaml")


@pytest.fixture(scope="module")
def contract() -> DatasetContract:
    return read_contract(FOLDER / "contract.yaml")


@pytest.fixture(scope="module")
def examples(config: RunConfig) -> list[Example]:
    rows: list[Example] = []
    for source in config.collect.sources:
        assert source.split != "auto"
        reading = read_file(Path(source.path), Path(source.path).name, source.format, source.split)
        assert reading.defects == []
        rows += reading.examples
    return rows


@pytest.fixture(scope="module")
def divided(examples: list[Example], contract: DatasetContract, config: RunConfig) -> Divided:
    options = Options(Sizes(0.1, 0.2), 0.5, config.seed, contract.instruction)
    return divide(table_of(examples, Reading(contract)), examples, options)


def test_no_pair_across_splits_is_half_alike(divided: Divided, examples: list[Example]) -> None:
    assert divided.proof_method.startswith("exact")
    for name, pair in divided.proof.items():
        assert pair is not None, name
        sources = examples[pair.a].source, examples[pair.b].source
        assert pair.similarity < 0.5, (name, sources)


def test_all_rows_keep_the_contract_and_none_is_a_copy(
    examples: list[Example], contract: DatasetContract, divided: Divided
) -> None:
    assert validate_examples(examples, contract) == []
    assert find_conflicts(examples) == []
    assert not len(divided.dropped.rows)


def test_there_are_enough_rows_in_both_formats(divided: Divided, examples: list[Example]) -> None:
    counts = Counter(SPLITS[place] for place in divided.splits.tolist())
    assert counts["train"] >= 320
    assert counts["valid"] >= 40
    assert counts["test"] >= 100
    assert {e.source.split(":")[0] for e in examples if e.split == "train"} == {
        "train.jsonl",
        "train_chat.jsonl",
        "train_long.jsonl",
    }


def test_the_test_labels_are_balanced_and_many_are_borderline(
    divided: Divided, contract: DatasetContract, examples: list[Example]
) -> None:
    tested = [examples[row] for row in (divided.splits == TEST).nonzero()[0].tolist()]
    labels = Counter(label_of(example, contract) for example in tested)
    assert set(labels) == set(contract.labels)
    assert max(labels.values()) <= 1.2 * min(labels.values())
    assert sum(e.tags.get("borderline") is True for e in tested) >= 25
