"""Markdown pages as people write runbooks: front matter, a title, sections. Text is kept as it stands."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from holdfast.sources.files import read_text

PAGE_LIMIT = 8 << 20
HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
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
    """The parts of a page. Headings inside code fences are text."""
    lines = text.replace("\r\n", "\n").split("\n")
    start, matter = _front_matter(lines)
    headings = list(_find_headings(lines, start))
    stem = Path(name).name.split(".")[0]
    title, title_line, body_start = matter or stem, 1, start
    top = headings[0] if headings and headings[0][1] == 1 else None
    if top is not None:
        title, title_line, body_start = top[2], top[0] + 1, top[0] + 1
    sections = []
    for index, (number, level, heading) in enumerate(headings):
        if (number, level, heading) == top:
            continue
        end = next((later[0] for later in headings[index + 1 :] if later[1] <= level), len(lines))
        sections.append(Section(heading, level, number + 1, "\n".join(lines[number + 1 : end]).strip()))
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


def _find_headings(lines: Sequence[str], start: int) -> Iterator[tuple[int, int, str]]:
    """Yield (index, level, text) of the headings outside code fences."""
    fence = ""
    for number in range(start, len(lines)):
        mark = FENCE.match(lines[number])
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and lines[number].strip() == mark[1]:
            fence = ""
        elif not fence and (found := HEADING.match(lines[number])) and found[2].strip():
            yield number, len(found[1]), found[2].strip()


def alert_name(text: str) -> str:
    """What two spellings of an alert have in common: letters and digits in lower case, without "Alert Name:"."""
    return "".join(character for character in PREFIX.sub("", text).lower() if character.isalnum())


def anchor(heading: str) -> str:
    """The anchor that a heading gets in a rendered page: lower case, dashes for spaces, no other punctuation."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.strip().replace(" ", "-")
