"""The analyst example keeps its promises: 21 rows by default, held-out pairs and words, nothing alike across splits."""

from pathlib import Path

from holdfast.core.config import load_config
from holdfast.core.records import Example
from holdfast.dataset.divide import Options, divide
from holdfast.dataset.duplicates import find_conflicts
from holdfast.dataset.split import Sizes
from holdfast.dataset.table import Reading, table_of
from holdfast.evaluate.tasks import Task, check_items
from holdfast.sources.knowledge import read_knowledge_source
from holdfast.sources.readers import read_file

ANALYST = Path(__file__).parents[3] / "examples" / "analyst"
CONFIG = load_config(ANALYST / "holdfast.yaml")


def rows() -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
    for source in CONFIG.collect.sources:
        if source.format == "prolog":
            found[source.split] += read_knowledge_source(source, "kb").examples
        else:
            found[source.split] += read_file(Path(source.path), "questions.jsonl", "messages", "test").examples
    return found


ROWS = rows()


def pairs(split: str) -> set[tuple[object, object]]:
    return {(e.tags["condition"], e.tags["node"]) for e in ROWS[split] if e.tags["kind"] == "runbook"}


def test_tested_pairs_are_not_in_training_but_each_condition_and_node_is() -> None:
    assert not pairs("test") & (pairs("train") | pairs("valid"))
    assert len(pairs("test")) == 12
    assert {c for c, _ in pairs("test")} <= {c for c, _ in pairs("train")}
    assert {n for _, n in pairs("test")} <= {n for _, n in pairs("train")}
    assert len({n for _, n in pairs("train")}) == 14


def test_no_row_of_one_split_is_like_one_of_another() -> None:
    everything = [e for split in ROWS.values() for e in split]
    assert find_conflicts(everything) == []
    threshold = CONFIG.prepare.near_duplicate_threshold
    options = Options(Sizes(0.1, 0.2), threshold, CONFIG.seed, "")
    divided = divide(table_of(everything, Reading(None)), everything, options)
    assert divided.proof_method.startswith("exact")
    largest = max(pair.similarity for pair in divided.proof.values() if pair is not None)
    assert threshold == 0.5
    assert 0.2 < largest < threshold
    assert not len(divided.dropped.rows)


def test_every_test_item_can_be_checked_and_its_reference_is_true() -> None:
    facts = read_knowledge_source(CONFIG.collect.sources[0], "kb").facts
    check_items(Task(task="analyst", knowledge=facts), ROWS["test"], "knowledge")
    assert sum(e.source.startswith("questions.jsonl") for e in ROWS["test"]) == 10


def test_every_row_has_its_tags() -> None:
    for example in (e for split in ROWS.values() for e in split):
        assert {"fact", "kind", "condition", "node", "rack"} <= set(example.tags), example.source
