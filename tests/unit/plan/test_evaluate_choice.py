"""How many items are answered at once, and where the merged model is left out. Run: pytest tests/unit/plan"""

from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import DoesNotFitError
from holdfast.plan.choose import make_plan, plan_for
from holdfast.plan.evaluate_memory import adapted_layer, evaluate_memory
from holdfast.plan.lengths import Lengths
from plan_shapes import hardware_with, run_config, shape_named, write_config

LENGTHS = {
    "train": [350] * 4000, "valid": [280] * 50, "test_prompt_max": 250, "test_answer_max": 90, "test_max": 340,
}  # fmt: skip
TRAIN = {"optimizer": "paged_adamw_8bit"}


def planned(tmp_path: Path, gpu: str, lengths: Any = LENGTHS) -> dict[str, Any]:
    config = run_config(sequence_len=1024, plan={"gpu": gpu}, train=TRAIN)
    return make_plan(write_config(tmp_path, "Qwen2.5-7B"), config, lengths, hardware_with(ram_gib=64))


@pytest.mark.parametrize(("gpu", "batch", "merged"), [("8GB", 8, False), ("16GB", 16, False), ("24GB", 16, True)])
def test_a_7b_model_answers_as_many_items_at_once_as_the_card_holds(
    gpu: str, batch: int, merged: bool, tmp_path: Path
) -> None:
    plan = planned(tmp_path, gpu)
    assert plan["fits"]
    assert plan["evaluation"] == {"batch_size": batch, "merged": merged}
    assert plan["requested"]["evaluate_batch_size"] == 16
    remarks = " ".join(plan["remarks"])
    assert (f"evaluate.batch_size 16 -> {batch}" in remarks) == (batch < 16)
    assert ("the merged model in transformers, whose weights take 14.2 GiB" in remarks) == (not merged)


def test_long_prompts_are_answered_one_by_one_before_a_run_is_refused(tmp_path: Path) -> None:
    plan = planned(tmp_path, "8GB", {**LENGTHS, "test_prompt_max": 2500, "test_max": 2600})
    assert plan["evaluation"]["batch_size"] == 1
    assert plan["fits"]
    config = run_config(sequence_len=1024, plan={"gpu": "8GB"}, train=TRAIN)
    lengths = {**LENGTHS, "test_prompt_max": 25_000, "test_max": 25_100}
    with pytest.raises(DoesNotFitError, match="evaluate does not fit"):
        plan_for(write_config(tmp_path, "Qwen2.5-7B"), config, lengths, hardware_with(ram_gib=64))


def test_a_file_that_ram_does_not_hold_is_said_to_take_hours(tmp_path: Path) -> None:
    def remarks(ram_gib: int) -> list[str]:
        machine, config = hardware_with(gpu_gib=24, ram_gib=ram_gib), run_config(sequence_len=1024, train=TRAIN)
        plan = make_plan(write_config(tmp_path, "Qwen2.5-7B"), config, LENGTHS, machine)
        return [text for text in plan["remarks"] if "F16" in text]

    (remark,) = remarks(12)
    assert "14.2 GiB, and 12.0 of RAM are free" in remark
    assert remarks(32) == []


def test_while_no_row_was_counted_all_are_taken_as_full(tmp_path: Path) -> None:
    plan = planned(tmp_path, "8GB", None)
    assert plan["evaluation"] == {"batch_size": 2, "merged": False}
    assert next(row for row in plan["phases"] if row["phase"] == "evaluate")["fits"]


def test_answers_that_were_not_counted_are_as_long_as_the_model_may_write() -> None:
    config = run_config(evaluate={"max_new_tokens": 70})
    found = Lengths.of(config, {"train": [100], "test_prompt_max": 60})
    assert (found.longest_test, found.longest_answer) == (130, 70)
    found = Lengths.of(config, {"train": [100], "test_prompt_max": 60, "test_answer_max": 20, "test_max": 75})
    assert (found.longest_test, found.longest_answer) == (75, 20)


def test_an_adapter_on_the_mlp_takes_float32_copies_of_its_outputs() -> None:
    shape = shape_named("Qwen2.5-7B")

    def activations(**train: Any) -> int:
        config = run_config(train=train)
        return evaluate_memory(shape, config, Lengths.of(config, LENGTHS), on_gpu=True)["activations"]

    few = activations(lora_target_linear=False, lora_target_modules=["q_proj", "v_proj"])
    assert few == 16 * 250 * 2 * (3 * 18944 + 4 * 3584)
    assert activations() == 16 * 250 * (12 * 18944 + 10 * 3584)


def test_dora_takes_tensors_of_the_size_of_its_largest_matrix() -> None:
    shape, train = shape_named("Qwen2.5-7B"), run_config(train={"use_dora": True}).train
    identity = 4 * (18944**2 + 18944 * 3584)
    assert identity < adapted_layer(shape, train, 2)(1) < 1.001 * identity
    both, product = 2 * 4 * 18944 * 3584, 18944 * (2 + 16) + 3584 * 4 + 2 * (3 * 3584 + 18944)
    assert adapted_layer(shape, train, 2)(10_000) == both + 10_000 * product
