"""Which files a source is, what they are called and how they are unpacked. pytest tests/unit/sources"""

import json
from pathlib import Path

import pytest

from holdfast.core.config import RunConfig, Source
from holdfast.core.errors import ContractError, UsageError
from holdfast.core.rundir import RunDir
from holdfast.pipeline import STAGES, gather_materials
from holdfast.sources.files import display_names, find_files, source_files
from source_rows import ROWS, as_gzip, as_jsonl, as_parquet, as_zst, read_all

DATA = as_jsonl(ROWS["messages"])


def put(folder: Path, *names: str, data: bytes = DATA) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(tmp_path: Path) -> None:
    put(tmp_path, "b.jsonl", "a/z.jsonl", "a/b.jsonl", ".git/x.jsonl", ".hidden.jsonl", "notes.txt")
    examples, defects, report = read_all(tmp_path)
    assert [e.source for e in examples[::2]] == ["a/b.jsonl:1", "a/z.jsonl:1", "b.jsonl:1"]
    assert defects == []
    assert [Path(name).name for name in report.left_out] == ["notes.txt"]


def test_a_glob_is_sorted_and_reaches_below_with_two_stars(tmp_path: Path) -> None:
    put(tmp_path, "b.jsonl", "a.jsonl", "c/d.jsonl", "a.csv")
    assert [p.name for p in find_files(f"{tmp_path}/*.jsonl").files] == ["a.jsonl", "b.jsonl"]
    assert [p.name for p in find_files(f"{tmp_path}/**/*.jsonl").files] == ["a.jsonl", "b.jsonl", "d.jsonl"]
    examples, _, _ = read_all(f"{tmp_path}/**/*.jsonl")
    assert examples[-1].source == "c/d.jsonl:2"


def test_a_name_with_brackets_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    put(tmp_path, "rows[1].jsonl", "rows1.jsonl")
    assert [p.name for p in find_files(f"{tmp_path}/rows[1].jsonl").files] == ["rows[1].jsonl"]


@pytest.mark.parametrize("path", ["none.jsonl", "*.jsonl", "empty", "\0", "x" * 5000])
def test_where_nothing_is_the_error_names_what_was_looked_for(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        find_files(f"{tmp_path}/{path}")
    assert path[:40] in caught.value.message or path == "\0"


def test_a_pattern_that_meets_only_folders_says_so(tmp_path: Path) -> None:
    put(tmp_path, "deep/a.jsonl")
    with pytest.raises(UsageError, match=r"1 folders do"):
        find_files(f"{tmp_path}/*")


def test_the_materials_of_collect_are_the_files_and_not_the_pattern(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "runbooks/x.md", data=DATA)
    sources = [{"path": f"{tmp_path}/*.jsonl", "prometheus": {"runbooks": str(tmp_path / "runbooks")}}]
    config = RunConfig.model_validate({"name": "t", "collect": {"sources": sources}})
    before = gather_materials(STAGES[0], config, RunDir(tmp_path / "run"))
    assert {Path(name).name for name in before} == {"a.jsonl", "x.md"}
    put(tmp_path, "b.jsonl")
    assert len(gather_materials(STAGES[0], config, RunDir(tmp_path / "run"))) == 3
    put(tmp_path, "b.jsonl", data=b"other")
    assert gather_materials(STAGES[0], config, RunDir(tmp_path / "run")) != before
    assert len(source_files(Source(path=f"{tmp_path}/*.jsonl"))) == 2


@pytest.mark.parametrize("pack", [as_gzip, as_zst, lambda data: as_gzip(data) + as_gzip(data)])
def test_compressed_files_give_the_same_rows(tmp_path: Path, pack: object) -> None:
    plain, _, _ = read_all(_one(tmp_path, "a.jsonl", DATA), "a")
    packed, _, report = read_all(_one(tmp_path, "a.jsonl.gz", pack(DATA)), "a")  # type: ignore[operator]
    assert packed[: len(plain)] == plain
    assert report.position() == (tmp_path / "a.jsonl.gz").stat().st_size


def _one(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("pack", [as_gzip, as_zst])
def test_a_cut_off_archive_is_an_error_that_names_the_row(tmp_path: Path, pack: object) -> None:
    data = as_jsonl([{"messages": [{"role": "user", "content": str(n * 7919)}, ROWS["messages"][0]["messages"][1]]}
                     for n in range(40_000)])  # fmt: skip
    path = _one(tmp_path, "a.jsonl.gz", pack(data)[:-9])  # type: ignore[operator]
    with pytest.raises(ContractError, match=r"a\.jsonl\.gz cannot be read after row \d+"):
        read_all(path)


def test_a_file_that_is_named_as_an_archive_and_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"is not a \.gz file"):
        read_all(_one(tmp_path, "a.jsonl.gz", DATA))


def test_parquet_is_told_from_its_first_bytes(tmp_path: Path) -> None:
    examples, defects, report = read_all(_one(tmp_path, "rows.bin", as_parquet(ROWS["instruction"])), "p")
    assert (len(examples), defects, report.files[0].reason[:7]) == (1, [], "Parquet")
    with pytest.raises(ContractError, match="is not a Parquet file"):
        read_all(_one(tmp_path, "a.parquet", DATA))


def test_names_grow_by_folders_until_they_differ() -> None:
    assert display_names(["/d/a/t.jsonl", "/d/b/t.jsonl", "/d/b/u.jsonl", "/d/b/u.jsonl"]) == [
        "a/t.jsonl", "b/t.jsonl", "u.jsonl", "u.jsonl",
    ]  # fmt: skip
    assert display_names(["/t.jsonl", "/a/t.jsonl"]) == ["/t.jsonl", "a/t.jsonl"]


def test_json_in_the_report_is_plain(tmp_path: Path) -> None:
    _, _, report = read_all(_one(tmp_path, "a.jsonl", DATA))
    assert json.loads(json.dumps(report.files[0].ignored)) == {}
