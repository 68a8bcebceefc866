"""Files as users have them, by mistake or otherwise: what is read, and in which words the rest is refused."""

import gzip
import json
from pathlib import Path

import pytest

from holdfast.core.errors import ContractError, HoldfastError, UsageError
from holdfast.core.source_config import Source
from holdfast.sources.defects import SourceReport
from holdfast.sources.readers import read_source

ROW = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}) + "\n"


def read(path: Path, report: SourceReport | None = None) -> list[object]:
    return list(read_source(Source(path=str(path)), path.name, report))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.jsonl", b"", "a.jsonl is empty"), ("a.jsonl", b"\n \n", "a.jsonl holds no rows"),
        ("a.csv", b"instruction,output\n", "a.csv has a header and holds no rows"),
        ("a.jsonl", ROW.encode("utf-16"), "is UTF-16"), ("a.jsonl", ROW.encode("utf-16-le"), "is UTF-16LE"),
        ("a.csv", "instruction,output\n".encode("utf-16-be"), "is UTF-16BE"),
        ("a.csv", b"PK\x03\x04" + bytes(40), "is a ZIP archive"), ("a.jsonl", b"PK\x03\x04x", "is a ZIP archive"),
        ("a.jsonl.gz", gzip.compress(ROW.encode() * 9, mtime=0)[:-9], "cannot be read after row"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ContractError, match=says):
        read(tmp_path / name)


def test_a_spreadsheets_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufeffinstruction;output\r\n"one;\r\ntwo";"say ""hi"""\r\n', encoding="utf-8")
    (found,) = read(tmp_path / "a.csv")
    assert [m.content for m in found.messages] == ["one;\r\ntwo", 'say "hi"']  # type: ignore[attr-defined]


def test_a_linked_folder_is_read_and_one_inside_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jsonl").write_text(ROW)
    (tmp_path / "link").symlink_to("real")
    assert len(read(tmp_path / "link")) == 1
    (tmp_path / "nest").mkdir()
    (tmp_path / "nest" / "sub").symlink_to("../real")
    with pytest.raises(UsageError, match=r"linked folders are not entered, here .*nest/sub"):
        read(tmp_path / "nest")
    (tmp_path / "nest" / "b.jsonl").write_text(ROW)
    report = SourceReport()
    assert len(read(tmp_path / "nest", report)) == 1
    assert report.left_out == [str(tmp_path / "nest" / "sub")]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("nowhere")
    with pytest.raises(HoldfastError, match="is a link to nowhere, which is not there"):
        read(tmp_path / "a.jsonl")


def test_templated_rules_with_a_hundred_runbooks(tmp_path: Path) -> None:
    rules = "groups:\n- name: apps\n  rules:\n"
    for n in range(100):
        summary = '{{ $value | humanize }} of {{ range query "up" }}{{ .Value }}{{ end }}'
        rules += f"  - alert: Alert{n}\n    expr: up > {n}\n    annotations:\n      summary: '{summary}'\n"
        if n % 10:
            (tmp_path / f"Alert{n}.md").write_text(f"---\ntitle: T{n}\n---\n\n## Meaning\n\nm{n}\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "Alert1.md").write_text("# Alert1\n\nother\n")
    (tmp_path / "rules.yaml").write_text(rules)
    report = SourceReport()
    found = read(tmp_path, report)
    assert len(found) == 90
    assert any("{{ $value | humanize }}" in item.messages[0].content for item in found)  # type: ignore[attr-defined]
    notes = " ".join(report.files[0].notes)
    assert "91 pages of runbooks" in notes and "10 alerts have no runbook" in notes and "alert1" in notes
