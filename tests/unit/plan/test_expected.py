"""Times and costs as ranges, against what was measured. Run: pytest tests/unit/plan/test_expected.py"""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.console import Console
from holdfast.core.errors import ConfigError
from holdfast.operations.planning import plan as operation
from holdfast.plan.choose import plan_for
from holdfast.plan.constants import GIB
from holdfast.plan.describe import describe
from holdfast.plan.expected import train_speed, trained_tokens
from holdfast.plan.fused_memory import Recompute
from holdfast.plan.lengths import Lengths
from holdfast.plan.rates import RATES, rate_for
from holdfast.plan.shape import ModelShape, shape_of
from holdfast.plan.target import Target
from plan_shapes import CONFIGS, hardware_with, run_config, write_config

ROOT = Path(__file__).parents[3]
LENGTHS = {"train": [350] * 4000, "valid": [280] * 50, "test_prompt_max": 250, "test_rows": 100}
H200 = Target("gpu", "NVIDIA H200", 140 * GIB, False)


def results(bench: str) -> list[dict[str, Any]]:
    documents = [json.loads(path.read_text()) for path in sorted((ROOT / "bench" / "results").glob("*h200*.json"))]
    return [row for document in documents if document["bench"] == bench for row in document["rows"]]


def measured(trainer: str) -> list[dict[str, Any]]:
    rows = results("train_gpu")
    return [row for row in rows if row["trainer"] == trainer and "tokens_per_second" in row]


def shape_in(row: dict[str, Any]) -> ModelShape:
    return shape_of(CONFIGS[row["shape"]], Path(row["shape"]))


def test_a_step_takes_no_more_tokens_than_there_are_and_there_is_one(tmp_path: Path) -> None:
    def tokens(**train: Any) -> int:
        config = run_config(sequence_len=1024, train=train)
        return trained_tokens(config, Lengths.of(config, {"train": [100] * 10}))

    assert tokens(max_steps=3, micro_batch_size=1) == 3 * 1000, "a packed row of 1,024 would be more"
    assert tokens(max_steps=3, micro_batch_size=2, sample_packing=False) == 3 * 200
    assert tokens(num_epochs=0.3, micro_batch_size=1, sample_packing=False) == 300
    few = run_config(train={"num_epochs": 1e-9, "micro_batch_size": 1, "sample_packing": False})
    plan = plan_for(write_config(tmp_path, "pebble-like"), few, {"train": [100] * 10}, hardware_with())
    assert plan["expected"]["tokens"] == 100


def test_a_model_without_a_configuration_is_planned_with_what_set_says(tmp_path: Path) -> None:
    folder, out = str(write_config(tmp_path, "Llama-3-8B")), Console(quiet=True)
    assert operation(None, folder, "8GB", ["sequence_len=512"], out) == 0
    assert operation(None, folder, "8GB", ["sequence_len=32768", "train.recompute=none"], out) == 21
    with pytest.raises(ConfigError, match=r"(?s)^1 error in --set:.*unknown key 'train.lora', did you mean") as caught:
        operation(None, folder, "8GB", ["train.lora=8"], out)
    assert caught.value.hint.startswith("correct --set")


def test_every_measured_speed_of_the_fast_path_lies_in_the_range() -> None:
    rows = [row for row in measured("holdfast") if "level" in row]
    assert len(rows) >= 30
    for row in rows:
        policy = Recompute(row["level"], row["level"], 0, row.get("offload", False), row.get("mlp_tokens", 0),
                           row.get("keep_weights", False), row.get("graph_tokens", 2048))  # fmt: skip
        low, high = train_speed(shape_in(row), run_config(), row["tokens_per_step"], H200, 16, policy)
        assert 0.98 * low <= row["tokens_per_second"] <= 1.02 * high, row
        assert high / low < 2.5


def test_the_measured_speeds_of_mixed_levels_lie_in_the_range() -> None:
    rows = [attempt for row in results("gpu_cards") for attempt in row["attempts"]]
    assert len(rows) >= 5
    for row in rows:
        (level, _), (upper, fast) = row["levels"]
        policy = Recompute(level, upper, fast, graph_tokens=row["graph_tokens"], host_embedding=row["host_embedding"])
        low, high = train_speed(shape_in(row), run_config(), row["tokens_per_step"], H200, 16, policy)
        assert 0.98 * low <= row["tokens_per_second"] <= 1.02 * high, row


