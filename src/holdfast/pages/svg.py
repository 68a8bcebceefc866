"""Small plots as inline SVG. Geometry is in attributes, looks are in the page's style sheet (classes).

Every plot has a title for screen readers, tells its series apart by pattern or dash as well as by colour, and is the
same for the same numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from holdfast.core.visible import show_hidden

WIDTH = 640


class Part(NamedTuple):
    """A piece of a stacked bar. kind: class that gives it colour and pattern."""

    label: str
    value: float
    kind: str


class Mark(NamedTuple):
    """A value on a scale, or a point with its interval. low = high = value: no interval."""

    label: str
    value: float
    low: float
    high: float
    kind: str


class Line(NamedTuple):
    """A line of (x, y) points."""

    label: str
    points: Sequence[tuple[float, float]]
    kind: str


def element(name: str, content: Markup | str = "", **attributes: object) -> Markup:
    """One SVG element; attribute values and text are escaped. `kind` becomes `class`, `_` becomes `-`."""
    named = {"class" if key == "kind" else key.replace("_", "-"): value for key, value in attributes.items()}
    text = "".join(f' {key}="{escape(_plain(value))}"' for key, value in named.items())
    inner = content if isinstance(content, Markup) else escape(show_hidden(content))
    return Markup(f"<{name}{text}>{inner}</{name}>")  # noqa: S704 (escaped above)


def figure(title: str, height: float, *parts: Markup, kind: str = "plot") -> Markup:
    """An SVG image of WIDTH × height units that scales with the page."""
    content = element("title", title) + Markup("").join(parts)
    return element("svg", content, kind=kind, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=title)


def stacked_bar(title: str, parts: Sequence[Part]) -> Markup:
    """Shares of a whole as one bar. Labels belong into the page's text, beside the legend."""
    total = sum(part.value for part in parts) or 1
    at, drawn = 0.0, []
    for part in parts:
        width = WIDTH * part.value / total
        drawn.append(element("rect", kind=part.kind, x=at, y=0, width=max(0.0, width - (2 if width > 4 else 0)),
                             height=18))  # fmt: skip
        at += width
    return figure(title, 18, *drawn, kind="plot bar")


def share_bar(share: float, kind: str) -> Markup:
    """A small bar for a table cell; the number stands beside it."""
    drawn = element("rect", kind="track", x=0, y=0, width=100, height=10)
    drawn += element("rect", kind=kind, x=0, y=0, width=100 * min(1.0, max(0.0, share)), height=10)
    return element("svg", drawn, kind="cell-bar", viewBox="0 0 100 10", aria_hidden="true")


def histogram(title: str, bins: Sequence[tuple[float, int]], limit: int, kind: str, unit: str = "tokens") -> Markup:
    """How often each length occurs, with a line at `limit`.

    bins: (up to which length, rows), each from where the one before ends; at least one row in all.
    """
    end = max(bins[-1][0], limit * 1.02)
    highest = max(rows for _, rows in bins)
    left, right, top, bottom = 44.0, WIDTH - 12.0, 18.0, 132.0
    drawn = [_axis(left, right, bottom)]
    begin = 0.0
    for upto, rows in bins:
        x, wide = left + (right - left) * begin / end, (right - left) * (upto - begin) / end
        if rows:
            high = max(1.5, (bottom - top) * rows / highest)
            said = element("title", f"{begin:g} to {upto:g} {unit}: {rows:,} rows")
            drawn.append(element("rect", said, kind=kind, x=x + min(0.75, wide / 4), y=bottom - high,
                                 width=max(wide / 2, wide - 1.5), height=high))  # fmt: skip
        begin = upto
    drawn.append(_text(left - 6, top + 4, f"{highest:,}", "end"))
    drawn.append(_text(left - 6, bottom, "0", "end"))
    tick = nice_step(end / 6)
    for number in range(int(end / tick) + 1):
        x = left + (right - left) * number * tick / end
        drawn.append(element("line", kind="tick", x1=x, y1=bottom, x2=x, y2=bottom + 4))
        drawn.append(_text(x, bottom + 18, f"{number * tick:,g}", "middle"))
    x = left + (right - left) * limit / end
    drawn.append(element("line", kind="limit", x1=x, y1=top - 8, x2=x, y2=bottom))
    drawn.append(_text(x - 5, top, f"limit {limit:,}", "end", "label"))
    return figure(title, 156, *drawn)


