"""Text from rows, made safe to look at: what a screen would hide, reorder or obey is shown by its code point."""

import re
import unicodedata

# Other categories than letters, marks, numbers, punctuation, symbols and plain spaces; new line and tab stay.
_HIDDEN = re.compile(r"[^\n\t\x20-\x7e\xa1-\xac\xae-\u02ff]")
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SPACES = {"\u00a0", "\u2007", "\u202f", "\u3000", "\u3164", "\uffa0", "\u115f", "\u1160", "\u2800"}
_MARKS = re.compile(r"(?:[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]){5,}")


def show_hidden(text: str) -> str:
    """`text` with control, zero-width and direction characters as `‹U+202E›`.

    So an escape sequence cannot reach a terminal, a page cannot be read in another order than it was written, and a
    no-break space is seen. A pile of more than four combining marks is counted instead of drawn.
    """
    return _HIDDEN.sub(_show, _MARKS.sub(lambda match: f"‹{len(match[0])} combining marks›", text))


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, and how many were left out."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def _show(match: re.Match[str]) -> str:
    character = match[0]
    hidden = unicodedata.category(character) in _HIDDEN_CATEGORIES or character in _SPACES
    return f"‹U+{ord(character):04X}›" if hidden else character
