"""Prometheus alerting rules joined with their runbooks: the alert is the question, the runbook the answer."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from holdfast.core.records import Example
from holdfast.core.source_config import Source
from holdfast.core.template import fill
from holdfast.sources.defects import Defect, FileReport
from holdfast.sources.files import display_names, find_files, kind_of, read_bytes, read_text
from holdfast.sources.markdown import Page, alert_name, anchor, read_page
from holdfast.sources.rulefile import Rule, read_rule_file
from holdfast.sources.runbooks import make_pair

FILE_LIMIT = 32 << 20
RULES = re.compile(rb"^\s*(?:-\s+)?[\"']?groups[\"']?\s*:|kind:\s*PrometheusRule|[{,]\s*\"groups\"\s*:", re.MULTILINE)
QUOTED_OR_BLANK = re.compile(
    r"""(?P<quoted>"(?:\\.|[^"\\])*(?:"|\\?\Z)|'(?:\\.|[^'\\])*(?:'|\\?\Z)|`[^`]*(?:`|\Z))|(?:\#[^\n]*|\s)+""",
    re.DOTALL,
)


class Runbook(NamedTuple):
    """The text that answers an alert, and what it is called."""

    text: str
    fact: str


class Library(NamedTuple):
    """Runbooks by what alerts may call them. All names are in the form of `alert_name`.

    pages: whole pages. headings: sections with a heading that is an alert's name. anchors: sections by (page, anchor).
    """

    pages: dict[str, Runbook]
    headings: dict[str, Runbook]
    anchors: dict[tuple[str, str], Runbook]


def looks_like_rules(files: Sequence[Path]) -> bool:
    """Whether every YAML file begins like a rule file or a PrometheusRule. Raises ContractError for a damaged one."""
    found = [RULES.search(read_bytes(path, str(path), FILE_LIMIT)) for path in files if kind_of(path) == "yaml"]
    return bool(found) and all(found)


def read_rules(source: Source, files: Sequence[tuple[Path, str]], account: FileReport) -> Iterator[Example | Defect]:
    """Yield a pair for every alert that has a runbook; alerts without one are counted in the notes."""
    library = _read_library(source, files, account)
    without: Counter[str] = Counter()
    joined = recordings = 0
    for path, name in files:
        if kind_of(path) == "runbooks":
            continue
        found = read_rule_file(read_text(path, name, FILE_LIMIT), name)
        recordings += found.recordings
        yield from found.defects
        for rule in found.alerts:
            runbook = find_runbook(rule, library)
            if runbook is None:
                without[rule.alert] += 1
                continue
            joined += 1
            tags = {"fact": runbook.fact, "alert": rule.alert, "group": rule.group}
            if severity := rule.labels.get("severity"):
                tags["severity"] = severity
            yield from make_pair(ask(rule, source.prometheus.prompt), runbook.text, f"{name}:{rule.line}", tags)
    account.notes.append(f"{joined} alerts joined with their runbooks")
    if without:
        shown = ", ".join(list(without)[:3]) + (" …" if len(without) > 3 else "")
        account.notes.append(f"{sum(without.values())} alerts have no runbook and are left out ({shown})")
    if recordings:
        account.notes.append(f"{recordings} recording rules are not used")


def ask(rule: Rule, template: str) -> str:
    """The alert as the model sees it."""
    values = {
        "alert": rule.alert, "expr": one_line(rule.expr), "for": rule.wait,
        "severity": rule.labels.get("severity", ""), "group": rule.group,
        "summary": " ".join((rule.annotations.get("summary") or rule.annotations.get("message", "")).split()),
        "description": " ".join(rule.annotations.get("description", "").split()),
        "labels": ", ".join(f"{key}={value}" for key, value in rule.labels.items()),
    }  # fmt: skip
    return fill(template, values)


def one_line(expr: str) -> str:
    """A PromQL expression without comments, blanks and line breaks made one blank; quoted text stays as it is."""
    return QUOTED_OR_BLANK.sub(lambda found: found["quoted"] or " ", expr).strip()


def find_runbook(rule: Rule, library: Library) -> Runbook | None:
    """The runbook of an alert: by the anchor or the last part of its `runbook_url`, else by the alert's own name."""
    url = rule.annotations.get("runbook_url") or rule.annotations.get("runbook", "")
    place, _, fragment = unquote(url).partition("#")
    segment = place.rstrip("/").rpartition("/")[2]
    stem = alert_name(re.sub(r"\.(md|markdown|html?)$", "", segment))
    own = alert_name(rule.alert)
    if fragment and (stem, anchor(fragment)) in library.anchors:
        return library.anchors[stem, anchor(fragment)]
    if not fragment and stem and stem in library.pages:
        return library.pages[stem]
    return library.pages.get(own) or library.headings.get(own)


def _read_library(source: Source, files: Sequence[tuple[Path, str]], account: FileReport) -> Library:
    named = [(path, name) for path, name in files if kind_of(path) == "runbooks"]
    if source.prometheus.runbooks is not None:
        others = find_files(source.prometheus.runbooks).files
        named = [(path, name) for path, name in zip(others, display_names(others), strict=True)
                 if kind_of(path) in ("runbooks", "")]  # fmt: skip
    library = Library({}, {}, {})
    first: dict[str, str] = {}
    twice: dict[str, str] = {}
    for path, name in named:
        _add_page(read_page(path, name), library, first, twice)
    where = "" if named else "; name their folder on the source: `prometheus: {runbooks: DIR}`"
    account.notes.append(f"{len(named)} pages of runbooks{where}")
    if twice:
        name = min(twice)
        account.notes.append(
            f"names with more than one runbook, of which the first page is used: {len(twice)}, "
            f"for example {name} ({first[name]}, not {twice[name]})"
        )
    return library


def _add_page(page: Page, library: Library, first: dict[str, str], twice: dict[str, str]) -> None:
    """first, twice: by name, the page that is used and the next one that has the same name."""
    if page.sections or page.stem not in ("_index", "index", "README"):
        for name in dict.fromkeys(map(alert_name, page.names)):
            if name in library.pages and page.body:
                twice.setdefault(name, page.name)
            elif name and page.body:
                library.pages[name], first[name] = Runbook(page.body, page.title), page.name
    for section in page.sections:
        if section.text:
            runbook = Runbook(section.text, f"{page.title}: {section.heading}")
            library.headings.setdefault(alert_name(section.heading), runbook)
            library.anchors.setdefault((alert_name(page.stem), anchor(section.heading)), runbook)
