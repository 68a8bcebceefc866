"""Where the merge is checked, and what that takes. Run: pytest tests/unit/plan"""

from pathlib import Path
from typing import Any

import pytest

from holdfast.core.config import RunConfig
from holdfast.plan.choose import make_plan
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import Demand
from holdfast.plan.merge_memory import merge_memory
from holdfast.plan.phases import demands
from holdfast.plan.remedies import find_remedies
from plan_shapes import hardware_with, run_config, shape_named, write_config

TOKENS = 9000
TRAIN = {"optimizer": "paged_adamw_8bit"}


def planned(tmp_path: Path, *, gpu_gib: float, ram_gib: float = 64, tokens: int = TOKENS) -> dict[str, Any]:
    config = run_config(sequence_len=tokens, train=TRAIN, evaluate={"batch_size": 1})
    lengths = {
        "train": [tokens] * 400,
        "valid": [tokens] * 50,
        "test_prompt_max": 250,
        "test_answer_max": 90,
        "test_max": 340,
    }
    machine = hardware_with(gpu_gib=gpu_gib, ram_gib=ram_gib)
    return make_plan(write_config(tmp_path, "Qwen2.5-7B"), config, lengths, machine)


def merge(plan: dict[str, Any], place: str) -> dict[str, Any]:
    return next(row for row in plan["phases"] if (row["phase"], row["place"]) == ("merge", place))


def test_a_check_that_the_card_holds_is_done_there(tmp_path: Path) -> None:
    plan = planned(tmp_path, gpu_gib=24)
    assert plan["export"] == {"device": "cuda"}
    assert merge(plan, "gpu")["fits"]
    assert "activations" not in merge(plan, "ram")["components"]
    assert not any("checks the merge" in remark for remark in plan["remarks"])


def test_a_check_too_large_for_the_card_is_planned_in_ram(tmp_path: Path) -> None:
    card, host = (merge_memory(
        shape_named("Qwen2.5-7B"), run_config(train=TRAIN), Lengths(TOKENS, None, 400, 250), on_gpu=True, card=size
    ) for size in (20 * 2**30, 2**30))  # fmt: skip
    assert card["gpu"] == host["gpu"]
    more = sum(host["ram"].values()) - sum(card["ram"].values())
    assert more == card["gpu"]["states"] + card["gpu"]["activations"]


@pytest.mark.parametrize(("ram_gib", "fits"), [(64, True), (9, False)])
def test_a_check_on_the_cpu_is_judged_by_the_ram_that_is_there(tmp_path: Path, ram_gib: float, fits: bool) -> None:
    plan = planned(tmp_path, gpu_gib=8, ram_gib=ram_gib, tokens=12_000)
    assert plan["export"] == {"device": "cpu"}
    assert any("checks the merge on the CPU" in remark for remark in plan["remarks"])
    assert not merge(plan, "gpu")["fits"]
    assert not merge(plan, "gpu")["checked"]
    assert merge(plan, "ram")["checked"]
    assert merge(plan, "ram")["fits"] == plan["fits"] == fits


def test_remedies_for_a_check_in_ram_leave_out_the_importance_matrix_or_shorten_rows() -> None:
    shape, lengths = shape_named("Qwen2.5-7B"), Lengths(TOKENS, 4_000_000, 400, 250)
    config = run_config(sequence_len=TOKENS, train=TRAIN, export={"imatrix": True})
    small = 2**30

    def demand_of(changed: RunConfig) -> list[Demand]:
        return demands(shape, changed, lengths.shortened(changed.sequence_len), 1, "gpu", card=small)

    failed = next(d for d in demand_of(config) if (d.phase, d.place) == ("merge", "ram"))
    found = {remedy.change: remedy for remedy in find_remedies(config, failed, failed.total - 2**30, demand_of)}
    assert found["export.imatrix=false"].enough
    assert found["sequence_len=2250"].saves > found["sequence_len=4500"].saves > 0
