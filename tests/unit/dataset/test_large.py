"""Large files in shards: the outcome is the same for any number of processes and shards. pytest tests/unit/dataset"""

import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.core import shards
from holdfast.core.console import Console
from holdfast.core.errors import IntegrityError
from holdfast.core.records import Example, Message, examples_bytes
from holdfast.core.shards import Piece, cut, read_lines, run_shards
from holdfast.dataset import columns, similarity
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.divide import Divided, Options, Shards, divide
from holdfast.dataset.repeats import find_repeats
from holdfast.dataset.scan import Scanned, scan
from holdfast.dataset.split import Sizes
from holdfast.dataset.table import Reading, open_rows, table_of

QUIET = Console(quiet=True)
WORDS = [f"{a}{b}" for a in ("ba", "do", "mi", "ru", "sel", "tor") for b in ("tan", "ko", "vir", "lum", "es", "pad")]
CONTRACT = DatasetContract(task="t", instruction="Say.", answer="text", max_output_chars=30)


def rows(count: int) -> list[Example]:
    """Every tenth row is a near duplicate of the row before, every twentieth an exact copy."""
    rng = random.Random(7)
    made: list[Example] = []
    for n in range(count):
        text = " ".join(rng.choices(WORDS, k=25))
        if n % 10 == 1:
            text = made[-1].prompt_text.removeprefix("Say.\n\n") + ("" if n % 20 == 1 else " today")
        turns = (Message(role="user", content=f"Say.\n\n{text}"), Message(role="assistant", content="yes"))
        made.append(Example(messages=turns, source=f"a.jsonl:{n + 1}", tags={"domain": f"d{n % 3}"}))
    return made


def divide_file(folder: Path, examples: list[Example]) -> tuple[Scanned, Divided]:
    folder.mkdir()
    path = folder / "examples.jsonl"
    path.write_bytes(examples_bytes(examples))
    scanned = scan(path, Reading(CONTRACT), folder / "work", QUIET)
    with open_rows(path, scanned.table.rows) as lookup:
        place = Shards(path, lookup, scanned.parts, scanned.firsts, folder / "work", QUIET, nullcontext)
        return scanned, divide(scanned.table, lookup, Options(Sizes(0.1, 0.2), 0.8, 42, "Say."), place)


def test_shards_and_processes_do_not_change_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = rows(600)
    monkeypatch.setattr(similarity, "EXACT_LIMIT", 10)
    _, whole = divide_file(tmp_path / "whole", examples)
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    found = []
    for processes in (1, 2):
        monkeypatch.setattr(shards, "count_processes", lambda processes=processes: processes)
        scanned, divided = divide_file(tmp_path / str(processes), examples)
        assert len(scanned.parts) > 8
        found.append(divided)
    expected = table_at_offsets(examples)
    assert all((scanned.table.rows[name] == expected[name]).all() for name in columns.DTYPES)
    for divided in found:
        assert (divided.splits == whole.splits).all() and (divided.groups == whole.groups).all()
        assert divided.proof == whole.proof and list(divided.near) == list(whole.near)


def table_at_offsets(examples: list[Example]) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    table = table_of(examples, Reading(CONTRACT)).rows
    sizes = np.array([len(examples_bytes([example])) - 1 for example in examples])
    table["size"], table["offset"] = sizes, np.cumsum(sizes + 1) - sizes - 1
    return table


def test_the_search_for_many_rows_finds_what_the_exact_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = rows(400)
    _, exact = divide_file(tmp_path / "exact", examples)
    monkeypatch.setattr(similarity, "EXACT_LIMIT", 10)
    _, many = divide_file(tmp_path / "many", examples)
    assert exact.near_count == many.near_count == 20
    assert (exact.groups == many.groups).all() and (exact.splits == many.splits).all()
    assert many.proof["train/test"] == exact.proof["train/test"]  # all test rows are in the sample
    assert "LSH" in many.grouping_method and "sampled" in many.proof_method
    assert exact.proof_method.startswith("exact: ")


def test_twins_among_many_test_items_are_all_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = rows(1500)
    _, exact = divide_file(tmp_path / "exact", examples)
    monkeypatch.setattr(similarity, "EXACT_LIMIT", 10)
    scanned, many = divide_file(tmp_path / "many", examples)
    assert len(many.near) == 50 < many.near_count, "only the most similar pairs are kept"
    with open_rows(tmp_path / "many" / "examples.jsonl", scanned.table.rows) as lookup:
        found = find_repeats(many, lookup)
        assert found == find_repeats(exact, lookup)
    assert len(found) > 10


def test_violations_of_all_shards_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    monkeypatch.setattr(shards, "count_processes", lambda: 1)
    examples = [Example(messages=(Message(role="user", content="x"), e.messages[1]), source=e.source)
                if n % 5 == 0 else e for n, e in enumerate(rows(600))]  # fmt: skip
    scanned, _ = divide_file(tmp_path / "a", examples)
    assert scanned.counted == (120, 120)
    assert len(scanned.violations) == 50 and scanned.violations[1].source == "a.jsonl:6"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=30), st.integers(1, 50))
def test_shards_are_whole_lines_and_nothing_is_lost(tmp_path: Path, lines: list[bytes], size: int) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", size)
        parts = cut(path)
    assert [line for part in parts for line in read_lines(path, part)] == lines
    assert [part.begin for part in parts[1:]] == [part.end for part in parts[:-1]]


CALLS: list[int] = []


def note(job: int) -> Piece:
    CALLS.append(job)
    return Piece({"square": np.array([job * job])}, {"job": job})


def test_finished_shards_are_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shards, "count_processes", lambda: 1)
    CALLS.clear()
    first = [piece.facts["job"] for piece in run_shards(note, [3, 4, 5], tmp_path, Console(), "test")]
    (tmp_path / "test-00001.npz").unlink()
    again = list(run_shards(note, [3, 4, 5], tmp_path, Console(), "test"))
    assert CALLS == [3, 4, 5, 4]
    assert first == [3, 4, 5] and [int(piece.arrays["square"][0]) for piece in again] == [9, 16, 25]
    assert "2 of 3 shards were done before" in capsys.readouterr().err


def test_a_damaged_row_is_named_and_is_no_bug(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_bytes(examples_bytes(rows(3)) + b'{"messages": 7}\n')
    with pytest.raises(IntegrityError, match=r"examples\.jsonl:4 is not a row that holdfast wrote") as caught:
        scan(path, Reading(None), tmp_path / "work", QUIET)
    assert "holdfast check RUN" in caught.value.hint


def test_one_shard_needs_no_folder(tmp_path: Path) -> None:
    assert next(iter(run_shards(note, [7], tmp_path / "none", QUIET, "x"))).facts == {"job": 7}
    assert not (tmp_path / "none").exists()
