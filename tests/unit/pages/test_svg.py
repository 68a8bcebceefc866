"""Plots are well-formed XML whatever the labels, stay inside their frame and do not depend on chance.

pytest tests/unit/pages
"""

import xml.etree.ElementTree as ElementTree
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.pages.svg import WIDTH, Line, Mark, Part, histogram, line_chart, nice_step, scale, share_bar, stacked_bar

LABELS = st.text(st.characters(exclude_categories=[]), max_size=12)
SHARES = st.floats(0, 1)


def parsed(svg: str) -> ElementTree.Element:
    assert "nan" not in svg.split("<title>")[-1].split("</title>")[-1]
    return ElementTree.fromstring(svg)


def numbers(root: ElementTree.Element, tag: str, name: str) -> list[float]:
    return [float(node.attrib[name]) for node in root.iter(tag) if name in node.attrib]


@given(LABELS, st.lists(st.tuples(LABELS, st.integers(0, 10**9)), max_size=5))
def test_a_stacked_bar_fills_its_width_and_no_more(title: str, parts: list[tuple[str, int]]) -> None:
    root = parsed(stacked_bar(title, [Part(label, value, "s-train") for label, value in parts]))
    widths = numbers(root, "rect", "width")
    assert sum(widths) <= WIDTH + 0.1
    assert all(width >= 0 for width in widths)


@given(LABELS, st.lists(st.integers(0, 9999), min_size=1, max_size=40), st.integers(1, 999), st.integers(1, 100_000))
def test_a_histogram_shows_every_row_inside_its_frame(title: str, rows: list[int], width: int, limit: int) -> None:
    bins = [((n + 1) * width, count) for n, count in enumerate([*rows, 1])]
    svg = histogram(title, bins, limit, "s-train")
    root = parsed(svg)
    shown = [node.text or "" for node in root.iter("title")][1:]
    assert sum(int(text.split(": ")[1].split()[0].replace(",", "")) for text in shown) == sum(rows) + 1
    for x, wide in zip(numbers(root, "rect", "x"), numbers(root, "rect", "width"), strict=True):
        assert 0 <= x <= x + wide <= WIDTH
    assert svg == histogram(title, bins, limit, "s-train")


@given(st.lists(st.tuples(LABELS, SHARES, SHARES, SHARES), max_size=5), SHARES)
def test_a_scale_keeps_its_marks_inside(rows: list[tuple[str, float, float, float]], limit: float) -> None:
    marks = [Mark(label, *sorted(values), "s-test") for label, *values in rows]
    root = parsed(scale("t", [Mark(m.label, m.low, m.value, m.high, m.kind) for m in marks], limit, "limit"))
    assert all(0 <= x <= WIDTH for x in numbers(root, "circle", "cx"))


@given(st.lists(st.lists(st.tuples(st.floats(), st.floats()), max_size=20), max_size=3))
def test_curves_leave_out_what_is_not_finite(series: list[list[tuple[float, float]]]) -> None:
    small = [[(x, y) for x, y in points if not (abs(x) > 1e9 or abs(y) > 1e9)] for points in series]
    svg = line_chart("t", [Line("a", points, "s-train") for points in small], "step", "loss")
    if svg:
        assert len(list(parsed(svg).iter("polyline"))) <= len(series)
        assert "inf" not in svg


def test_series_differ_without_colour() -> None:
    points = [(1.0, 2.0), (2.0, 1.0)]
    svg = line_chart(
        "Loss", [Line("training", points, "s-train"), Line("validation", points, "s-valid")], "step", "loss"
    )
    labels = [node.text for node in parsed(svg).iter("text")]
    assert {"training", "validation"} <= set(labels)
    assert 'role="img"' in svg


def test_a_small_bar_is_hidden_from_screen_readers_because_its_number_stands_beside_it() -> None:
    assert 'aria-hidden="true"' in share_bar(0.5, "s-train")
    assert 'width="50"' in share_bar(0.5, "s-train")
    assert 'width="100"' in share_bar(7.0, "s-train")


@given(st.floats(1e-6, 1e12))
def test_steps_are_round_and_never_too_small(rough: float) -> None:
    step = nice_step(rough)
    assert rough * (1 - 1e-6) <= step <= rough * 10
    assert f"{step:.0e}"[0] in "125"


def test_text_is_escaped_and_hidden_characters_are_shown() -> None:
    hostile: Any = '<script>"&\u202e\x00'
    svg = stacked_bar(hostile, [])
    assert "<script>" not in svg
    assert "‹U+202E›" in svg
    assert "‹U+0000›" in svg
