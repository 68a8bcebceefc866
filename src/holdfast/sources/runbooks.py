"""Markdown runbooks: a page answers its alert, a section answers a question about it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.core.records import Example, Message
from holdfast.core.source_config import RunbookOptions, Source
from holdfast.core.template import fill
from holdfast.sources.conversation import check_turns
from holdfast.sources.defects import Defect, FileReport
from holdfast.sources.files import kind_of
from holdfast.sources.markdown import Page, Section, read_page

INDEX_PAGES = ("_index", "index", "README", "readme")


def read_runbooks(source: Source, files: Sequence[tuple[Path, str]], account: FileReport) -> Iterator[Example | Defect]:
    """Yield the pairs of every page. Pages and sections without text are counted in the notes."""
    pages = empty_sections = 0
    empty_pages: list[str] = []
    for path, name in files:
        if kind_of(path) not in ("runbooks", ""):
            continue
        page = read_page(path, name)
        if not page.sections and (page.stem in INDEX_PAGES or not page.body):
            empty_pages.append(name)
            continue
        pages += 1
        sections = _top_sections(page)
        empty_sections += sum(not section.text for section in sections)
        yield from _pairs(page, sections, source.runbooks)
    account.notes.append(f"{pages} pages")
    if empty_pages:
        account.notes.append(f"{len(empty_pages)} pages hold no section, for example {empty_pages[0]}")
    if empty_sections:
        account.notes.append(f"{empty_sections} sections are empty")


def _top_sections(page: Page) -> list[Section]:
    """The sections that lie in no other section."""
    found: list[Section] = []
    for section in page.sections:
        if not found or section.level <= found[-1].level:
            found.append(section)
    return found


def _one_of_each_heading(sections: Sequence[Section]) -> Iterator[Section]:
    """Sections of one page that have the same heading answer one question: their texts together, at the first line."""
    for heading in dict.fromkeys(section.heading for section in sections):
        same = [section for section in sections if section.heading == heading]
        yield same[0]._replace(text="\n\n".join(section.text for section in same if section.text))


def _pairs(page: Page, sections: Sequence[Section], options: RunbookOptions) -> Iterator[Example | Defect]:
    fact = {"fact": page.title}
    if "alert" in options.pairs and page.body:
        question = fill(options.alert, {"title": page.title, "section": ""})
        yield from make_pair(question, page.body, f"{page.name}:{page.line}", fact)
    for section in _one_of_each_heading(sections) if "section" in options.pairs else ():
        if section.text:
            question = fill(options.question, {"title": page.title, "section": section.heading})
            tags = {**fact, "section": section.heading}
            yield from make_pair(question, section.text, f"{page.name}:{section.line}", tags)


def make_pair(question: str, answer: str, where: str, tags: dict[str, str]) -> Iterator[Example | Defect]:
    """One question with its answer as an example, or the defects that keep it from being one."""
    turns = [("user", question), ("assistant", answer)]
    problems = check_turns(turns)
    for problem in problems:
        yield Defect(problem.rule, where, problem.message, problem.value)
    if not problems:
        messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
        yield Example(messages=messages, source=where, tags={**tags})
