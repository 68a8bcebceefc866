"""Settings that stay while what is free comes and goes. Run: pytest tests/unit/plan/test_steady.py"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from holdfast.plan.choose import make_plan
from holdfast.plan.constants import GIB
from holdfast.plan.hardware import Gpu, Hardware
from holdfast.plan.steady import steady_plan
from plan_shapes import hardware_with, run_config, write_config

LENGTHS = {"train": [350] * 4000, "valid": [280] * 50, "test_prompt_max": 250, "test_answer_max": 90, "test_max": 340}


def card(free_gib: float, name: str = "Test card") -> Hardware:
    return replace(hardware_with(ram_gib=64), gpus=(Gpu(name, 8 * GIB, int(free_gib * GIB), "1"),))


def planned(
    folder: Path,
    free_gib: float,
    former: Any = None,
    *,
    card_name: str = "Test card",
    trained: bool = False,
    sections: Any = None,
    **train: Any,
) -> Any:
    config = run_config(
        sequence_len=1024, **(sections or {}), train={"optimizer": "paged_adamw_8bit", "micro_batch_size": 4, **train}
    )

    def make(hardware: Hardware) -> dict[str, Any]:
        return make_plan(write_config(folder, "Qwen2.5-7B"), config, LENGTHS, hardware)

    return json.loads(json.dumps(steady_plan(make, card(free_gib, card_name), former, trained=trained)))


def test_more_free_memory_changes_no_setting(tmp_path: Path) -> None:
    first, alone = planned(tmp_path, 7.3), planned(tmp_path, 8.0)
    assert alone["settings"] != first["settings"]
    after = planned(tmp_path, 8.0, first)
    assert (after["settings"], after["evaluation"]) == (first["settings"], first["evaluation"])
    assert any(text.startswith("settings are those of the last plan") for text in after["remarks"])
    assert planned(tmp_path, 7.9, after)["settings"] == first["settings"], "kept again and again"


def test_what_no_longer_fits_is_planned_anew_and_said(tmp_path: Path) -> None:
    first, alone = planned(tmp_path, 8.0), planned(tmp_path, 7.3)
    after = planned(tmp_path, 7.3, first)
    assert after["settings"] == alone["settings"] != first["settings"]
    assert any(text.startswith("7.30 GiB of the card are free; 8.00 were") for text in after["remarks"])


def test_what_is_trained_need_not_fit_again(tmp_path: Path) -> None:
    first = planned(tmp_path, 8.0)
    after = planned(tmp_path, 7.3, first, trained=True)
    assert after["settings"] == first["settings"]
    assert after["evaluation"] == planned(tmp_path, 7.3)["evaluation"] != first["evaluation"]
    few = {"evaluate": {"batch_size": 1}}
    first = planned(tmp_path, 8.0, sections=few)
    assert planned(tmp_path, 7.25, sections=few)["settings"] != first["settings"]
    after = planned(tmp_path, 7.25, first, trained=True, sections=few)
    assert (after["settings"], after["evaluation"]) == (first["settings"], first["evaluation"])


def test_another_configuration_or_another_card_is_planned_for_what_is_free(tmp_path: Path) -> None:
    first, alone = planned(tmp_path, 7.3), planned(tmp_path, 8.0)
    assert planned(tmp_path, 8.0, first, card_name="Another card")["settings"] == alone["settings"]
    assert planned(tmp_path, 8.0, first, lora_r=8) == planned(tmp_path, 8.0, lora_r=8)


def test_a_plan_that_did_not_fit_or_is_damaged_is_no_model(tmp_path: Path) -> None:
    refused = planned(tmp_path, 4.0)
    assert not refused["fits"]
    wanted = planned(tmp_path, 8.0)
    first = planned(tmp_path, 7.3)
    for former in (refused, {}, {**first, "hardware": {"gpus": [1]}}, {**first, "hardware": None}):
        assert planned(tmp_path, 8.0, former) == wanted
