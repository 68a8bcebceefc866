"""What the server would not read as training writes it is found before training, with a stand-in model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from holdfast import models, preflight, rehearsal
from holdfast.core import chat_template
from holdfast.core.config import load_config
from holdfast.core.errors import ModelError, StageError
from holdfast.core.records import Example, Message, examples_bytes
from holdfast.core.rundir import RunDir
from holdfast.rehearsal import rehearse
from small_run import ticket_rows
from tiny_checkpoint import make_checkpoint
from toy_pipeline import changed, write_toy_config

PEBBLE = models.find_base_model("pebble")
# As Mistral Nemo's: transformers renders it, llama.cpp v0.5.0 knows `selectattr` with two arguments otherwise.
UNREADABLE = "{%- set n = messages | selectattr('tool_calls', 'undefined') | list | length %}"
# As Llama 3.1's; llama.cpp sets the variable to today.
DATED = (
    "{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{{- 'Today: ' + date_string + '\\n' }}"
)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    rows = [
        Example(
            messages=(Message(role="user", content=row["input"]), Message(role="assistant", content=row["output"])),
            source=f"test.jsonl:{number}",
        )
        for number, row in enumerate(ticket_rows("train.jsonl", 60))
    ]
    path = tmp_path / "test.jsonl"
    path.write_bytes(examples_bytes(rows))
    return path


def with_template(folder: Path, before: str) -> Path:
    """Pebble, its template beginning with something else."""
    shutil.copytree(PEBBLE, folder)
    file = folder / "chat_template.jinja"
    file.write_text(before + file.read_text())
    return folder


def test_the_bundled_model_is_read_as_trained(items: Path) -> None:
    rehearse(PEBBLE, items)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_other_shapes_are_rehearsed_by_their_vocabulary(kind: str, items: Path, tmp_path: Path) -> None:
    rehearse(make_checkpoint(tmp_path / "base", kind), items)


def test_a_template_that_the_server_cannot_read_is_refused_with_the_next_step(items: Path, tmp_path: Path) -> None:
    base = with_template(tmp_path / "base", UNREADABLE)
    assert models.render_prompt(models.load_tokenizer(base), [Message(role="user", content="x")])
    with pytest.raises(ModelError, match="unknown test") as caught:
        rehearse(base, items)
    assert "a stand-in model cannot be served" in caught.value.message
    assert str(tmp_path / "base") in caught.value.message
    assert "without tools" in caught.value.hint


def test_a_template_with_the_date_is_read_as_trained_because_it_is_settled(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = with_template(tmp_path / "base", DATED)
    rehearse(base, items)
    rehearse.cache_clear()
    monkeypatch.setattr(rehearsal, "settle_in", lambda folder: None)
    with pytest.raises(ModelError, match="trained .*Today: 26 Jul 20.*served .*Today: ") as caught:
        rehearse(base, items)
    assert "holdfast export -c FILE goes without it" in caught.value.hint
    assert chat_template.has_date(DATED)


def test_text_that_the_tokenizer_normalises_keeps_its_own_hint(items: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Example(
        messages=(Message(role="user", content="cafe\u0301"), Message(role="assistant", content="{}")), source="t:1"
    )
    items.write_bytes(examples_bytes([row]))
    with pytest.raises(ModelError) as caught:
        rehearse(make_nfc(items.parent / "nfc"), items)
    assert "NFC" in caught.value.hint


def make_nfc(folder: Path) -> Path:
    """A base whose tokenizer normalises, as Qwen's."""
    make_checkpoint(folder)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["normalizer"] = {"type": "NFC"}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


def test_special_tokens_in_a_row_are_the_cause_that_is_named_with_what_to_do(items: Path) -> None:
    """llama.cpp takes `</s>` for a special token by its look, as in Qwen2.5's vocabulary, where it is none."""
    base = make_checkpoint(items.parent / "base")
    document = json.loads((base / "tokenizer.json").read_text())
    words = document["model"]["vocab"]
    words["</s>"] = words.pop("\u0100")  # byte 0, which no row has
    (base / "tokenizer.json").write_text(json.dumps(document))
    texts = ("all is well", "the log says </s> and <b> there")
    turns = [(Message(role="user", content=text), Message(role="assistant", content="low")) for text in texts]
    items.write_bytes(examples_bytes(Example(messages=t, source=f"rows.jsonl:{n}") for n, t in enumerate(turns, 1)))
    with pytest.raises(
        ModelError, match=r"1 of 2 rows differ:\n  rows.jsonl:2: .*the row's text holds '</s>', "
    ) as caught:
        rehearse(base, items)
    assert "take '</s>' out of the rows' text" in caught.value.hint
    assert "chat_template" not in caught.value.hint and "<b>" not in caught.value.hint


@pytest.mark.parametrize(
    ("stage", "wanted", "rehearsed"),
    [
        ("baseline", ("baseline", "train", "verify"), True),
        ("train", ("train", "verify"), True),
        ("train", ("train", "export"), False),
        ("export", ("export", "verify"), False),
    ],
)
def test_it_comes_before_what_takes_long_and_only_where_verify_follows(
    stage: str, wanted: tuple[str, ...], rehearsed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def rehearse(base: Path, items: Path) -> int:
        seen.append((base, items))
        return 500

    monkeypatch.setattr(preflight, "rehearse", rehearse)
    config = changed(load_config(write_toy_config(tmp_path)), "evaluate", max_new_tokens=8)
    preflight.refuse_before(stage, wanted, config, RunDir(tmp_path / "run"))
    assert [path.name for _, path in seen] == ["test.jsonl"] * rehearsed
    tight = changed(config, "verify", n_ctx=507)
    if rehearsed:
        with pytest.raises(StageError, match="500 tokens and an answer may have 8: 508 in all"):
            preflight.refuse_before(stage, wanted, tight, RunDir(tmp_path / "run"))
