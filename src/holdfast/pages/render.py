"""From a template and values to one self-contained HTML page: no script, no external resource, nothing of the clock.

Every value is escaped (Jinja2 autoescape) and its hidden characters are shown, so that a row's text can neither break
out of the page nor be read in another order than it was written. The page's own policy (CSP) allows its one style
sheet by digest and nothing else.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from holdfast.core.visible import shorten, show_hidden

TEMPLATES = Path(__file__).with_name("templates")
TEXT_LIMIT = 1500  # characters of one message or answer that a page shows
NAME_LIMIT = 160  # of a source, a label, a rule


def render_page(template: str, values: dict[str, Any]) -> str:
    """Fill a template of this package. The same values give the same bytes."""
    css = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _environment().get_template(template).render(values, css=Markup(css), policy=policy)  # noqa: S704 (ours)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_show,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters |= {"count": count, "percent": percent, "points": points, "size": size, "words": words, "name": name}
    return made


def _show(value: Any) -> Any:
    return show_hidden(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def count(value: float | int | None) -> str:
    """A whole number with thousands separated."""
    return "–" if value is None else f"{value:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share (0 … 1) in percent."""
    return "–" if share is None else f"{100 * share:z.{digits}f} %"


def points(share: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return "–" if share is None else f"{100 * share:+z.1f}".replace("-", "−")


def size(number: float | None) -> str:
    """Bytes as MiB or GiB."""
    if number is None:
        return "–"
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def words(text: str) -> str:
    """A row's text, cut to what a page can show; how much was left out is said."""
    return shorten(text, TEXT_LIMIT)


def name(text: str) -> str:
    """A name from the data, cut to one or two lines."""
    return shorten(text, NAME_LIMIT)