def test_every_measured_speed_of_stock_trl_lies_in_the_range() -> None:
    rows = measured("trl")
    assert len(rows) >= 5
    for row in rows:
        low, high = train_speed(shape_in(row), run_config(), row["tokens"], H200, 16, None)
        assert 0.95 * low <= row["tokens_per_second"] <= 1.05 * high, row


def plan(tmp_path: Path, gpu: str, **sections: Any) -> dict[str, Any]:
    config = run_config(sequence_len=1024, plan={"gpu": gpu, **sections.pop("plan", {})},
                        train={"optimizer": "paged_adamw_8bit", **sections.pop("train", {})}, **sections)  # fmt: skip
    return plan_for(write_config(tmp_path, "Qwen2.5-7B"), config, LENGTHS, hardware_with(ram_gib=64))


def test_an_eight_gigabyte_card_takes_hours_and_says_how_many(tmp_path: Path) -> None:
    found = plan(tmp_path, "8GB")["expected"]
    assert found["kind"] == "estimate"
    assert 3600 < found["low_seconds"] < found["high_seconds"] < 14 * 3600


def test_every_phase_has_its_range_and_all_of_them_their_sum(tmp_path: Path) -> None:
    found = plan(tmp_path, "24GB")["expected"]
    names = ["train", "baseline", "evaluate", "merge", "convert", "quantize", "verify"]
    assert [span["phase"] for span in found["phases"]] == names
    assert found["all_seconds"][0] == pytest.approx(sum(s["low_seconds"] for s in found["phases"]), abs=1)
    assert all(span["low_seconds"] <= span["high_seconds"] and span["source"] for span in found["phases"])


def test_prices_make_a_cost_and_without_them_there_is_only_energy(tmp_path: Path) -> None:
    without = plan(tmp_path, "24GB")
    assert "money" not in without["expected"]["cost"]
    low, high = without["expected"]["all_seconds"]
    rented = plan(tmp_path, "24GB", plan={"price_per_hour": 2.0})
    assert rented["expected"]["cost"]["money"] == pytest.approx([low / 1800, high / 1800], abs=0.01)
    energy = rented["expected"]["cost"]["kwh"]
    owned = plan(tmp_path, "24GB", plan={"price_per_kwh": 0.5})["expected"]["cost"]["money"]
    assert owned == pytest.approx([energy[0] / 2, energy[1] / 2], abs=0.01)
    assert "cost " in describe(rented)
    assert "kWh" in describe(without)


def test_two_cards_are_faster_than_one_and_never_twice_as_fast(tmp_path: Path) -> None:
    one = plan(tmp_path, "24GB")["expected"]["tokens_per_second"]
    two = plan(tmp_path, "24GB", train={"nproc": 2})["expected"]["tokens_per_second"]
    assert one[0] < two[0] <= 2 * one[0]
    assert one[1] < two[1] <= 2.001 * one[1]


@pytest.mark.parametrize(
    ("gib", "wanted"), [(8, "8GB"), (15, "16GB"), (6, "8GB"), (24, "24GB"), (48, "40GB"), (96, "80GB")]
)
def test_a_card_has_the_rate_of_its_class(gib: float, wanted: str) -> None:
    assert rate_for(int(gib * GIB)).device_class == f"nvidia {wanted}"


def test_rates_are_ranges_that_grow_with_the_card() -> None:
    cards = [rate for rate in RATES if rate.device_class.startswith("nvidia")]
    for larger, smaller in zip(cards, cards[1:], strict=False):
        assert larger.fused[1] > smaller.fused[1]
        assert smaller.stock[0] < smaller.stock[1]
    assert rate_for(None).device_class == "cpu"
    assert rate_for(None, apple=True).device_class == "apple"


def test_plan_takes_the_token_counts_of_a_run_that_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(tmp_path, "Qwen2.5-7B")
    file, prepared = tmp_path / "c.yaml", tmp_path / "run" / "02-prepare"
    file.write_text(
        f"name: x\nbase_model: {tmp_path}\nplan: {{gpu: 24GB}}\ncollect: {{sources: [{{path: a.jsonl}}]}}\n"
    )
    assert operation(file, None, None, [], Console(quiet=True), tmp_path / "run") == 0
    assert "time: not known before stage prepare" in capsys.readouterr().out
    prepared.mkdir(parents=True)
    (prepared / "lengths.json").write_text(json.dumps(LENGTHS))
    (prepared / "manifest.json").write_text("{}")
    assert operation(file, None, None, [], Console(quiet=True), tmp_path / "run") == 0
    text = capsys.readouterr().out
    assert "training time: " in text
    assert "verify " in text
    assert f"tokens as counted in {prepared}" in text
