"""Items of a user's own: what would be measured wrongly is said first."""

from pathlib import Path

import pytest

from holdfast import models
from holdfast.core.errors import StageError
from holdfast.core.records import Example, Message
from holdfast.evaluate.other_items import asked_otherwise
from holdfast.evaluate.room import check_server_room
from holdfast.evaluate.tasks import Task


def item(question: str, source: str, *before: Message) -> Example:
    turns = (*before, Message(role="user", content=question), Message(role="assistant", content="low"))
    return Example(messages=turns, source=source)


def test_items_without_the_instruction_are_found() -> None:
    system = Message(role="system", content="Be brief.")
    items = [item("Classify.\n\nA", "a:1"), item("A", "a:2"), item("Classify.\n\nB", "a:3", system), item("", "a:4")]
    assert asked_otherwise(Task(task="t", instruction="Classify."), items) == ["a:2", "a:4"]
    assert asked_otherwise(Task(task="t"), items) == []


def test_an_item_that_the_server_could_not_read_is_named_before_any_model_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "load_tokenizer", lambda folder: None)
    monkeypatch.setattr(models, "encode_prompt", lambda tokenizer, prompt: list(prompt[-1].content))
    items = [item("x" * 40, "a:1"), item("x" * 90, "a:2")]
    check_server_room(Path(), items, 10, 100)
    with pytest.raises(StageError, match="a:2: its prompt has 90 tokens .* 101 in all, .* verify.n_ctx 100"):
        check_server_room(Path(), items, 11, 100)
