"""Parity catches what breaks a deployment: each sabotage is real, in a GGUF file of the bundled model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import models
from holdfast.core.chat_template import settle_in
from holdfast.core.records import Example, Message
from holdfast.evaluate.parity import Parity, measure_parity
from holdfast.export.gguf import convert_to_gguf
from holdfast.runtime import start_server
from small_run import ticket_rows

BASE = models.find_base_model("pebble")
END = "<|im_end|>"
THINKING = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.role == 'assistant' and loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{{- m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    """200 real tickets: single-turn, with a system prompt, multi-turn."""
    found = []
    for number, row in enumerate(ticket_rows("train.jsonl", 200)[:200]):
        asked = Message(role="user", content=f"{row['instruction']}\n\n{row['input']}")
        answer = Message(role="assistant", content=row["output"])
        first = [Message(role="system", content="You answer in JSON only.")] if number % 3 == 1 else []
        again = [answer, Message(role="user", content="And now?")] if number % 3 == 2 else []
        found.append(Example(messages=(*first, asked, *again, answer), source=f"train.jsonl:{number + 1}"))
    return found


def parity_of(tmp_path: Path, rows: list[Example], change: Callable[[Path], None]) -> Parity:
    """Parity between the bundled model and a GGUF file of a copy that was changed."""
    copy = tmp_path / "copy"
    shutil.copytree(BASE, copy)
    change(copy)
    convert_to_gguf(copy, tmp_path / "m.gguf", name="m")
    with start_server(tmp_path / "m.gguf", n_ctx=512, parallel=1, threads=1) as server:
        return measure_parity(models.load_tokenizer(BASE), server, rows)


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    text = (folder / name).read_text()
    changed = change(text)
    assert changed != text
    (folder / name).write_text(changed)


def edit_json(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document, ensure_ascii=False))


def test_200_real_rows_and_the_awkward_ones_are_the_same(tmp_path: Path, rows: list[Example]) -> None:
    parity = parity_of(tmp_path, rows, lambda folder: None)
    assert parity.passed
    assert (parity.document["rows"], parity.document["identical"]) == (200, 200)
    assert parity.document["awkward"]["rows"] >= 29


def test_a_template_with_thoughts_is_the_same_in_training_and_in_the_server(
    tmp_path: Path, rows: list[Example]
) -> None:
    """As Qwen3's: an empty block before the last answer, in the prompt only when the switch is off."""
    base = tmp_path / "base"
    shutil.copytree(BASE, base)
    edit(base, "chat_template.jinja", lambda text: THINKING)
    tokenizer = models.load_tokenizer(base)
    single = [row for row in rows if len([m for m in row.messages if m.role == "assistant"]) == 1][:20]
    tokens = models.encode_example(tokenizer, single[0].messages)
    trained = [token for token, label in zip(tokens.input_ids, tokens.labels, strict=True) if label >= 0]
    assert tokenizer.decode(trained) == single[0].messages[-1].content + END
    assert models.render_prompt(tokenizer, single[0].prompt).endswith("<think>\n\n</think>\n\n")
    exported = tmp_path / "exported"
    shutil.copytree(base, exported)
    settle_in(exported)
    for change, same in ((str, True), (lambda text: text.replace(" = false %}", " = true %}", 1), False)):
        (exported / "chat_template.jinja").write_text(change((exported / "chat_template.jinja").read_text()))
        convert_to_gguf(exported, tmp_path / "m.gguf", name="m")
        with start_server(tmp_path / "m.gguf", n_ctx=512, parallel=1, threads=1) as server:
            assert measure_parity(tokenizer, server, single).passed == same


def test_a_wrong_template_is_caught(tmp_path: Path, rows: list[Example]) -> None:
    def change(folder: Path) -> None:
        edit(folder, "chat_template.jinja", lambda text: text.replace("<|im_start|>", "[INST]"))

    parity = parity_of(tmp_path, rows, change)
    assert parity.document["identical"] == 0
    assert len(parity.document["differences"]) >= 200
    assert "200 of 200 rows differ" in parity.errors[0].message


def test_a_template_that_loses_one_line_end_is_caught(tmp_path: Path, rows: list[Example]) -> None:
    def change(folder: Path) -> None:
        edit(folder, "chat_template.jinja", lambda text: text.replace("assistant\\n", "assistant"))

    assert not parity_of(tmp_path, rows[:5], change).passed


def test_a_missing_end_token_is_caught(tmp_path: Path, rows: list[Example]) -> None:
    """The file says that another token ends an answer, and the one of training is a plain word."""

    def change(folder: Path) -> None:
        edit_json(folder, "tokenizer_config.json", lambda d: d.update(eos_token="<|endoftext|>"))
        edit_json(folder, "config.json", lambda d: d.update(eos_token_id=models_id("<|endoftext|>")))
        edit_json(folder, "tokenizer.json", rename_end)
        edit(folder, "chat_template.jinja", lambda text: text.replace(END, "<end of answer>"))

    def rename_end(document: dict[str, Any]) -> None:
        for token in document["added_tokens"]:
            if token["content"] == END:
                token |= {"content": "<end of answer>", "special": False}

    parity = parity_of(tmp_path, rows[:5], change)
    assert not parity.passed
    assert not parity.document["stop_ok"]
    assert any("does not end generation" in error.message for error in parity.errors)


def test_a_double_beginning_token_is_caught(tmp_path: Path, rows: list[Example]) -> None:
    """The template writes a BOS, and the file tells the server to put another one before it."""

    def change(folder: Path) -> None:
        edit_json(folder, "tokenizer_config.json", lambda d: d.update(bos_token="<|endoftext|>", add_bos_token=True))
        edit_json(folder, "tokenizer.json", begin_with_bos)
        edit(folder, "chat_template.jinja", lambda text: "<|endoftext|>" * 2 + text)

    def begin_with_bos(document: dict[str, Any]) -> None:
        first = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
        document["post_processor"] = {
            "type": "TemplateProcessing", "single": [first, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
            "special_tokens": {"<|endoftext|>": {
                "id": "<|endoftext|>", "ids": [models_id("<|endoftext|>")], "tokens": ["<|endoftext|>"],
            }},
        }  # fmt: skip

    parity = parity_of(tmp_path, rows[:5], change)
    assert parity.document["identical"] == 0
    assert parity.document["differences"][0]["position"] == 0
    bos = models_id("<|endoftext|>")
    assert parity.document["differences"][0]["served_ids"][:2] == [bos, bos]


def test_a_changed_tokenizer_is_caught(tmp_path: Path, rows: list[Example]) -> None:
    """Two words of the vocabulary swapped: the texts look right, the model reads other words."""

    def change(folder: Path) -> None:
        edit_json(folder, "tokenizer.json", swap)

    def swap(document: dict[str, Any]) -> None:
        words = document["model"]["vocab"]
        words["\u0120the"], words["\u0120is"] = words["\u0120is"], words["\u0120the"]

    parity = parity_of(tmp_path, rows, change)
    assert not parity.passed
    assert 0 < parity.document["rows"] - parity.document["identical"] <= 200


def models_id(text: str) -> int:
    """Id of a token of the bundled model."""
    return int(models.load_tokenizer(BASE).convert_tokens_to_ids(text))
