"""What was measured on a card is what the plan chooses today."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])


def newest(name: str) -> dict[str, Any]:
    return dict(json.loads(sorted((BENCH / "results").glob(f"*-{name}.json"))[-1].read_text()))


def test_the_smaller_cards_get_the_settings_that_were_measured(bench: None) -> None:
    import gpu_cards

    rows = newest("cards")["rows"]
    assert len(rows) == len(gpu_cards.CARDS)
    for card, row in zip(gpu_cards.CARDS, rows, strict=True):
        chosen = gpu_cards.planned(*card[1:])
        measured = row["attempts"][-1]
        assert row["fits"]
        assert {key: measured[key] for key in chosen or {}} == chosen, "measure again: python bench/gpu_cards.py"


def test_two_cards_get_the_settings_that_were_measured(bench: None) -> None:
    import train_two

    found = newest("two")
    for case, row in (
        (train_two.plan_case("Qwen2.5-7B", 16384, 80.0), found["one"]),
        (train_two.plan_case("Qwen2.5-32B", 49152, train_two.CARD, nproc=2, distributed="fsdp",
                             gradient_accumulation_steps=2), found["fsdp"]["two"]),
    ):  # fmt: skip
        assert case["fits"]
        assert case["recompute"] == row["recompute"], "measure again: python bench/train_two.py"
    assert not train_two.plan_case("Qwen2.5-32B", 49152, train_two.CARD)["fits"]
