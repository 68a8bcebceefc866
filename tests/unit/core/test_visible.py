"""Nothing hidden stays hidden, and plain text stays as it is. pytest tests/unit/core/test_visible.py"""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.visible import shorten, show_hidden


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Cc", "Cf", "Cs", "Co", "Zs", "Zl", "Zp")), max_size=80))
def test_no_control_direction_or_zero_width_character_is_left(text: str) -> None:
    shown = show_hidden(text)
    left = [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} and c not in "\n\t"]
    assert left == []
    assert show_hidden(shown) == shown


def test_attacks_are_shown_by_their_code_points() -> None:
    assert show_hidden("a\u202eb") == "a‹U+202E›b"
    assert show_hidden("\x1b[31mred") == "‹U+001B›[31mred"
    assert show_hidden("zero\u200bwidth") == "zero‹U+200B›width"
    assert show_hidden("no\u00a0break") == "no‹U+00A0›break"
    assert show_hidden("\ud800") == "‹U+D800›"
    assert show_hidden("z" + "\u0301" * 40) == "z‹40 combining marks›"


def test_words_of_any_language_stay() -> None:
    for text in ("plain, {json: 1}\n\ttab", "Grüße, café", "日本語 текст عربي", "e\u0301", "‹›⟦■⟧ 5 µs ≥ 3"):
        assert show_hidden(text) == text


def test_long_text_says_how_much_is_left_out() -> None:
    assert shorten("a" * 1500, 10) == "a" * 10 + "… (1,490 more characters)"
    assert shorten("abc", 3) == "abc"
