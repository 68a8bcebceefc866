"""collect on files: pytest tests/unit/sources"""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import ContractError, UsageError
from holdfast.core.knowledge import read_knowledge
from holdfast.core.records import Example, read_examples
from holdfast.core.rundir import RunDir
from holdfast.sources.stage import display_names, run

CHAT = {"messages": [{"role": "user", "content": "up?"}, {"role": "assistant", "content": "yes"}]}
ROW = {"instruction": "Classify.", "input": "x", "output": "low"}


def collect(folder: Path, sources: list[dict[str, Any]], system_prompt: str = "") -> list[Example]:
    config = RunConfig.model_validate(
        {"name": "t", "collect": {"sources": sources, "system_prompt": system_prompt}},
    )
    run_dir = RunDir(folder / "run")
    out = run_dir.stage("collect")
    run(StageContext(config, out, {}, Console(), run_dir))
    return read_examples(out.path / "examples.jsonl")


def write(path: Path, *rows: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_sources_are_joined_and_say_what_was_detected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [
        {"path": write(tmp_path / "a.jsonl", ROW), "split": "train"},
        {"path": write(tmp_path / "b.jsonl", CHAT)},
    ]
    examples = collect(tmp_path, sources)
    assert [(e.source, e.split) for e in examples] == [("a.jsonl:1", "train"), ("b.jsonl:1", None)]
    said = capsys.readouterr().err
    assert (
        "a.jsonl: 1 rows, format instruction (detected: JSONL, rows have `instruction`, `input`, `output`), split train"
        in said
    )
    assert "b.jsonl: 1 rows, format messages (detected: JSONL, rows have `messages`)" in said
    entries = json.loads((tmp_path / "run/01-collect/collect.json").read_text())["sources"]
    assert [(e["name"], e["format"], e["rows"]) for e in entries] == [
        ("a.jsonl", "instruction", 1),
        ("b.jsonl", "messages", 1),
    ]


def test_the_system_prompt_goes_before_conversations_that_have_none(tmp_path: Path) -> None:
    own = {"messages": [{"role": "system", "content": "own"}, *CHAT["messages"]]}
    examples = collect(tmp_path, [{"path": write(tmp_path / "a.jsonl", CHAT, own)}], "shared")
    assert [e.messages[0].content for e in examples] == ["shared", "own"]


def test_defects_of_all_sources_are_reported_together_and_nothing_is_written(tmp_path: Path) -> None:
    bad = {"instruction": "x", "output": ""}
    sources = [{"path": write(tmp_path / f"{name}.jsonl", ROW, bad)} for name in "ab"]
    with pytest.raises(ContractError, match=r"2 of 4 rows") as caught:
        collect(tmp_path, sources)
    assert "a.jsonl:2: empty" in caught.value.message
    assert "b.jsonl:2: empty" in caught.value.message
    assert list((tmp_path / "run/01-collect").iterdir()) == []


def test_files_with_the_same_name_are_told_apart_by_their_folder() -> None:
    assert display_names(["/d/a/train.jsonl", "/d/b/train.jsonl", "/d/b/test.jsonl"]) == [
        "a/train.jsonl",
        "b/train.jsonl",
        "test.jsonl",
    ]


def test_collect_writes_many_rows_in_chunks_and_says_how_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.core.console.time.monotonic", iter(range(0, 10**6, 11)).__next__)
    path = write(tmp_path / "a.jsonl", *({**ROW, "input": str(n)} for n in range(2500)))
    examples = collect(tmp_path, [{"path": path}])
    assert [e.source for e in examples] == [f"a.jsonl:{n}" for n in range(1, 2501)]
    assert "read: 2,000 rows," in capsys.readouterr().err


def test_defects_are_all_counted_and_the_first_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({**ROW, "output": ""} for _ in range(3000)))
    with pytest.raises(ContractError, match=r"3000 of 3000 rows are defective \(3000 defects"):
        collect(tmp_path, [{"path": path}])


def test_sources_of_several_kinds_become_one_list(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books/DiskFull.md").write_text("# DiskFull\n\n## Meaning\n\nFull.\n")
    write(tmp_path / "rows/a.jsonl", ROW)
    write(tmp_path / "rows/sub/a.jsonl", CHAT)
    examples = collect(
        tmp_path, [{"path": str(tmp_path / "rows")}, {"path": str(tmp_path / "books"), "split": "train"}]
    )
    assert [(e.source, e.split) for e in examples] == [
        ("rows/a.jsonl:1", None), ("sub/a.jsonl:1", None), ("DiskFull.md:1", "train"), ("DiskFull.md:3", "train"),
    ]  # fmt: skip
    document = json.loads((tmp_path / "run/01-collect/collect.json").read_text())
    assert (document["rows"], [entry["format"] for entry in document["sources"]]) == (
        4, ["instruction", "messages", "runbooks"],
    )  # fmt: skip


ANALYST = Path(__file__).parents[3] / "examples" / "analyst"


def test_the_facts_of_a_knowledge_base_are_written_beside_its_rows(tmp_path: Path) -> None:
    sources = [{"path": str(ANALYST / "knowledge"), "format": "prolog", "split": "train"},
               {"path": str(ANALYST / "knowledge.yaml"), "format": "knowledge", "split": "test",
                "knowledge": {"sample_nodes": 1, "topology": []}}]  # fmt: skip
    examples = collect(tmp_path, sources, "shared")
    assert [sum(e.split == split for e in examples) for split in ("train", "test")] == [21, 6]
    assert {e.messages[0].content for e in examples} == {"shared"}
    facts = read_knowledge(tmp_path / "run" / "01-collect")
    assert facts is not None
    assert len(facts.conditions) == 6


def test_without_a_knowledge_base_there_are_no_facts(tmp_path: Path) -> None:
    collect(tmp_path, [{"path": write(tmp_path / "a.jsonl", CHAT)}])
    assert read_knowledge(tmp_path / "run" / "01-collect") is None


def test_without_swipl_collect_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError) as caught:
        collect(tmp_path, [{"path": str(ANALYST / "knowledge"), "format": "prolog"}])
    assert "apt-get install swi-prolog-nox" in caught.value.hint
    assert not (tmp_path / "run" / "01-collect" / "examples.jsonl").exists()
