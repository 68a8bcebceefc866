"""training_loss.png: what is drawn where, for logs of every kind."""

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from holdfast.train.loss_picture import HEIGHT, TRAIN, VALID, WIDTH, curve, draw_losses

LOG: list[dict[str, Any]] = [{"step": step, "loss": 4 / step} for step in range(1, 40)]
LOG += [{"step": step, "eval_loss": 1.5} for step in (10, 20, 30)]


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (WIDTH, HEIGHT))
        return {colour for _, colour in image.convert("RGB").getcolors(WIDTH * HEIGHT) or []}  # type: ignore[misc]


def rgb(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text[1:]))


def test_both_losses_are_drawn_in_their_colours_and_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    draw_losses(LOG, tmp_path / "one.png")
    draw_losses(LOG, tmp_path / "two.png")
    assert {rgb(TRAIN), rgb(VALID)} <= colours(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_without_validation_rows_there_is_one_curve(tmp_path: Path) -> None:
    draw_losses(LOG[:39], tmp_path / "one.png")
    assert rgb(VALID) not in colours(tmp_path / "one.png")


@pytest.mark.parametrize(
    "log",
    [[], [{"step": 1, "loss": 2.0}], [{"step": 3, "loss": 0.0}, {"step": 4, "loss": 0.0}],
     [{"step": 1, "eval_loss": 1e9}], [{"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}],
     [{"step": 5, "loss": -1.0}, {"step": 9, "loss": -2.0}]],
)  # fmt: skip
def test_a_log_with_little_in_it_is_drawn_too(log: list[dict[str, Any]], tmp_path: Path) -> None:
    draw_losses(log, tmp_path / "loss.png")
    assert colours(tmp_path / "loss.png")


def test_what_is_no_number_is_left_out() -> None:
    assert curve([{"step": 1, "loss": math.nan}, {"step": 2, "loss": 3.0}, {"step": 3}], "loss") == [(2.0, 3.0)]
