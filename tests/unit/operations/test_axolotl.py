"""Axolotl configurations: every key is accounted for, and what is written loads."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.config import RunConfig, load_config
from holdfast.core.console import Console
from holdfast.core.errors import ConfigError, UsageError
from holdfast.operations.axolotl import Translation, translate
from holdfast.operations.axolotl_keys import CHANGED, IGNORED, REFUSED, RENAMED, SAME
from holdfast.operations.import_axolotl import import_axolotl

QLORA = """\
base_model: some/llama
model_type: LlamaForCausalLM
load_in_8bit: false
load_in_4bit: true
strict: no
datasets:
  - path: rows.jsonl
    type: alpaca
  - {path: hub/talks, type: chat_template, field_messages: conversations, message_property_mappings: {role: from}}
val_set_size: 0.05
output_dir: ./outputs/My LoRA
adapter: qlora
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
peft_use_rslora: true
wandb_project:
wandb_log_model: end
gradient_accumulation_steps: 4
micro_batch_size: 2
max_steps: 200
optimizer: adamw_bnb_8bit
lr_scheduler: one_cycle
learning_rate: 2e-4
gradient_checkpointing: unsloth
warmup_steps: 10
eval_steps: 0.1
lora_aplha: 3
special_tokens: {pad_token: "<|end_of_text|>"}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (folder / "talks.jsonl").write_text("{}\n")
    path = folder / "axolotl.yml"
    path.write_text(text)
    return path


def of(document: dict[str, Any]) -> Translation:
    return translate(document, lambda name: None if name.startswith("hub/") else f"/data/{name}")


def test_a_configuration_becomes_one_that_loads_and_every_key_is_accounted_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path, QLORA)
    copies = [f"hub/talks={tmp_path / 'talks.jsonl'}"]
    assert import_axolotl(tmp_path / "out", source, copies, Console(as_json=True)) == 0
    told = json.loads(capsys.readouterr().out)["keys"]
    actions = {line["key"]: line["action"] for line in told}
    config = load_config(tmp_path / "out" / "holdfast.yaml")
    assert (config.name, config.base_model, config.sequence_len) == ("my-lora", "some/llama", 4096)
    assert [(Path(s.path).name, s.format) for s in config.collect.sources] == [
        ("rows.jsonl", "instruction"), ("talks.jsonl", "sharegpt"),
    ]  # fmt: skip
    train = config.train
    assert (train.adapter, train.lora_r, train.use_rslora, train.optimizer) == ("qlora", 32, True, "adamw_8bit")
    assert (train.learning_rate, train.warmup_ratio, train.eval_steps, train.max_steps) == (2e-4, 0.05, 20, 200)
    assert (train.lr_scheduler, train.gradient_checkpointing, train.num_epochs) == ("cosine", True, 1)
    assert actions["lr_scheduler"] == actions["special_tokens"] == actions["datasets[1]"] == "changed"
    assert actions["wandb_log_model"] == actions["strict"] == "ignored"
    assert actions["lora_aplha"] == "unknown"
    assert "lora_aplha: left out: did it mean 'lora_alpha'?" in (tmp_path / "out" / "holdfast.yaml").read_text()


def test_a_prompt_of_ones_own_and_a_part_of_a_split_are_not_left_out_in_silence() -> None:
    own = {"field_instruction": "q", "system_prompt": "Be brief.", "format": "[INST] {instruction}"}
    entries = [
        {"path": "a", "type": own, "split": "train[:90%]"},
        {"path": "b", "type": "chat_template", "split": "train"},
    ]
    told = {line.key: line for line in of({"base_model": "m", "adapter": "lora", "datasets": entries}).lines}
    assert told["datasets[1].type"].action == told["datasets[1].split"].action == "changed"
    assert "field_instruction, system_prompt, format" in told["datasets[1].type"].why
    assert "train[:90%]" in told["datasets[1].split"].why
    assert not {"datasets[2].type", "datasets[2].split"} & set(told)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("rl: dpo", r"axolotl.yml:\d+: rl: only supervised training"),
        ("adapter:", "all weights would be trained"),
        ("datasets: [{path: hub/nothing}]", "a Hub data set needs a local copy: --data hub/nothing=PATH"),
        ("datasets: [{path: rows.jsonl, type: completion}]", "plain text without a question"),
        ("datasets:", "there is no data to learn from"),
        ("base_model:", "base_model: it is missing"),
    ],
)
def test_what_cannot_be_done_is_named_with_its_line_and_nothing_is_written(line: str, why: str, tmp_path: Path) -> None:
    keys = {"base_model": "base_model: x", "adapter": "adapter: lora", "datasets": "datasets: [{path: rows.jsonl}]"}
    keys[line.split(":")[0]] = line
    source = write(tmp_path, "\n".join(keys.values()) + "\n")
    with pytest.raises(ConfigError, match=why):
        import_axolotl(tmp_path / "out", source, [], Console())
    assert not (tmp_path / "out").exists()


def test_a_value_that_holdfast_does_not_take_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write(tmp_path, "base_model: x\nadapter: lora\ndatasets: [{path: rows.jsonl}]\nlora_r: many\n")
    with pytest.raises(ConfigError, match=r"nothing was written: 1 error in (?s:.*)train.lora_r: .* found 'many'"):
        import_axolotl(tmp_path / "out", source, [], Console())
    assert not (tmp_path / "out").exists()


def test_an_existing_configuration_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "holdfast.yaml").write_text("mine")
    with pytest.raises(UsageError, match="already there"):
        import_axolotl(tmp_path, write(tmp_path, QLORA), [], Console())
    assert (tmp_path / "holdfast.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("keys", "adapter"),
    [({"adapter": "lora"}, "lora"), ({"adapter": "lora", "load_in_8bit": True}, "int8"),
     ({"adapter": "lora", "load_in_4bit": True}, "qlora"), ({"adapter": "qlora", "load_in_4bit": "yes"}, "qlora")],
)  # fmt: skip
def test_adapter_and_precision_become_one_key(keys: dict[str, Any], adapter: str) -> None:
    assert of({"base_model": "x", "datasets": [{"path": "a"}], **keys}).config["train"]["adapter"] == adapter


def test_the_whole_batch_is_divided() -> None:
    found = of(
        {"base_model": "x", "adapter": "lora", "datasets": [{"path": "a"}], "batch_size": 32, "micro_batch_size": 4}
    )
    assert found.config["train"]["gradient_accumulation_steps"] == 8


KNOWN = [*SAME, *RENAMED, *(name for rules in (CHANGED, IGNORED, REFUSED) for names, _ in rules for name in names)]
KEYS = st.one_of(st.sampled_from([*KNOWN, "batch_size", "warmup_steps", "load_in_8bit"]), st.text(max_size=12))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3000), st.floats(0, 1), st.text(max_size=8),
    st.lists(st.text(max_size=4), max_size=2), st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=12), VALUES)
def test_no_file_breaks_the_translation_and_every_key_has_exactly_one_line(
    document: dict[str, Any], datasets: Any
) -> None:
    found = of({**document, "adapter": "lora", "datasets": datasets})
    told = [line.key for line in found.lines]
    for key, value in document.items():
        if value is None or value == "":
            continue
        assert told.count(key) == 1, key
    assert all(line.why for line in found.lines if line.action in ("changed", "ignored", "unknown", "refused", "added"))


def test_the_sections_of_the_tables_are_keys_of_the_configuration() -> None:
    for key, section in SAME.items():
        model: Any = RunConfig.model_fields[section].annotation if section else RunConfig
        assert key in model.model_fields, key
    for section, key in RENAMED.values():
        assert key in RunConfig.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