def scale(title: str, marks: Sequence[Mark], limit: float | None, limit_label: str) -> Markup:
    """Values between 0 and 1, one row each, with a line at `limit` when there is one."""
    left, right, top = 150.0, WIDTH - 54.0, 24.0
    bottom = top + 26 * len(marks)
    drawn = [_axis(left, right, bottom)]
    for number in range(0, 11, 2):
        x = left + (right - left) * number / 10
        drawn.append(element("line", kind="grid", x1=x, y1=top, x2=x, y2=bottom))
        drawn.append(_text(x, bottom + 18, f"{number / 10:g}", "middle"))
    if limit is not None:
        x = left + (right - left) * limit
        drawn.append(element("line", kind="limit", x1=x, y1=top - 6, x2=x, y2=bottom))
        drawn.append(_text(x, top - 10, limit_label, "middle" if 0.15 < limit < 0.85 else "end", "label"))
    for number, mark in enumerate(marks):
        drawn += _mark(mark, top + 13 + 26 * number, left, right)
    return figure(title, bottom + 26, *drawn)


def _mark(mark: Mark, y: float, left: float, right: float) -> list[Markup]:
    at, low, high = (left + (right - left) * min(1.0, max(0.0, v)) for v in (mark.value, mark.low, mark.high))
    drawn = [_text(left - 12, y + 4, mark.label, "end", "label")]
    if high > low:
        drawn.append(element("line", kind=f"whisker {mark.kind}", x1=low, y1=y, x2=high, y2=y))
        drawn += [element("line", kind=f"whisker {mark.kind}", x1=x, y1=y - 5, x2=x, y2=y + 5) for x in (low, high)]
    drawn.append(element("circle", kind=f"dot {mark.kind}", cx=at, cy=y, r=5))
    value = f"{100 * mark.value:.1f} %" if mark.high > mark.low else f"{mark.value:.2f}"
    drawn.append(_text(max(at, high) + 10, y + 4, value, "start", "value"))
    return drawn


def line_chart(title: str, lines: Sequence[Line], x_name: str, y_name: str) -> Markup:
    """Curves over steps, each with its own dash and its name at its end. Values that are not finite are left out."""
    kept = [Line(n, [(x, y) for x, y in p if math.isfinite(x) and math.isfinite(y)], k) for n, p, k in lines]
    every = [point for line in kept for point in line.points]
    if not every:
        return Markup("")
    left, right, top, bottom = 52.0, WIDTH - 96.0, 16.0, 208.0
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)
    y_high, y_low = max(y for _, y in every), min(0.0, min(y for _, y in every))
    y_step = nice_step((y_high - y_low or 1) / 4)
    y_high = y_low + y_step * math.ceil((y_high - y_low or 1) / y_step)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        return left + (right - left) * across, bottom - (bottom - top) * (y - y_low) / (y_high - y_low)

    drawn = [_axis(left, right, bottom)]
    for number in range(round((y_high - y_low) / y_step) + 1):
        y = place(x_low, y_low + number * y_step)[1]
        drawn.append(element("line", kind="grid", x1=left, y1=y, x2=right, y2=y))
        drawn.append(_text(left - 8, y + 4, f"{y_low + number * y_step:g}", "end"))
    drawn += [_text(left, bottom + 18, f"{x_low:g}", "middle"), _text(right, bottom + 18, f"{x_high:g}", "middle")]
    drawn += [_text((left + right) / 2, bottom + 18, x_name, "middle"), _text(left - 44, top - 5, y_name, "start")]
    heights: list[float] = []
    for line in (line for line in kept if line.points):
        spots = [place(*point) for point in line.points]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        drawn.append(element("polyline", kind=f"curve {line.kind}", points=corners))
        if len(spots) <= 12:
            drawn += [element("circle", kind=f"dot {line.kind}", cx=x, cy=y, r=3) for x, y in spots]
        x, y = spots[-1]
        while any(abs(y - other) < 15 for other in heights):
            y -= 5
        heights.append(y)
        drawn.append(_text(right + 8, y + 4, line.label, "start", f"label {line.kind}"))
    return figure(title, 236, *drawn)


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 × 10^n (at least 1 for whole numbers above 1) that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _axis(left: float, right: float, y: float) -> Markup:
    return element("line", kind="axis", x1=left, y1=y, x2=right, y2=y)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "note") -> Markup:
    return element("text", text, kind=kind, x=x, y=y, text_anchor=anchor)


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else show_hidden(str(value))
