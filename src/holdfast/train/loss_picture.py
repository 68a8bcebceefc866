"""training_loss.png: both losses by step, drawn with Pillow (which TensorBoard brings) at twice the size."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.pages.svg import nice_step

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT, FINER = 960, 480, 2  # pixels of the picture; it is drawn FINER times as large
LEFT, RIGHT, TOP, BOTTOM = 70, 850, 40, 425
TRAIN, VALID, INK, GRID = "#2456a6", "#b4540a", "#333333", "#dddddd"
Points = Sequence[tuple[float, float]]


class Axes(NamedTuple):
    """What lies at the ends of both axes, in steps and nats."""

    left: float
    right: float
    low: float
    high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        across = (x - self.left) / ((self.right - self.left) or 1)
        up = (y - self.low) / ((self.high - self.low) or 1)
        return FINER * (LEFT + (RIGHT - LEFT) * across), FINER * (BOTTOM - (BOTTOM - TOP) * up)


def curve(log: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, loss) of the entries that have it; what is no finite number is left out."""
    found = [(float(row["step"]), float(row[name])) for row in log if name in row]
    return [point for point in found if math.isfinite(point[1])]


def draw_losses(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture as PNG. The same log gives the same bytes; an empty log an empty chart."""
    from PIL import Image, ImageDraw

    train, valid = curve(log, "loss"), curve(log, "eval_loss")
    image = Image.new("RGB", (FINER * WIDTH, FINER * HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    axes = _axes([*train, *valid])
    _frame(draw, axes)
    names = _apart([(name, points[-1][1], ink) for name, points, ink in
                    (("training", train, TRAIN), ("validation", valid, VALID)) if points], axes)  # fmt: skip
    _line(draw, axes, train, TRAIN)
    _line(draw, axes, valid, VALID)
    for x, y in valid:
        _dot(draw, axes, x, y, 3.5)
    for name, y, ink in names:
        _text(draw, FINER * (RIGHT + 8), y, name, ink, "lm")
    if valid:
        step, lowest = min(valid, key=lambda point: point[1])
        x, y = axes.place(step, lowest)
        _text(draw, x, y - FINER * 14, f"lowest {lowest:.3f}, step {step:g}", VALID, "mb")
    image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(path, format="PNG", optimize=True)


def _axes(points: Points) -> Axes:
    if not points:
        return Axes(0, 1, 0, 1)
    tick = nice_step((max(y for _, y in points) or 1) / 5)
    high = tick * math.ceil(max(y for _, y in points) / tick * (1 - 1e-9))
    return Axes(min(x for x, _ in points), max(x for x, _ in points), min(0.0, *(y for _, y in points)), high or 1.0)


def _frame(draw: "ImageDraw", axes: Axes) -> None:
    tick = nice_step((axes.high - axes.low) / 5)
    for number in range(math.floor((axes.high - axes.low) / tick + 1e-9) + 1):
        value = axes.low + number * tick
        begin, end = axes.place(axes.left, value), axes.place(axes.right, value)
        draw.line([begin, (FINER * RIGHT, end[1])], fill=GRID if number else INK, width=FINER)
        _text(draw, begin[0] - FINER * 8, begin[1], f"{value:g}", INK, "rm")
    tick = max(1.0, nice_step((axes.right - axes.left) / 8))
    first = math.ceil(axes.left / tick) * tick
    for number in range(math.floor((axes.right - first) / tick + 1e-9) + 1):
        x, y = axes.place(first + number * tick, axes.low)
        draw.line([(x, y), (x, y + FINER * 5)], fill=INK, width=FINER)
        _text(draw, x, y + FINER * 9, f"{first + number * tick:g}", INK, "mt")
    _text(draw, FINER * (LEFT + RIGHT) / 2, FINER * (BOTTOM + 34), "step", INK, "mt")
    _text(draw, FINER * LEFT, FINER * (TOP - 16), "loss", INK, "rm")


def _apart(names: list[tuple[str, float, str]], axes: Axes) -> list[tuple[str, float, str]]:
    """Heights of the labels, in pixels, at least a line of text apart."""
    placed: list[tuple[str, float, str]] = []
    for name, value, ink in sorted(names, key=lambda found: -found[1]):
        y = axes.place(axes.right, value)[1]
        placed.append((name, max(y, placed[-1][1] + FINER * 18) if placed else y, ink))
    return placed


def _line(draw: "ImageDraw", axes: Axes, points: Points, ink: str) -> None:
    if len(points) > 1:
        draw.line([axes.place(*point) for point in points], fill=ink, width=2 * FINER, joint="curve")
    elif points:
        _dot(draw, axes, *points[0], 3.5, ink)


def _dot(draw: "ImageDraw", axes: Axes, x: float, y: float, radius: float, ink: str = VALID) -> None:
    across, up = axes.place(x, y)
    size = radius * FINER
    draw.ellipse([across - size, up - size, across + size, up + size], fill="white", outline=ink, width=2 * FINER)


def _text(draw: "ImageDraw", x: float, y: float, text: str, ink: str, anchor: str) -> None:
    from PIL import ImageFont

    draw.text((x, y), text, fill=ink, anchor=anchor, font=ImageFont.load_default(FINER * 14))
