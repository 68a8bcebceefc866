"""The choice of rows and policy is the one that counting everything makes, only sooner."""

from itertools import product
from math import inf
from typing import Any

import pytest

from holdfast.plan import fused_choice
from holdfast.plan.constants import GIB
from holdfast.plan.fused_choice import fastest_rows, floor_of
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import batch_tokens, train_memory
from holdfast.plan.phases import training_demands
from holdfast.plan.recompute_choice import _candidates, cost, fastest
from holdfast.plan.several import row_choices
from plan_shapes import run_config, shape_named

LENGTHS = {"train": [300] * 500, "valid": [280] * 50, "test_prompt_max": 250}
WITHOUT: dict[str, Any] = {}
CHOICES = list(product(
    ("Qwen2.5-7B", "Llama-3.2-1B", "pebble-like"), (8, 24), (512, 4096),
    (WITHOUT, {"adapter": "lora", "lora_r": 64}, {"activation_offloading": True},
     {"embedding_offloading": True, "gradient_accumulation_steps": 4}, {"nproc": 2, "distributed": "fsdp"}),
))  # fmt: skip


def planned(name: str, sequence_len: int, train: dict[str, Any], rows: int, known: bool = True) -> tuple[Any, ...]:
    config = run_config(sequence_len=sequence_len, train={"micro_batch_size": rows, **train})
    return shape_named(name), config, Lengths.of(config, LENGTHS if known else None)


@pytest.mark.parametrize(("name", "gib", "sequence_len", "train"), CHOICES)
def test_what_is_left_out_changes_no_choice(name: str, gib: int, sequence_len: int, train: dict[str, Any]) -> None:
    shape, config, lengths = planned(name, sequence_len, train, 12)
    usable = gib * GIB

    def fits(rows: int, policy: Any) -> bool:
        needed = training_demands(shape, config, lengths, rows, "gpu", policy)
        return all(demand.total <= usable for demand in needed if demand.place == "gpu")

    best: tuple[float, int, Any] | None = None
    for rows in row_choices(config.train):
        tokens = batch_tokens(config, lengths, rows)[0]
        option = fastest(shape, config.train, tokens, lambda policy, rows=rows: fits(rows, policy))
        if option is not None and (best is None or option[0] < 0.99 * best[0]):
            best = (option[0], rows, option[1])
    assert fastest_rows(shape, config, lengths, {"gpu": usable}) == (None if best is None else best[1:])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("train", [WITHOUT, {"adapter": "lora"}, {"activation_offloading": True}])
@pytest.mark.parametrize("rows", [1, 6, 60])
def test_no_policy_needs_less_than_its_floor(rows: int, train: dict[str, Any], known: bool) -> None:
    shape, config, lengths = planned("Qwen2.5-7B", 1024, train, 60, known)
    floor = floor_of(shape, config, lengths, rows)
    tokens = batch_tokens(config, lengths, rows)[0]
    for policy in _candidates(shape, config.train, tokens):
        needed = sum(train_memory(shape, config, lengths, rows, on_gpu=True, policy=policy).values())
        assert floor(policy) <= needed, policy
        assert floor(policy) > 0.3 * needed, "and it is near enough to be of use"


def test_a_batch_with_many_divisors_is_not_counted_policy_by_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, config, lengths = planned("Qwen2.5-7B", 1024, {}, 5040)
    counted: list[int] = []

    def count(*given: Any, **named: Any) -> Any:
        counted.append(1)
        return training_demands(*given, **named)

    monkeypatch.setattr(fused_choice, "training_demands", count)
    assert fastest_rows(shape, config, lengths, {"gpu": 24 * GIB}) is not None
    asked = sum(len(list(_candidates(shape, config.train, rows * 1024))) for rows in row_choices(config.train))
    assert len(counted) < asked / 20


def test_only_what_costs_less_is_asked_for() -> None:
    shape, config, _ = planned("Qwen2.5-7B", 1024, {}, 4)
    free = fastest(shape, config.train, 4096, lambda policy: True)
    assert free is not None and free[0] == cost(free[1], shape.layers, 4096) < inf
    assert fastest(shape, config.train, 4096, lambda policy: True, below=free[0]) is None
