"""Several processes, other machines, and what more would need. Run: pytest tests/unit/plan/test_several.py"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.config import TrainConfig
from holdfast.core.errors import ConfigError
from holdfast.plan.choose import make_plan
from holdfast.plan.hardware import Hardware
from holdfast.plan.larger import MACHINES, describe_next, describe_table, table, what_next
from holdfast.plan.several import accumulation, row_choices
from plan_shapes import hardware_with, run_config, write_config

EIGHT_BIT = {"optimizer": "paged_adamw_8bit"}


@given(rows=st.integers(1, 24), steps=st.integers(1, 12), nproc=st.integers(1, 8), nnodes=st.integers(1, 3))
def test_the_effective_batch_stays_or_the_plan_says_that_it_cannot(
    rows: int, steps: int, nproc: int, nnodes: int
) -> None:
    train = TrainConfig(micro_batch_size=rows, gradient_accumulation_steps=steps, nproc=nproc, nnodes=nnodes)
    if rows * steps % (nproc * nnodes):
        with pytest.raises(ConfigError, match="cannot be divided among"):
            row_choices(train)
        return
    choices = row_choices(train)
    assert choices[-1] == 1
    for found in choices:
        assert found <= rows
        assert found * accumulation(train, found) * nproc * nnodes == rows * steps


def cards(count: int, gib: float) -> Hardware:
    hardware = hardware_with(gpu_gib=gib)
    return replace(hardware, gpus=hardware.gpus * count)


def plan(tmp_path: Path, hardware: Hardware, model: str = "Qwen2.5-7B", **train: Any) -> dict[str, Any]:
    config = run_config(sequence_len=2048, train={**EIGHT_BIT, "micro_batch_size": 4, **train})
    return make_plan(write_config(tmp_path, model), config, None, hardware)


def test_the_plan_divides_the_batch_and_names_the_processes(tmp_path: Path) -> None:
    settings = plan(tmp_path, cards(2, 80), nproc=2)["settings"]
    assert (settings["micro_batch_size"], settings["gradient_accumulation_steps"], settings["processes"]) == (2, 1, 2)


def test_more_processes_than_cards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nproc is 2, but 1 card is there"):
        plan(tmp_path, cards(1, 80), nproc=2)


def test_the_card_with_the_least_free_memory_decides(tmp_path: Path) -> None:
    two = cards(2, 24)
    busy = replace(two, gpus=(two.gpus[0], replace(two.gpus[1], free_bytes=4 * 2**30)))
    assert plan(tmp_path, two, nproc=2)["fits"]
    assert not plan(tmp_path, busy, nproc=2)["fits"]


def training(found: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = next(p for p in found["phases"] if (p["phase"], p["place"]) == ("train", "gpu"))
    return row


def test_parts_of_the_weights_make_room_and_must_fit_whole_while_loading(tmp_path: Path) -> None:
    whole, parts = (plan(tmp_path, cards(2, 80), nproc=2, distributed=kind) for kind in ("ddp", "fsdp"))
    saved = training(whole)["components"]["weights"] - training(parts)["components"]["weights"]
    assert 1.6e9 < saved < 1.9e9, "half of 6.5 B weights at 0.516 bytes"
    assert "gathered matrices" in training(parts)["components"]
    assert next(p for p in parts["phases"] if p["phase"] == "load")["components"]["weights"] > 5e9
    assert not parts["settings"]["recompute"]["keep_weights"]


def test_two_cards_hold_what_one_of_them_refuses(tmp_path: Path) -> None:
    one = plan(tmp_path, cards(2, 6.7), nproc=1)
    two = plan(tmp_path, cards(2, 6.7), nproc=2, distributed="fsdp")
    assert not one["fits"]
    assert two["fits"], two["problem"]


def test_processes_share_the_memory_of_a_machine_without_a_card(tmp_path: Path) -> None:
    one, two = (plan(tmp_path, hardware_with(), "pebble-like", nproc=n, micro_batch_size=1,
                     gradient_accumulation_steps=2) for n in (1, 2))  # fmt: skip
    needed = [next(p for p in p["phases"] if p["phase"] == "train")["needed"] for p in (one, two)]
    assert needed[1] > 2 * needed[0]


@pytest.mark.parametrize(("word", "place"), [("apple-64GB", "ram"), ("cpu-32GB", "ram"), ("24GB", "gpu")])
def test_a_machine_that_is_not_there_is_planned_for(word: str, place: str, tmp_path: Path) -> None:
    config = run_config(plan={"gpu": word}, train=EIGHT_BIT)
    found = make_plan(write_config(tmp_path, "Llama-3.2-1B"), config, None, hardware_with(ram_gib=4, gpu_gib=8))
    assert found["target"]["hypothetical"]
    size = float(word.split("-")[-1].removesuffix("GB")) * 2**30
    row = next(p for p in found["phases"] if (p["phase"], p["place"]) == ("train", place))
    assert row["available"] == size
    assert row["checked"]


def test_the_table_has_a_row_for_every_machine_and_keeps_the_batch(tmp_path: Path) -> None:
    config = run_config(sequence_len=1024, train={**EIGHT_BIT, "micro_batch_size": 8})
    rows = table(write_config(tmp_path, "Qwen2.5-7B"), config, hardware_with(ram_gib=32))
    assert [(row["machine"], row["nproc"]) for row in rows] == [(gpu, nproc) for gpu, nproc, _ in MACHINES]
    for row in rows:
        assert row["micro_batch_size"] * row["gradient_accumulation_steps"] * row["nproc"] == 8
        assert row["fits"] == (row["tokens_per_second"] is not None)
    lines = describe_table(rows).splitlines()
    assert [line.split()[0] for line in lines if ":" not in line][1:] == [
        gpu if nproc == 1 else str(nproc) for gpu, nproc, _ in MACHINES
    ]
    assert "8GB: RTX 3050, 4060; 16GB: RTX 4060 Ti, 4080, A4000; " in lines[-2]


def test_the_next_larger_sequence_and_model_are_named_with_what_they_need(tmp_path: Path) -> None:
    config = run_config(sequence_len=1024, plan={"gpu": "16GB"}, train={**EIGHT_BIT, "micro_batch_size": 1})
    rows = what_next(write_config(tmp_path, "Llama-3-8B"), config, hardware_with())
    fits, larger, model = rows
    assert (fits["what"], fits["fits"], larger["fits"]) == ("sequence_len", True, False)
    assert int(larger["value"]) == 2 * int(fits["value"]) >= 8192
    assert larger["needed"] > larger["usable"] >= fits["needed"]
    assert model["what"] == "model"
    assert "14B" in model["value"]
    assert len(describe_next(rows)) == 3


@pytest.mark.parametrize("train", [{"lora_dropout": 0.1}, {"kernels": {"use": "never"}}, {"use_dora": True}])
def test_parts_that_nothing_would_gather_are_refused(train: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="divides what holdfast computes itself"):
        plan(tmp_path, cards(2, 80), nproc=2, distributed="fsdp", **train)


def test_a_refusal_says_whether_all_cards_together_would_hold_it(tmp_path: Path) -> None:
    def told(gib: float, **train: Any) -> str:
        return " ".join(plan(tmp_path, cards(2, gib), **train)["remarks"])

    assert "2 such cards together hold it: --nproc 2 --set train.distributed=fsdp" in told(6.7)
    assert "would not hold it either" in told(4)
    assert "cannot share it: train.distributed: fsdp is not for train.lora_dropout above 0" in told(
        6.7, lora_dropout=0.1
    )
    assert "such cards together" not in told(80)
