"""The recipes of examples/recipes: each loads, fits the card it names, and trains with its own settings."""

import json
from pathlib import Path

import pytest

from holdfast import models
from holdfast.core.config import load_config
from holdfast.plan.choose import make_plan
from holdfast.train import trainer as training
from plan_shapes import hardware_with, write_config
from short_training import talks, tiny_base, train_short
from small_run import ROOT, holdfast

FOLDER = ROOT / "examples" / "recipes"
# recipe → shape of its base model, card, adapter parameters: layers x r x (inputs + outputs of each target)
FACTS = {
    "runbooks-8b": ("Llama-3-8B", "16GB", 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024))),
    "enclave-r8": ("Llama-3-8B", "32GB", 32 * 8 * ((4096 + 4096) + (4096 + 1024))),
    "telemetry-1b": ("Llama-3.2-1B", "10GB", 16 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 512))),
    "operations-7b": ("Qwen2.5-7B", "8GB", 28 * 16 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944))),
    "tickets-135m": ("SmolLM2-135M", "8GB", 30 * 8 * ((576 + 576) + (576 + 192))),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "model")


def test_every_recipe_is_tested_and_in_the_table() -> None:
    names = {path.stem for path in FOLDER.glob("*.yaml") if not path.stem.endswith("contract")}
    assert names == set(FACTS)
    table = (FOLDER / "README.md").read_text()
    assert all(f"| `{name}.yaml` |" in table for name in names)


@pytest.mark.parametrize("name", FACTS)
def test_a_recipe_fits_the_card_it_names_by_config_json_alone(name: str, tmp_path: Path) -> None:
    shape, card, adapter = FACTS[name]
    path = FOLDER / f"{name}.yaml"
    assert f"holdfast plan -c {name}.yaml --gpu {card}" in path.read_text()
    plan = make_plan(write_config(tmp_path, shape), load_config(path, [f"plan.gpu={card}"]), None, hardware_with())
    assert plan["fits"], plan["problem"]
    assert plan["base_model"]["trainable"] == adapter
    assert all(phase["fits"] for phase in plan["phases"])


def test_the_command_of_a_recipe_plans_without_weights(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "Qwen2.5-7B")
    done = holdfast("plan", "-c", FOLDER / "operations-7b.yaml", "--model", folder, "--gpu", "8GB", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["settings"]["gradient_accumulation_steps"] == 8


@pytest.mark.parametrize("name", FACTS)
def test_the_settings_of_a_recipe_train(name: str, base: Path, tmp_path: Path) -> None:
    train = load_config(FOLDER / f"{name}.yaml").train
    short = train.model_copy(update={"max_steps": 2, "logging_steps": 1, "eval_steps": 1})
    job = training.Job(base, short, 64, 7, train.micro_batch_size, train.gradient_accumulation_steps, None)
    result = train_short(job, tmp_path, talks(models.load_tokenizer(base), "ab"))
    assert result.summary["steps"] == 2
    targets = result.model.peft_config["default"].target_modules
    assert set(targets) == set(train.lora_target_modules) or train.lora_target_linear
