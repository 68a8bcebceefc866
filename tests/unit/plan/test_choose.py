"""Which settings are chosen, and how a plan refuses. Run: pytest tests/unit/plan/test_choose.py"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.config import PlanConfig
from holdfast.core.errors import ConfigError, DoesNotFitError
from holdfast.plan.choose import make_plan, plan_for
from holdfast.plan.describe import describe
from holdfast.plan.target import choose_target
from plan_shapes import hardware_with, run_config, write_config

LENGTHS = {"train": [300] * 500, "valid": [280] * 50, "test_prompt_max": 250}
EIGHT_BIT = {"optimizer": "paged_adamw_8bit"}
STOCK = {"kernels": {"use": "never"}}


def phase(plan: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    return next(p for p in plan["phases"] if (p["phase"], p["place"]) == (name, place))


def test_without_a_card_the_plan_is_for_the_processor_in_float32(tmp_path: Path) -> None:
    plan = plan_for(write_config(tmp_path, "pebble-like"), run_config(), LENGTHS, hardware_with())
    assert plan["settings"] == {
        "micro_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "processes": 1,
        "device": "cpu",
        "dtype": "float32",
        "attention": "sdpa",
        "recompute": None,
    }
    assert not any(p["place"] == "gpu" for p in plan["phases"])


def test_a_card_is_used_when_it_is_there_and_plan_gpu_cpu_leaves_it_alone(tmp_path: Path) -> None:
    folder, hardware = write_config(tmp_path, "pebble-like"), hardware_with(gpu_gib=8)
    assert plan_for(folder, run_config(), LENGTHS, hardware)["settings"]["dtype"] == "bfloat16"
    assert plan_for(folder, run_config(plan={"gpu": "cpu"}), LENGTHS, hardware)["settings"]["device"] == "cpu"


def test_the_micro_batch_shrinks_until_it_fits_and_the_effective_batch_stays(tmp_path: Path) -> None:
    train = {**EIGHT_BIT, **STOCK, "micro_batch_size": 6, "gradient_accumulation_steps": 2}
    config = run_config(sequence_len=1024, train=train)
    folder = write_config(tmp_path, "Qwen2.5-7B")
    seen = {}
    for gib in (8, 10, 24):
        settings = plan_for(folder, config, LENGTHS, hardware_with(gpu_gib=gib))["settings"]
        seen[gib] = settings["micro_batch_size"]
        assert settings["micro_batch_size"] * settings["gradient_accumulation_steps"] == 12
    assert seen[8] < seen[10] < seen[24] == 6


def test_the_chosen_micro_batch_is_the_largest_that_fits(tmp_path: Path) -> None:
    folder, hardware = write_config(tmp_path, "Qwen2.5-7B"), hardware_with(gpu_gib=10)
    config = run_config(sequence_len=1024, train={**EIGHT_BIT, **STOCK, "micro_batch_size": 8})
    plan = plan_for(folder, config, LENGTHS, hardware)
    larger = run_config(
        sequence_len=2048 * plan["settings"]["micro_batch_size"], train={**EIGHT_BIT, **STOCK, "micro_batch_size": 1}
    )
    assert phase(plan, "train", "gpu")["margin"] >= 0
    assert not make_plan(folder, larger, LENGTHS, hardware)["fits"]


def test_what_does_not_fit_names_phase_sizes_components_and_remedies(tmp_path: Path) -> None:
    config = run_config(sequence_len=8192, train={"gradient_checkpointing": False, **STOCK})
    with pytest.raises(DoesNotFitError) as caught:
        plan_for(write_config(tmp_path, "Qwen2.5-7B"), config, LENGTHS, hardware_with(gpu_gib=16))
    error = caught.value
    assert error.exit_code == 21
    assert "train does not fit: it needs " in error.message
    assert "15.20 GiB may be used (16.00 available less 5% headroom)" in error.message
    assert "largest: activations" in error.message
    assert error.message.index("remedy: train.gradient_checkpointing=true") < error.message.index("not enough")
    assert error.hint.startswith("holdfast plan -c FILE --set ")


def test_the_suggested_command_leads_to_a_plan_that_fits(tmp_path: Path) -> None:
    folder, hardware = write_config(tmp_path, "Qwen2.5-7B"), hardware_with(gpu_gib=16)
    config = run_config(sequence_len=8192, train={"gradient_checkpointing": False, **STOCK})
    remedies = make_plan(folder, config, LENGTHS, hardware)["problem"]["remedies"]
    for remedy in (r for r in remedies if r["enough"] and r["change"].startswith("train.")):
        key, value = remedy["change"].removeprefix("train.").split("=")
        train = {"gradient_checkpointing": False, **STOCK, key: json.loads(value)}
        assert make_plan(folder, run_config(sequence_len=8192, train=train), LENGTHS, hardware)["fits"]


def test_changes_that_suffice_only_together_are_one_command(tmp_path: Path) -> None:
    folder, hardware = write_config(tmp_path, "Qwen2.5-7B"), hardware_with(gpu_gib=8)
    stock: dict[str, Any] = {"gradient_checkpointing": False, "lora_r": 32, "micro_batch_size": 1, "lora_dropout": 0.1}
    problem = make_plan(folder, run_config(sequence_len=16384, train=stock), None, hardware)["problem"]
    assert not any(remedy["enough"] for remedy in problem["remedies"][:-1])
    together = problem["remedies"][-1]
    assert together["enough"]
    keys = [setting.split("=")[0] for setting in together["settings"]]
    assert len(keys) == len(set(keys)) > 1
    assert problem["next"] == "holdfast plan -c FILE " + " ".join(f"--set {s}" for s in together["settings"])
    values = {key.removeprefix("train."): value for key, value in (s.split("=") for s in together["settings"])}
    changed = run_config(sequence_len=int(values.pop("sequence_len", 16384)), train={**stock, **values})
    assert make_plan(folder, changed, None, hardware)["fits"]


def test_rows_are_cut_only_where_nothing_else_is_enough(tmp_path: Path) -> None:
    folder, hardware = write_config(tmp_path, "Llama-3-8B"), hardware_with(gpu_gib=8, ram_gib=64)
    train = {"micro_batch_size": 1, "lora_dropout": 0.05, "optimizer": "paged_adamw_8bit"}
    problem = make_plan(folder, run_config(sequence_len=2048, train=train), None, hardware)["problem"]
    assert [r["change"] for r in problem["remedies"] if r["enough"]][0] == "train.lora_dropout=0"
    assert any(r["enough"] and r["change"].startswith("sequence_len=") for r in problem["remedies"])


def test_the_activation_decides_whether_layers_are_fused_as_in_training(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "Llama-3-8B")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    assert settings_on(24, folder)["recompute"] is None


def test_gradients_of_earlier_micro_batches_count(tmp_path: Path) -> None:
    folder, needed = write_config(tmp_path, "Qwen2.5-7B"), []
    for steps in (1, 8):
        train = {**EIGHT_BIT, "micro_batch_size": 1, "gradient_accumulation_steps": steps, "recompute": "layer"}
        plan = plan_for(folder, run_config(sequence_len=1024, train=train), None, hardware_with(gpu_gib=16, ram_gib=64))
        needed.append(phase(plan, "train", "gpu"))
    more = needed[1]["components"]["graph buffers"] - needed[0]["components"]["graph buffers"]
    assert more == needed[0]["components"]["adapter"], "one more set of float32 gradients beside those of the graph"


def test_a_disk_that_is_too_small_is_found_before_training(tmp_path: Path) -> None:
    hardware = hardware_with(gpu_gib=24, disk_gib=20)
    plan = make_plan(write_config(tmp_path, "Qwen2.5-7B"), run_config(train=EIGHT_BIT), LENGTHS, hardware)
    assert (plan["problem"]["phase"], plan["problem"]["place"]) == ("convert", "disk")
    assert "free disk space" in plan["problem"]["message"]


def test_memory_held_by_other_processes_does_not_count(tmp_path: Path) -> None:
    hardware = hardware_with(gpu_gib=24)
    busy = replace(hardware, gpus=(replace(hardware.gpus[0], free_bytes=4 * 2**30),))
    folder = write_config(tmp_path, "Qwen2.5-7B")
    assert make_plan(folder, run_config(train=EIGHT_BIT), LENGTHS, hardware)["fits"]
    assert not make_plan(folder, run_config(train=EIGHT_BIT), LENGTHS, busy)["fits"]


def test_a_card_that_is_not_there_is_planned_for_and_said_so(tmp_path: Path) -> None:
    config = run_config(sequence_len=1024, plan={"gpu": "8GB"}, train=EIGHT_BIT)
    plan = plan_for(write_config(tmp_path, "Qwen2.5-7B"), config, LENGTHS, hardware_with(ram_gib=8, disk_gib=5))
    assert plan["settings"]["device"] == "cpu"
    assert plan["target"]["hypothetical"]
    assert phase(plan, "train", "gpu")["available"] == 8 * 2**30
    assert any("not there; on this machine training would use the CPU" in text for text in plan["remarks"])
    assert any("GiB of disk; this machine has" in text for text in plan["remarks"])


@pytest.mark.parametrize("word", ["8", "big", "-8GB", "0GB"])
def test_a_gpu_that_is_no_size_is_a_config_error(word: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu or a size such as 8GB"):
        plan_for(write_config(tmp_path, "pebble-like"), run_config(plan={"gpu": word}), None, hardware_with())


@pytest.mark.parametrize("size", ["99999999999GB", "1024.5GB", "apple-65537GB", "cpu-" + "9" * 400 + "GB", "0.0GB"])
def test_a_size_that_nothing_has_is_refused_with_the_limit(size: str) -> None:
    with pytest.raises(ConfigError, match=r"up to 1,024 GB \(apple-… and cpu-…: up to 65,536 GB\)") as caught:
        choose_target(PlanConfig(gpu=size), hardware_with())
    assert size in caught.value.message and "cpu-32GB" in caught.value.hint


@pytest.mark.parametrize(("size", "gib"), [("1024GB", 1024), ("cpu-65536GB", 65536), ("0.5 GiB", 0.5)])
def test_the_largest_sizes_are_planned_for(size: str, gib: float) -> None:
    target = choose_target(PlanConfig(gpu=size), hardware_with())
    assert (target.gpu_bytes or target.ram_bytes) == gib * 2**30


def test_without_lengths_every_row_is_full_and_time_is_not_known(tmp_path: Path) -> None:
    config = run_config(sequence_len=8192, plan={"gpu": "16GB"}, train=EIGHT_BIT)
    plan = plan_for(write_config(tmp_path, "Llama-3-8B"), config, None, hardware_with())
    assert plan["expected"] is None
    assert any(text.startswith("evaluate is not judged") for text in plan["remarks"])


def test_time_is_a_range_that_grows_with_tokens(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "pebble-like")
    once = plan_for(folder, run_config(train={"num_epochs": 1}), LENGTHS, hardware_with())["expected"]
    twice = plan_for(folder, run_config(train={"num_epochs": 2}), LENGTHS, hardware_with())["expected"]
    assert once["tokens"] == 150_000
    assert twice["low_seconds"] == pytest.approx(2 * once["low_seconds"], rel=0.05)
    assert once["low_seconds"] < once["high_seconds"]
    assert once["kind"] == "estimate"


@pytest.mark.parametrize("gpu", ["cpu", "8GB", "16GB", "24GB", "80GB"])
def test_the_plan_is_json_and_the_text_begins_with_the_verdict(gpu: str, tmp_path: Path) -> None:
    config = run_config(sequence_len=2048, plan={"gpu": gpu}, train=EIGHT_BIT)
    plan = make_plan(write_config(tmp_path, "Llama-3-8B"), config, LENGTHS, hardware_with(ram_gib=16))
    json.dumps(plan, allow_nan=False)
    assert describe(plan).startswith("FITS: " if plan["fits"] else "DOES NOT FIT: ")
    assert ("cpu float32" in describe(plan).splitlines()[0]) == (gpu == "cpu" and plan["fits"]), "not of a card"
    assert plan["fits"] == (plan["problem"] is None)


def test_components_add_up_to_what_is_needed(tmp_path: Path) -> None:
    plan = plan_for(write_config(tmp_path, "pebble-like"), run_config(), LENGTHS, hardware_with(gpu_gib=8))
    for row in plan["phases"]:
        assert sum(row["components"].values()) == row["needed"] == row["usable"] - row["margin"]
    assert {row["phase"] for row in plan["phases"]} == {"train", "evaluate", "merge", "convert", "quantize", "serve"}


def settings_on(gib: float, folder: Path, **train: Any) -> dict[str, Any]:
    config = run_config(sequence_len=2048, train={**EIGHT_BIT, "micro_batch_size": 8, **train})
    lengths = {"train": [350] * 4000, "valid": [280] * 50, "test_prompt_max": 250}
    found: dict[str, Any] = plan_for(folder, config, lengths, hardware_with(gpu_gib=gib))["settings"]
    return found


def test_more_memory_means_less_recompute_and_the_effective_batch_stays(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "Qwen2.5-7B")
    chosen = {gib: settings_on(gib, folder) for gib in (9, 16, 24, 80)}
    for settings in chosen.values():
        assert settings["micro_batch_size"] * settings["gradient_accumulation_steps"] == 8
    slow = ("layer", "attention", "mlp")
    recomputed = {
        gib: sum(count for level, count in settings["recompute"]["levels"] if level in slow)
        for gib, settings in chosen.items()
    }
    assert recomputed[9] == 28
    assert recomputed[9] >= recomputed[16] >= recomputed[24] >= recomputed[80] == 0


def test_one_level_can_be_asked_for_and_offloading_be_forbidden(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "Llama-3-8B")
    settings = settings_on(12, folder, recompute="layer", activation_offloading=False)
    assert settings["recompute"]["levels"] == [["layer", 32]]
    assert not settings["recompute"]["offload"]


def test_a_large_embedding_goes_to_the_host_where_that_makes_room(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "Qwen2.5-7B")
    table, pinned = 2 * 152064 * 3584, 2**31
    config = run_config(sequence_len=1024, plan={"gpu": "8GB"}, train=EIGHT_BIT)
    plan = plan_for(folder, config, None, hardware_with(ram_gib=64))
    assert plan["settings"]["recompute"]["host_embedding"]
    assert phase(plan, "train", "ram")["components"]["input embedding"] == pinned, "torch pins powers of two"
    assert (
        phase(plan, "load", "gpu")["components"]["weights"]
        == phase(plan, "train", "gpu")["components"]["weights"] + table
    )
    stays = config.model_copy(update={"train": config.train.model_copy(update={"embedding_offloading": False})})
    other = phase(plan_for(folder, stays, None, hardware_with(ram_gib=64)), "train", "gpu")
    assert not any(p["phase"] == "load" for p in plan_for(folder, stays, None, hardware_with())["phases"])
    assert other["components"]["weights"] == phase(plan, "train", "gpu")["components"]["weights"] + table
    roomy = settings_on(80, folder)
    assert not roomy["recompute"]["host_embedding"], "where there is room it only costs time"
    assert not settings_on(9, write_config(tmp_path, "Llama-3.2-1B"))["recompute"]["host_embedding"], "tied"


def test_lora_dropout_or_a_switch_brings_the_plan_of_the_plain_path(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "Llama-3-8B")
    for train in ({"lora_dropout": 0.05}, STOCK):
        assert settings_on(24, folder, **train)["recompute"] is None
