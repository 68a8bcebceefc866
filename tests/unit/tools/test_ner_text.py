"""The training text of the name finder: same for a seed, labels where the names are, test sentences kept apart."""

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

TOOL = Path(__file__).resolve().parents[3] / "tools" / "ner"
PEBBLE = TOOL.parent / "pebble"
SHARES = {"template": 3, "pair": 1, "negative": 1, "docstring": 3, "code": 1}


class Tool(NamedTuple):
    """The generator's modules that the tests need."""

    people: ModuleType
    sentences: ModuleType
    score: ModuleType
    gazetteer: ModuleType


@pytest.fixture(scope="module")
def tool() -> Iterator[Tool]:
    """tools/ner is no package: its modules are found by path, and forgotten afterwards."""
    names = {path.stem for folder in (TOOL, PEBBLE) for path in folder.glob("*.py")}
    shadowed = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    path = list(sys.path)
    sys.path.insert(0, str(TOOL))
    try:
        import gazetteer
        import people
        import score
        import sentences

        yield Tool(people, sentences, score, gazetteer)
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)


@pytest.fixture(scope="module")
def writer(tool: Tool) -> Any:
    names = tool.people.Names(tool.people.pool(("en_GB", "de_DE"), 1, ("Graz", "Lyon")), 0.3)
    return tool.sentences.Writer(names, tool.people.rows("templates.txt"), 1)


def some(tool: Tool, writer: Any, seed: int, count: int = 3000) -> list[Any]:
    rng = random.Random(seed)
    return [tool.sentences.noisy(writer.sentence(rng, SHARES), rng, 0.25) for _ in range(count)]


def test_a_seed_decides_the_text(tool: Tool, writer: Any) -> None:
    assert some(tool, writer, 5, 300) == some(tool, writer, 5, 300)
    assert some(tool, writer, 5, 300) != some(tool, writer, 6, 300)


def test_every_label_lies_on_a_name_in_order(tool: Tool, writer: Any) -> None:
    labels = set()
    for text, entities in some(tool, writer, 7):
        borders = [place for start, end, _ in entities for place in (start, end)]
        assert borders == sorted(borders)
        for start, end, label in entities:
            labels.add(label)
            name = text[start:end]
            assert name == name.strip() != ""
            assert "{" not in name
    assert labels == {"PERSON", "ORG", "LOC"}


def test_no_slot_is_left_in_a_template(tool: Tool, writer: Any) -> None:
    rng = random.Random(3)
    slots = tool.sentences.SLOT
    for name in ("templates.txt", "templates_negative.txt", "templates_held.txt"):
        for template in tool.people.rows(name):
            text, entities = writer.fill(template, rng)
            assert not slots.search(text), template
            wanted = [s for s in slots.findall(template) if s in tool.sentences.LABELS]
            assert "|" in template or len(entities) == len(wanted), template


def test_templates_without_names_have_none(tool: Tool) -> None:
    for template in tool.people.rows("templates_negative.txt"):
        assert not set(tool.sentences.SLOT.findall(template)) & tool.sentences.LABELS.keys(), template


def test_held_out_templates_locales_and_sentences_are_not_trained_on(tool: Tool) -> None:
    training = set(tool.people.rows("templates.txt") + tool.people.rows("templates_negative.txt"))
    shape = {re.sub(r"\{\w+\}", "_", template).lower() for template in training}
    held = tool.people.rows("templates_held.txt")
    alike = [
        t for t in held if re.sub(r"\{\w+\}", "_", t).lower() in shape and re.search(r"[a-z]{4}", t.partition("}")[2])
    ]
    assert alike == []
    assert not set(tool.people.TRAIN_LOCALES) & set(tool.people.HELD_LOCALES)
    written = [text for name in ("hand_test.txt", "hand_dev.txt") for text, _ in tool.score.handwritten(name)]
    assert len(tool.score.handwritten("hand_test.txt")) >= 150
    assert not set(written) & {template.lower() for template in training} and not set(written) & training


def test_marks_of_the_hand_written_sentences_are_read(tool: Tool) -> None:
    sentences = tool.score.handwritten("hand_test.txt")
    assert all("](" not in text for text, _ in sentences)
    assert ("Thanks Tobias, that fixed it.", [(7, 13, "PERSON")]) in sentences


def test_scores_count_exact_spans_and_covered_letters(tool: Tool) -> None:
    gold = [("Ann met Bo", [(0, 3, "PERSON"), (8, 10, "PERSON")]), ("In Rome", [(3, 7, "LOC")])]
    got = tool.score.score(lambda _: [[(0, 3, "PERSON"), (8, 10, "ORG")], []], gold)
    assert (got["p"], got["r"], got["f"]) == (0.5, 0.333, 0.4)
    assert got["letters_covered"] == round(5 / 9, 3)
    assert got["by_type"]["PERSON"] == {"p": 1.0, "r": 0.5, "f": 0.667}


def test_known_words_have_a_class_and_doubtful_ones_say_so(tool: Tool, writer: Any) -> None:
    table = tool.gazetteer.known(writer.names.source, writer.names, {"mark", "spark"})
    assert table["Kafka"] == table["kafka"] == "§p"
    assert table["Spark"] == "§pc"
    assert "spark" not in table
    assert "mark" not in table
    assert set("".join(table.values())) <= set("§flgpotxc")
