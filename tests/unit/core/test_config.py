"""A configuration file: every error at once, with line and suggestion; overrides; paths."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.config import RunConfig, load_config, parse_override
from holdfast.core.errors import ConfigError
from holdfast.core.validated import read_model
from holdfast.core.yamlfile import load_yaml
from holdfast.dataset.contract import read_contract
from holdfast.sources.yaml_knowledge import read_yaml_knowledge

GOOD = "name: demo\ncollect:\n  sources:\n    - path: data.jsonl\n"
KEYS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str, overrides: list[str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text), overrides)
    return caught.value.message


def test_a_small_file_is_enough_and_the_rest_are_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert (config.name, config.base_model, config.train.lora_r) == ("demo", "pebble", 16)


def test_every_error_of_a_file_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = (
        "name: demo\n"  # 1
        "base_modle: pebble\n"  # 2 unknown at the top
        "collect:\n"
        "  sources: 3\n"  # 4 a number where a list belongs
        "train:\n"
        "  learning_rat: 1e-4\n"  # 6 unknown, nested
        "  lora_r: many\n"  # 7 wrong type
        "  num_epochs: -1\n"  # 8 out of range
        "verify:\n"
        "  deploy: Q3_K_M\n"  # 10 not one of the values
    )
    message = problems(tmp_path, text)
    path = tmp_path / "run.yaml"
    assert message.startswith(f"6 errors in {path}:")
    assert f"{path}:2: unknown key 'base_modle', did you mean 'base_model'?" in message
    assert f"{path}:4: collect.sources: " in message and "found 3 (int)" in message
    assert f"{path}:6: unknown key 'train.learning_rat', did you mean 'learning_rate'?" in message
    assert f"{path}:7: train.lora_r: " in message and "found 'many' (str)" in message
    assert f"{path}:8: train.num_epochs: " in message and "found -1 (int)" in message
    assert f"{path}:10: verify.deploy: " in message and "'Q4_K_M'" in message


def test_keys_of_a_mapping_of_sections_are_known_and_a_rule_of_the_whole_file_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "kb.yaml"
    path.write_text("nodes: [a]\nconditions:\n  low:\n    sevrity: x\n")
    with pytest.raises(ConfigError, match="did you mean 'severity'") as caught:
        read_yaml_knowledge(path)
    assert "config-schema" not in caught.value.hint
    path.write_text("task: t\ninstruction: i\nanswer: json\n")
    with pytest.raises(ConfigError, match=r"kb\.yaml:1: answer: json needs") as caught:
        read_contract(path)
    assert "docs/config.md" in caught.value.hint


def test_an_unknown_key_in_a_list_item_gets_the_suggestion_of_that_item(tmp_path: Path) -> None:
    message = problems(tmp_path, "name: demo\ncollect:\n  sources:\n    - path: a\n    - pth: b\n")
    assert ":5: unknown key 'collect.sources.1.pth', did you mean 'path'?" in message
    assert ":5: 'collect.sources.1.path' is missing" in message


def test_an_unknown_key_unlike_any_other_lists_the_known_ones(tmp_path: Path) -> None:
    assert "unknown key 'plan.zzz'; known here: gpu, memory_headroom" in problems(tmp_path, GOOD + "plan:\n  zzz: 1\n")


def test_missing_keys_are_named(tmp_path: Path) -> None:
    message = problems(tmp_path, "")
    assert "2 errors" in message and "'name' is missing" in message and "'collect' is missing" in message


def test_a_duplicate_key_names_both_lines(tmp_path: Path) -> None:
    assert ":6: train.seed is given twice (first on line 5)" in problems(
        tmp_path, "name: demo\nbase_model: x\nseed: 1\ntrain:\n  seed: 1\n  seed: 2\n"
    )


def test_a_list_where_the_sections_belong_is_refused(tmp_path: Path) -> None:
    assert "expected `key: value` lines, found list" in problems(tmp_path, "- name\n")


def test_a_number_written_1e_minus_5_is_a_number(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD + "train:\n  learning_rate: 1e-5\n")).train.learning_rate == 1e-5


@pytest.mark.parametrize("word", ["no", "off", "yes", "y", "on"])
def test_words_that_yaml_1_1_took_for_booleans_stay_text(tmp_path: Path, word: str) -> None:
    assert load_config(write(tmp_path, GOOD + f"plan:\n  gpu: {word}\n")).plan.gpu == word


def test_not_a_number_and_infinity_are_refused(tmp_path: Path) -> None:
    message = problems(tmp_path, GOOD + "train:\n  learning_rate: .nan\n  num_epochs: .inf\n")
    assert "2 errors" in message and "finite number" in message


@pytest.mark.parametrize("key", ["lora_dropout", "warmup_ratio"])
def test_a_share_that_would_train_nothing_or_mean_one_step_is_refused(key: str, tmp_path: Path) -> None:
    assert getattr(load_config(write(tmp_path, GOOD), [f"train.{key}=0.99"]).train, key) == 0.99
    assert f"train.{key}: Input should be less than 1" in problems(tmp_path, GOOD, [f"train.{key}=1.0"])


def test_a_quantisation_named_twice_is_refused(tmp_path: Path) -> None:
    message = problems(tmp_path, GOOD + "export:\n  quantizations: [Q8_0, Q4_K_M, Q8_0]\n")
    assert ":5: export: " in message and "a quantisation is named twice" in message


def test_a_dora_adapter_as_a_file_of_its_own_is_refused_before_training(tmp_path: Path) -> None:
    message = problems(tmp_path, GOOD + "train: {use_dora: true}\nexport: {lora_gguf: true}\n")
    assert "a DoRA adapter cannot be a GGUF file" in message


def test_only_what_is_exported_can_be_deployed(tmp_path: Path) -> None:
    message = problems(tmp_path, GOOD + "verify:\n  deploy: Q8_0\n")
    assert message.endswith("verify.deploy is Q8_0, but export makes only F16, Q4_K_M")
    assert load_config(write(tmp_path, GOOD + "verify:\n  deploy: F16\n")).verify.deploy == "F16"
    assert load_config(write(tmp_path, GOOD + "verify:\n  deploy: auto\n")).verify.deploy == "auto"


@pytest.mark.parametrize("adapter", ["int8", "lora"])
def test_a_4_bit_merge_base_is_refused_where_nothing_is_trained_in_4_bits(adapter: str, tmp_path: Path) -> None:
    text = GOOD + f"train:\n  adapter: {adapter}\nexport:\n  merge_base: nf4\n"
    assert f"export.merge_base is nf4, but train.adapter is {adapter}" in problems(tmp_path, text)
    assert load_config(write(tmp_path, text), ["train.adapter=qlora"]).export.merge_base == "nf4"
    assert load_config(write(tmp_path, text), ["export.merge_base=original"]).train.adapter == adapter
    assert RunConfig.model_validate(load_yaml(tmp_path / "run.yaml")[0]).train.adapter == adapter, "of a finished run"


@pytest.mark.parametrize("name", ["", "Up", "a b", "../x", "-x", "x" * 64, "a/b"])
def test_a_run_name_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    assert ":1: name: " in problems(tmp_path, GOOD.replace("demo", f'"{name}"'))


def test_relative_paths_are_taken_from_the_file_and_not_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(elsewhere)
    text = "name: demo\nbase_model: model\ncollect:\n  sources: [{path: a/b.jsonl}, {path: /x/c.jsonl}]\n"
    config = load_config(write(tmp_path, text + "prepare:\n  contract: ../contract.yaml\n"))
    assert [s.path for s in config.collect.sources] == [str(tmp_path / "a/b.jsonl"), "/x/c.jsonl"]
    assert config.prepare.contract == str(tmp_path.parent / "contract.yaml")
    assert config.base_model == str(tmp_path / "model")


@pytest.mark.parametrize("name", ["pebble", "Qwen/Qwen3-0.6B"])
def test_a_model_name_that_is_no_folder_is_kept(tmp_path: Path, name: str) -> None:
    assert load_config(write(tmp_path, GOOD + f"base_model: {name}\n")).base_model == name


def test_a_model_path_is_made_absolute_even_before_it_exists(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD + "base_model: ./later\n")).base_model == str(tmp_path / "later")


def test_an_override_wins_over_the_file_which_wins_over_the_default(tmp_path: Path) -> None:
    text = GOOD + "train:\n  lora_r: 8\n  lora_alpha: 8\n"
    overrides = ["train.lora_r=4", "evaluate.batch_size=2", "export.quantizations=[Q8_0]", "verify.deploy=Q8_0"]
    config = load_config(write(tmp_path, text), overrides)
    assert (config.train.lora_r, config.train.lora_alpha, config.train.lora_dropout) == (4, 8, 0.0)
    assert (config.evaluate.batch_size, config.export.quantizations) == (2, ("Q8_0",))


def test_the_last_of_two_overrides_wins(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD), ["seed=1", "seed=2"]).seed == 2


def test_an_override_can_repair_what_is_missing(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD.replace("name: demo\n", "")), ["name=other"]).name == "other"


def test_a_wrong_override_is_reported_with_the_errors_of_the_file(tmp_path: Path) -> None:
    message = problems(tmp_path, GOOD + "sed: 1\n", ["train.learning_rate=fast", "train.lora_rr=3"])
    assert "3 errors" in message
    assert "'sed', did you mean 'seed'?" in message and "'train.lora_rr', did you mean 'lora_r'?" in message
    assert "--set train.learning_rate=fast: train.learning_rate: " in message and "found 'fast' (str)" in message
    assert "--set train.lora_rr=3: unknown key" in message


def test_a_wrong_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--set train.learning_rate=5000: ") as caught:
        load_config(write(tmp_path, GOOD), ["train.learning_rate=5000"])
    assert caught.value.hint == "correct --set train.learning_rate=5000"


NO_LIBRARY_TAKES = ("seed=-1", "seed=4294967296", "train.learning_rate=2e4", "train.loraplus_lr_ratio=1e300",
                    "train.micro_batch_size=99999999999")  # fmt: skip


@pytest.mark.parametrize("change", NO_LIBRARY_TAKES)
def test_a_number_that_no_library_takes_is_refused_before_any_work(change: str, tmp_path: Path) -> None:
    assert f"{change.split('=')[0]}: Input should be " in problems(tmp_path, GOOD, [change])


@pytest.mark.parametrize("text", ["", "train.lora_r", "=3", " =3"])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_override(text)


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    assert "seed is not a section" in problems(tmp_path, GOOD + "seed: 1\n", ["seed.x=3"])


def test_an_override_may_hold_an_equals_sign() -> None:
    assert parse_override("collect.system_prompt=a=b") == (("collect", "system_prompt"), "a=b")


@given(st.lists(KEYS, min_size=1), st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False))
def test_an_override_gives_back_its_keys_and_its_value(keys: list[str], value: object) -> None:
    text = {None: "null", True: "true", False: "false"}.get(value) if value in (None, True, False) else None
    if isinstance(value, float):
        text = str(value).replace("inf", ".inf")
    elif not isinstance(value, bool) and value is not None:
        text = str(value)
    assert parse_override(f"{'.'.join(keys)}={text}") == (tuple(keys), value)


def test_configuration_is_frozen(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        config.train.lora_r = 3


def test_a_key_that_is_no_text_is_reported_and_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml:5"):
        read_model(RunConfig, write(tmp_path, GOOD + "1: 2\n"))


def test_the_words_of_an_error_are_those_of_a_yaml_file(tmp_path: Path) -> None:
    text = problems(tmp_path, "name: demo\ncollect:\n  sources: 3\ntrain: 5\nexport:\n  quantizations: Q4_K_M\n")
    assert ":3: collect.sources: expected a list; found 3 (int)" in text
    assert ":4: train: expected `key: value` lines; found 5 (int)" in text
    assert ":6: export.quantizations: expected a list; found 'Q4_K_M' (str)" in text


def test_a_wrong_item_is_one_error_and_not_also_an_empty_list(tmp_path: Path) -> None:
    text = problems(tmp_path, "name: demo\ncollect:\n  sources:\n    - {path: a, format: nope}\n")
    assert text.startswith("1 error in ")
    assert "collect.sources.0.format: Input should be 'auto', 'messages', " in text
    assert "collect.sources: " in problems(tmp_path, "name: demo\ncollect:\n  sources: []\n")
