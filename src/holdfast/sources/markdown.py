"""Markdown pages as people write runbooks: front matter, a title, sections. Text is kept as it stands."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from holdfast.sources.files import read_text

PAGE_LIMIT = 8 << 20
HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
SETEXT = re.compile(r"^ {0,3}(==+|--+)[ \t]*$")
# What a line under a row of = or - may be instead of a title: code, a list item, a quotation, a table, HTML.
NO_TITLE = re.compile(r"^(?: {4}|\t| {0,3}(?:[-*+](?:\s|$)|\d{1,9}[.)]\s|[>|<]))")
# A fence may stand behind the mark of a list item. Behind backticks no backtick may follow: that is code in a line.
FENCE = re.compile(r"^ {0,3}(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(```+(?=[^`]*$)|~~~+)")
COMMENT = re.compile(r"^ {0,3}<!--")
PREFIX = re.compile(r"^alert(?: ?name)?\s*:\s*", re.IGNORECASE)


class Section(NamedTuple):
    """A heading and what stands below it, up to the next heading of its level or above. `line` is the heading's."""

    heading: str
    level: int
    line: int
    text: str


class Page(NamedTuple):
    """A page. `title` is its first top heading, else the title of its front matter, else the name of the file.

    body: everything below the title. names: all that the page as a whole may be called.
    """

    name: str
    stem: str
    title: str
    line: int
    body: str
    sections: list[Section]
    names: list[str]


def read_page(path: Path, name: str) -> Page:
    """Read one page. Raises ContractError when it is no text (UTF-8) or larger than 8 MiB."""
    return parse_page(read_text(path, name, PAGE_LIMIT), name)


def parse_page(text: str, name: str) -> Page:
    """The parts of a page. Headings inside code fences and HTML comments are text."""
    lines = text.replace("\r\n", "\n").split("\n")
    start, matter = _front_matter(lines)
    headings = list(_find_headings(lines, start))
    stem = Path(name).name.split(".")[0]
    title, title_line, body_start = matter or stem, 1, start
    top = headings[0] if headings and headings[0].level == 1 else None
    if top is not None:
        title, title_line, body_start = top.text, top.line, top.below
    sections = []
    for index, heading in enumerate(headings):
        if heading is top:
            continue
        end = next((later.line - 1 for later in headings[index + 1 :] if later.level <= heading.level), len(lines))
        below = "\n".join(lines[heading.below : end]).strip()
        sections.append(Section(heading.text, heading.level, heading.line, below))
    body = "\n".join(lines[body_start:]).strip()
    return Page(name, stem, title, title_line, body, sections, [stem, title, *([matter] if matter else [])])


def _front_matter(lines: Sequence[str]) -> tuple[int, str]:
    """Index of the first line behind the front matter (`---` or `+++`), and the title in it."""
    if not lines or lines[0].strip() not in ("---", "+++"):
        return 0, ""
    end = next((n for n, line in enumerate(lines[1:], 1) if line.strip() == lines[0].strip()), 0)
    if not end:
        return 0, ""
    for line in lines[1:end]:
        found = re.match(r"title\s*[:=]\s*(.+?)\s*$", line)
        if found:
            return end + 1, found[1].strip("\"'")
    return end + 1, ""


class _Heading(NamedTuple):
    """`line` counts from 1; `below` is the index of the first line under the heading."""

    line: int
    level: int
    text: str
    below: int


def _find_headings(lines: Sequence[str], start: int) -> Iterator[_Heading]:
    """Yield the headings outside code fences and HTML comments: `# Title`, or a title with === or --- under it."""
    fence, comment, ordinary = "", False, -2
    for number in range(start, len(lines)):
        line = lines[number]
        mark = FENCE.match(line)
        if fence:
            plain = line.strip()
            if plain.startswith(fence) and not plain.strip(fence[0]):
                fence = ""
        elif comment or COMMENT.match(line):
            comment = "-->" not in line
        elif mark:
            fence = mark[1]
        elif (found := HEADING.match(line)) and found[2].strip():
            yield _Heading(number + 1, len(found[1]), found[2].strip(), number + 1)
        elif (rule := SETEXT.match(line)) and ordinary == number - 1 and _is_title(lines, ordinary, start):
            yield _Heading(number, 1 if rule[1][0] == "=" else 2, lines[ordinary].strip(), number + 1)
        else:
            ordinary = number


def _is_title(lines: Sequence[str], number: int, start: int) -> bool:
    """Whether a line is a paragraph by itself; under a longer one --- is mostly meant as a line across the page."""
    line = lines[number]
    alone = number == start or not lines[number - 1].strip() or HEADING.match(lines[number - 1]) is not None
    return alone and line.strip() != "" and not NO_TITLE.match(line)


def alert_name(text: str) -> str:
    """What two spellings of an alert have in common: letters and digits in lower case, without "Alert Name:"."""
    return "".join(character for character in PREFIX.sub("", text).lower() if character.isalnum())


def anchor(heading: str) -> str:
    """The anchor that a heading gets in a rendered page: lower case, dashes for spaces, no other punctuation."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.strip().replace(" ", "-")
