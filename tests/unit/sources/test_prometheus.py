"""Alerting rules, runbooks and how they are joined. pytest tests/unit/sources"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ContractError
from holdfast.sources.markdown import alert_name, anchor, parse_page
from holdfast.sources.prometheus import one_line
from holdfast.sources.rulefile import read_rule_file, unbalanced
from holdfast.sources.yamltree import read_documents
from source_rows import PAGE, RULES, read_all

CRD = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: x\nspec:\n" + "".join(
    f"  {line}\n" for line in RULES.splitlines()
)


def tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_md", ".md").replace("_yaml", ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    "text",
    [RULES, CRD, f"a: 1\n---\n{CRD}", "prometheusAlerts:\n" + "".join(f"  {line}\n" for line in RULES.splitlines()),
     "kind: List\nitems:\n- " + CRD.replace("\n", "\n  ")],
)  # fmt: skip
def test_rules_are_found_in_every_wrapper(text: str) -> None:
    found = read_rule_file(text, "r.yaml")
    assert [rule.alert for rule in found.alerts] == ["DiskFull", "Lonely"]
    assert (found.recordings, found.defects) == (1, [])
    lines = text.split("\n")
    assert all(f"alert: {rule.alert}" in lines[rule.line - 1] for rule in found.alerts)


def test_an_alert_is_asked_and_its_runbook_answers(tmp_path: Path) -> None:
    tree(tmp_path, rules_yaml=RULES, books__DiskFull_md=PAGE)
    examples, defects, report = read_all(tmp_path, "kb")
    assert defects == []
    assert examples[0].prompt_text == (
        "ALERT\nCondition: DiskFull\nSeverity: critical\nSummary: The disk of {{ $labels.node }} is full\n"
        'Expression: disk_free{mount="/"} / disk_size < 0.05\nFor: 10m'
    )
    assert examples[0].answer.startswith("## Meaning\n\nThe disk is full.")
    assert examples[0].source == "rules.yaml:7"
    assert examples[0].tags == {"fact": "DiskFull", "alert": "DiskFull", "group": "disks", "severity": "critical"}
    assert (report.files[0].format, len(examples)) == ("prometheus_rules", 1)
    assert "1 alerts have no runbook and are left out (Lonely)" in report.files[0].notes
    assert "1 recording rules are not used" in report.files[0].notes


@pytest.mark.parametrize(
    ("url", "page", "heading"),
    [
        ("https://x/y/zz-top.md", "zz-top.md", "# Other"),
        ("https://x/y/zz-top/", "ZZ-Top.md", "# Other"),
        ("https://x/runbook.md#alert-name-diskfull", "runbook.md", '# All\n\n##### Alert Name: "DiskFull"'),
        ("", "all.md", "# All\n\n### Alert Name: DiskFull"),
        ("", "some.md", "# DiskFull"),
        ("", "disk_full.md", ""),
        ("https://gone.example/unknown", "diskfull.md", "# Other"),
    ],
)
def test_a_runbook_is_found_by_url_anchor_or_name(tmp_path: Path, url: str, page: str, heading: str) -> None:
    rules = RULES.replace("https://runbooks.example/disks/diskfull", f'"{url}"')
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / page).write_text(f"{heading}\n\nLook at it.\n")
    options = {"prometheus": {"runbooks": str(tmp_path / "books")}}
    examples, _, _ = read_all(tmp_path / "rules.yml", "rules.yml", **options)
    assert [e.answer.splitlines()[-1] for e in examples] == ["Look at it."]


@pytest.mark.parametrize(
    ("old", "new", "line", "rule"),
    [
        ("for: 10m", "for: ten", 11, "duration"),
        ("for: 10m", "for: [10m]", 11, "duration"),
        ("expr: up == 0", "expr: ''", 17, "expr"),
        ("expr: up == 0", "exp: up == 0", 16, "expr"),
        ("expr: up == 0", "expr: sum(up", 17, "expr"),
        ("expr: up == 0", "expr: up == 0\n        serverity: x", 18, "rule_key"),
        ("- alert: Lonely", "- alert: Lonely\n        record: x", 16, "rule_kind"),
        ("- alert: Lonely", "- alrt: Lonely", 16, "rule_kind"),
        ("- alert: Lonely", "- alert:", 16, "rule_name"),
        ("labels: {severity: critical}", "labels: [critical]", 12, "labels"),
        ("labels: {severity: critical}", "labels: {severity: [critical]}", 12, "labels"),
        ("labels: {severity: critical}", "labels: {sev-erity: critical}", 12, "labels"),
        ("- name: disks", "- nam: disks", 2, "group_key"),
        ("- record: disk:free", "- record: disk:free\n        for: 5m", 6, "rule_key"),
        ("      - record: disk:free\n", "      - 7\n      - record: disk:free\n", 5, "rule"),
    ],
)
def test_a_malformed_rule_is_reported_with_file_and_line(old: str, new: str, line: int, rule: str) -> None:
    assert old in RULES
    found = read_rule_file(RULES.replace(old, new, 1), "r.yaml").defects
    assert (f"r.yaml:{line}", rule) in [(d.source, d.rule) for d in found]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: [", r"r\.yaml:2: not valid YAML"),
        ("a: 1\na: 2\n", r"r\.yaml:2: 'a' is given twice .first on line 1"),
        ("a: *b\n", r"r\.yaml:1: no finished anchor &b"),
        ("a: &b [*b]\n", "no finished anchor &b"),
        ("[" * 20_000, "nested deeper than 100 levels"),
        ("- " * 20_000, "nested deeper than 100 levels"),
        ("a: 1\n", "holds no `groups:`"),
        ("", "holds no `groups:`"),
        ("groups: \x01", "not valid YAML"),
    ],
)
def test_what_is_no_rule_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read_rule_file(text, "r.yaml")


def test_aliases_of_aliases_end_in_an_error_and_not_in_the_memory() -> None:
    laughs = "a: &a [x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(20)
    )
    assert len(read_documents(laughs, "l.yaml")) == 1
    rules = "r: &r [{alert: a, expr: up}]\nq: &q {name: g, rules: *r}\ngroups: [" + "*q, " * 120_000 + "]"
    with pytest.raises(ContractError, match="more than 100000 rules"):
        read_rule_file(rules, "l.yaml")


def test_merged_mappings_are_mappings() -> None:
    text = "x: &l {severity: page, team: sre}\ngroups:\n- name: g\n  rules:\n"
    text += "  - {alert: A, expr: up, labels: {<<: *l, team: db}}"
    assert read_rule_file(text, "r").alerts[0].labels == {"severity": "page", "team": "db"}
    text = "y: &m {team: x, zone: n}\n" + text.replace("<<: *l", "<<: [*m, *l]")
    assert read_rule_file(text, "r").alerts[0].labels == {"zone": "n", "severity": "page", "team": "db"}


@pytest.mark.parametrize(
    ("expr", "whole"),
    [("a{b='('} # )", True), ("a[5m:1m] > (b + c)", True), ('a{b="\\""}', True), ("a{b=`\\`}", True), ("a)", False),
     ("a{b='x}", False), ("(a]", False), ("sum(rate(x[5m])", False)],
)  # fmt: skip
def test_brackets_of_expressions_are_matched(expr: str, whole: bool) -> None:
    assert (unbalanced(expr) == "") is whole


@pytest.mark.parametrize(
    ("expr", "shown"),
    [
        ("up == 0 # gone\n  and on(a) b\n# end", "up == 0 and on(a) b"),
        ('a{b="#  x"}\n > 1', 'a{b="#  x"} > 1'),
        ("a{b='\\'#'} # c", "a{b='\\'#'}"),
    ],
)
def test_comments_of_expressions_do_not_swallow_the_next_line(expr: str, shown: str) -> None:
    assert one_line(expr) == shown


def test_a_page_gives_one_pair_for_its_alert_and_one_for_each_section(tmp_path: Path) -> None:
    tree(tmp_path, a__DiskFull_md=PAGE, _index_md="---\ntitle: All\n---\n", README_md="Read me.\n")
    examples, defects, report = read_all(tmp_path, "books")
    asked = [(e.source, e.prompt_text) for e in examples]
    assert asked == [
        ("a/DiskFull.md:5", "ALERT\nCondition: DiskFull"),
        ("a/DiskFull.md:7", "What does the runbook for DiskFull say about Meaning?"),
        ("a/DiskFull.md:11", "What does the runbook for DiskFull say about Mitigation?"),
    ]
    assert examples[2].answer == "```\n# df\ndf -h\n```"
    assert {e.tags["fact"] for e in examples} == {"DiskFull"}
    assert (defects, report.files[0].format) == ([], "runbooks")
    assert report.files[0].notes[:2] == ["1 pages", "2 pages hold no section, for example README.md"]


def test_sections_with_the_same_heading_are_one_answer(tmp_path: Path) -> None:
    tree(tmp_path, DiskFull_md="# DiskFull\n\n## Check\n\nFirst.\n\n## Fix\n\nFree.\n\n## Check\n\nAgain.\n")
    examples, defects, _ = read_all(tmp_path, "books")
    assert [(e.source, e.answer) for e in examples[1:]] == [
        ("DiskFull.md:3", "First.\n\nAgain."), ("DiskFull.md:7", "Free."),
    ]  # fmt: skip
    assert defects == []


def test_templates_and_pairs_can_be_chosen(tmp_path: Path) -> None:
    tree(tmp_path, DiskFull_md=PAGE)
    options: dict[str, Any] = {"pairs": ["section"], "question": "{section} of {title}?"}
    examples, _, _ = read_all(tmp_path, runbooks=options)
    assert [e.prompt_text for e in examples] == ["Meaning of DiskFull?", "Mitigation of DiskFull?"]


def test_of_two_pages_for_one_alert_the_first_is_used_and_both_are_named(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "DiskFull.md").write_text(f"# DiskFull\n\nFrom {folder}.\n")
    (tmp_path / "rules.yaml").write_text("groups:\n- name: g\n  rules:\n  - alert: DiskFull\n    expr: up == 0\n")
    examples, _, report = read_all(tmp_path, "kb")
    assert [e.answer.splitlines()[-1] for e in examples] == ["From a."]
    (note,) = [note for note in report.files[0].notes if "diskfull" in note]
    assert "a/DiskFull.md, not " in note and "b/DiskFull.md" in note


def test_a_hundred_pages_and_their_rules_load(tmp_path: Path) -> None:
    groups = []
    for n in range(100):
        (tmp_path / f"Alert{n}.md").write_text(PAGE.replace("DiskFull", f"Alert{n}"))
        groups.append(f"- name: g{n}\n  rules:\n  - alert: Alert{n}\n    expr: up == {n}\n")
    (tmp_path / "rules.yaml").write_text("groups:\n" + "".join(groups))
    examples, defects, report = read_all(tmp_path, "kb")
    assert (len(examples), defects) == (100, [])
    assert "100 alerts joined with their runbooks" in report.files[0].notes


def test_rules_alone_say_how_to_name_their_runbooks(tmp_path: Path) -> None:
    tree(tmp_path, rules_yaml=RULES, DiskFull_md=PAGE)
    with pytest.raises(ContractError, match="nothing to learn from") as caught:
        read_all(tmp_path / "rules.yaml")
    assert "`prometheus: {runbooks: DIR}`" in caught.value.hint


def test_files_of_several_kinds_need_a_decision(tmp_path: Path) -> None:
    tree(tmp_path, a_md=PAGE)
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(ContractError, match=r"2 kinds .rows, runbooks.") as caught:
        read_all(tmp_path, "kb")
    assert "format: runbooks" in caught.value.hint


def test_a_fixed_split_holds_for_runbooks_too(tmp_path: Path) -> None:
    tree(tmp_path, a_md=PAGE)
    assert {e.split for e in read_all(tmp_path, split="train")[0]} == {"train"}


def test_headings_in_fences_are_text() -> None:
    page = parse_page("# T #\n\n~~~\n## no\n~~~\n\n## Yes ##\ntext\n\n### In\nmore\n\n## Last\n", "d/x.md")
    assert [(s.heading, s.level, s.line, s.text) for s in page.sections] == [
        ("Yes", 2, 7, "text\n\n### In\nmore"), ("In", 3, 10, "more"), ("Last", 2, 13, ""),
    ]  # fmt: skip
    assert (page.title, page.stem) == ("T", "x")


def test_titles_with_a_line_below_are_headings() -> None:
    text = "Disk full\n=========\n\nMeaning\n-------\ntext\n\n- item\n---\ntwo\nlines\n---\n\nLast\n  ----\nend\n"
    page = parse_page(text, "x.md")
    assert (page.title, page.line) == ("Disk full", 1)
    assert [(s.heading, s.level, s.line, s.text) for s in page.sections] == [
        ("Meaning", 2, 4, "text\n\n- item\n---\ntwo\nlines\n---"), ("Last", 2, 14, "end"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "hidden",
    [
        "<!-- see\n# no\n-->",
        "1. ```sh\n   # no\n   ```",
        "10. ```sh\n# no\n    ```",
        "```df -h``` shows it",
        "<!-- a -->",
    ],
)
def test_comments_fences_of_lists_and_code_in_a_line_hide_no_later_heading(hidden: str) -> None:
    page = parse_page(f"# T\n\n## A\n\n{hidden}\n\n## B\nb\n", "x.md")
    assert [(s.heading, s.text) for s in page.sections] == [("A", hidden), ("B", "b")]


def test_names_and_anchors_are_those_of_rendered_pages() -> None:
    assert anchor('Alert Name: "KubeAPIDown"') == "alert-name-kubeapidown"
    assert alert_name("Alert Name: Kube API-Down") == "kubeapidown"


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["# a", "## b", "```", "---", "===", "<!--", "- ```", "x", ""])).map("\n".join)
)
def test_any_text_is_a_page_whose_sections_are_in_it(text: str) -> None:
    page = parse_page(text, "p.md")
    plain = text.replace("\r\n", "\n")
    assert all(section.text in plain and 1 <= section.line <= plain.count("\n") + 1 for section in page.sections)


@given(st.text(max_size=120))
def test_any_text_is_yaml_or_an_error(text: str) -> None:
    try:
        read_rule_file(text, "r.yaml")
    except ContractError as error:
        assert error.message.startswith("r.yaml")
