"""A large file is read in blocks with the outcome of a reading row by row. pytest tests/unit/sources"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core import shards
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import ContractError
from holdfast.core.rundir import RunDir
from holdfast.redact import names
from holdfast.redact.spans import Span
from holdfast.sources import blocks
from holdfast.sources.stage import run

PRODUCTS = ("examples.jsonl", "collect.json", "redaction.json", "redacted.bin")


def rows(count: int) -> list[dict[str, Any]]:
    made = []
    for n in range(count):
        text = f"disk {n} is full" + (f" on db{n % 7}.corp.internal, see <HOST_2>" if n % 5 == 0 else "")
        made.append({"instruction": "Say.", "input": text, "output": "ok", "owner": f"a{n % 3}@b.internal" if n % 9 == 4
                     else "", "extra": None if n % 2 else [1]})  # fmt: skip
    return made


def collect(folder: Path, data: Path, **options: Any) -> dict[str, bytes]:
    """The products of collect."""
    config = RunConfig.model_validate({
        "name": "t", "collect": {"sources": [{"path": str(data), **options}], "system_prompt": "Be short."},
        "redact": {"pseudonym_key_file": str(data.parent / "key"), "ner": "bundled"},
    })  # fmt: skip
    run_dir = RunDir(folder)
    out = run_dir.stage("collect")
    run(StageContext(config, out, {}, Console(quiet=True), run_dir))
    return {name: (out.path / name).read_bytes() for name in PRODUCTS}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 700)
    monkeypatch.setattr(shards, "count_processes", lambda: 1)
    monkeypatch.setattr(names, "find_names", lambda texts, model: (
        [Span(5, 7, "PERSON")] if text.startswith("Say.\n\ndisk 17") else [] for text in texts
    ))  # fmt: skip


def both(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, Any]:
    """Products (or the error) of a reading row by row, and of one in blocks."""
    found: list[Any] = []
    for large in (1 << 40, 1):
        monkeypatch.setattr(blocks, "LARGE_BYTES", large)
        try:
            found.append(collect(folder / str(large), data, **options))
        except ContractError as error:
            found.append((error.message, error.hint))
    return found[0], found[1]


@pytest.mark.parametrize("processes", [1, 2])
def test_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    if processes > 1:
        monkeypatch.undo()  # real workers do not see the patches: the whole file is one block
    data = tmp_path / "a.jsonl"
    data.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in rows(120)))
    one, other = both(tmp_path, data, monkeypatch)
    assert one == other
    assert one["redaction.json"].count(b'"rows": 120') == 1
    assert b"<HOST_3>" in one["examples.jsonl"] and b"b.internal" not in one["examples.jsonl"]
    assert b"a.jsonl:239" in one["examples.jsonl"]
    both_ways = both(tmp_path / "x", data, monkeypatch, format="instruction", split="train")
    assert both_ways[0] == both_ways[1]


@pytest.mark.parametrize(
    "broken",
    ['{"instruction": "x"', '{"instruction": "Say."}', '[1]', '{"prompt": "a", "completion": "b"}', '{"who": 1}',
     '{"instruction": "Say.", "output": ""}', '{"instruction": "Say.", "output": "pw", "tools": [1]}'],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 3, 77])
def test_defects_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, place: int) -> None:
    lines = [json.dumps(row) for row in rows(90)]
    lines[place:place] = [broken, broken]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    one, other = both(tmp_path, tmp_path / "a.jsonl", monkeypatch)
    assert isinstance(one, tuple)
    assert one == other


def test_a_compressed_file_is_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "a.jsonl.gz"
    data.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows(30)).encode()))
    one, other = both(tmp_path, data, monkeypatch)
    assert one == other


def test_a_block_ends_with_a_line_however_long(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    lines = [b"x" * size for size in (10, 5000, 0, 690, 3, 699, 1500)]
    data.write_bytes(b"\n".join(lines))
    account = blocks.FileReport("a.jsonl", "messages")
    jobs = list(blocks._jobs(data, blocks.Source(path="a"), account, blocks.Treatment("", blocks.RedactConfig()), 0))
    parts = [data.read_bytes()[job.part.begin : job.part.end] for job in jobs]
    assert b"".join(parts) == data.read_bytes()
    assert all(part.endswith(b"\n") for part in parts[:-1])
    assert [job.line for job in jobs] == [1 + b"".join(parts[:n]).count(b"\n") for n in range(len(parts))]
