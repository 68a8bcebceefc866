"""Markdown runbooks: a page answers its alert, a section answers a question about it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.core.records import Example, Message
from holdfast.core.source_config import Source
from holdfast.core.template import fill
from holdfast.sources.conversation import check_turns
from holdfast.sources.defects import Defect, FileReport
from holdfast.sources.files import kind_of
from holdfast.sources.markdown import read_page

INDEX_PAGES = ("_index", "index", "README", "readme")


def read_runbooks(source: Source, files: Sequence[tuple[Path, str]], account: FileReport) -> Iterator[Example | Defect]:
    """Yield the pairs of every page. Pages and sections without text are counted in the notes."""
    options = source.runbooks
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
        fact = {"fact": page.title}
        if "alert" in options.pairs and page.body:
            question = fill(options.alert, {"title": page.title, "section": ""})
            yield from make_pair(question, page.body, f"{name}:{page.line}", fact)
        if "section" in options.pairs:
            top = min((section.level for section in page.sections), default=0)
            for section in page.sections:
                if section.level != top:
                    continue
                if not section.text:
                    empty_sections += 1
                    continue
                question = fill(options.question, {"title": page.title, "section": section.heading})
                where = f"{name}:{section.line}"
                yield from make_pair(question, section.text, where, {**fact, "section": section.heading})
    account.notes.append(f"{pages} pages")
    if empty_pages:
        account.notes.append(f"{len(empty_pages)} pages hold no section, for example {empty_pages[0]}")
    if empty_sections:
        account.notes.append(f"{empty_sections} sections are empty")


def make_pair(question: str, answer: str, where: str, tags: dict[str, str]) -> Iterator[Example | Defect]:
    """One question with its answer as an example, or the defects that keep it from being one."""
    turns = [("user", question), ("assistant", answer)]
    problems = check_turns(turns)
    for problem in problems:
        yield Defect(problem.rule, where, problem.message, problem.value)
    if not problems:
        messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
        yield Example(messages=messages, source=where, tags={**tags})
