"""The run folder: lock, journal, stage folders that begin, resume and clear."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.core import files
from holdfast.core.config import RunConfig
from holdfast.core.errors import IntegrityError, LockedError, UsageError
from holdfast.core.manifest import MANIFEST, read_intent_key
from holdfast.core.records import Example, Message, read_examples, read_jsonl
from holdfast.core.rundir import STAGE_NAMES, RunDir, StageFolder

SOURCE = str(Path(files.__file__).parents[2])
HOLD = """
import sys, time
from pathlib import Path
from holdfast.core.rundir import RunDir
with RunDir(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(600)
"""
CONFIG = {"name": "demo", "collect": {"sources": [{"path": "/x/é.jsonl"}]}, "train": {"learning_rate": 1e-5}}


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a run folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": SOURCE}) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def events(run: RunDir) -> list[dict[str, object]]:
    return [row for _, row in read_jsonl(run.path / "journal.jsonl")]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "demo")
    run.path.mkdir(parents=True)
    return run


@pytest.fixture
def stage(run: RunDir) -> StageFolder:
    return run.stage("train")


def test_a_locked_folder_names_its_owner_and_is_free_after_sigkill(run: RunDir) -> None:
    with holder(run.path) as process:
        with pytest.raises(LockedError, match=f"in use by process {process.pid}") as caught, run.lock():
            pytest.fail("two processes hold one run folder")
        assert caught.value.exit_code == 24 and f"ps -p {process.pid}" in caught.value.hint
        assert run.owner() == str(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert run.owner() is None, "the number in the file is of a process that is gone"
        with run.lock():
            assert (run.path / ".lock").read_text() == str(os.getpid())


def test_a_lock_is_free_again_after_an_exception(run: RunDir) -> None:
    with pytest.raises(ValueError, match="x"), run.lock():
        raise ValueError("x")
    with run.lock(), pytest.raises(LockedError, match=str(os.getpid())), run.lock():
        pass


def test_locking_makes_the_folder(tmp_path: Path) -> None:
    with RunDir(tmp_path / "a" / "b").lock():
        assert (tmp_path / "a" / "b").is_dir()


def test_a_file_where_the_run_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(UsageError, match=r"notes\.txt is a file"),
        RunDir(tmp_path / "notes.txt").lock(),
    ):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_locking_sweeps_what_a_killed_run_left_and_keeps_what_is_the_users(run: RunDir) -> None:
    litter = (".tmp-a/run.yaml", "05-train/.tmp-b/adapter/half", "05-train/adapter/.tmp-c/half")
    kept = (".tmp-mine/notes", "mine/.tmp-d/notes", "05-train/adapter/weights")
    for name in (*litter, *kept):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("x")
    (run.path / ".tmp-empty").mkdir()
    with run.lock():
        assert {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()} == {".lock", *kept}
        assert not (run.path / ".tmp-empty").exists() and not (run.path / ".tmp-a").exists()


def test_the_journal_only_grows(run: RunDir) -> None:
    run.journal("begin", stage="train", why="é\nb")
    before = (run.path / "journal.jsonl").read_bytes()
    run.journal("end", seconds=1.5)
    assert (run.path / "journal.jsonl").read_bytes().startswith(before)
    first, second = events(run)
    assert (first["event"], first["why"], first["pid"]) == ("begin", "é\nb", os.getpid())
    assert (second["event"], second["seconds"]) == ("end", 1.5)
    assert str(first["time"]).endswith("Z") and "T" in str(first["time"])


def test_an_event_after_a_torn_line_starts_on_a_new_line(run: RunDir) -> None:
    run.journal("one")
    with (run.path / "journal.jsonl").open("a") as file:
        file.write('{"time": "2026-')
    run.journal("three")
    lines = (run.path / "journal.jsonl").read_text().splitlines()
    assert len(lines) == 3 and json.loads(lines[0])["event"] == "one" and json.loads(lines[2])["event"] == "three"


def test_stage_folders_are_numbered_in_order(run: RunDir) -> None:
    assert [run.stage(n).path.name for n in STAGE_NAMES][:2] == ["01-collect", "02-prepare"]
    assert run.stage("seal").path.name == "10-seal"


def test_the_configuration_is_read_as_it_was_written(run: RunDir) -> None:
    config = RunConfig.model_validate(CONFIG)
    run.write_config(config)
    assert run.read_config() == config


def test_a_folder_without_run_yaml_is_no_run_folder(run: RunDir) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        run.read_config()


@pytest.mark.parametrize("content", [b"", b"name: [", b"name: Up\n", b"\xff", b"name: \x00"])
def test_a_damaged_run_yaml_is_an_integrity_error(run: RunDir, content: bytes) -> None:
    (run.path / "run.yaml").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"run\.yaml is damaged"):
        run.read_config()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("sequence_len: ", "sequence_lan: "), "sequence_lan: Extra inputs are not permitted"),
        (("seed: 42", "seed: many"), "seed: Input should be a valid integer"),
        (("seed: ", "seed: [s3cret"), "line "),
    ],
)
def test_a_run_yaml_that_was_edited_says_where_it_is_wrong(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    run.path.mkdir()
    run.write_config(RunConfig.model_validate({"name": "r", "collect": {"sources": [{"path": "a"}]}}))
    path = run.path / "run.yaml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(IntegrityError) as caught:
        run.read_config()
    assert f"run.yaml is damaged: {said}" in caught.value.message and "s3cret" not in caught.value.message


def test_a_stage_begins_with_its_intent_alone(stage: StageFolder) -> None:
    assert stage.begin("k") is False
    assert [p.name for p in stage.path.iterdir()] == ["intent.json"] and read_intent_key(stage.path) == "k"


def test_unfinished_work_of_the_same_key_is_resumed_without_its_temporaries(stage: StageFolder) -> None:
    stage.begin("k")
    stage.write_text("checkpoint/step", "1")
    (stage.path / ".tmp-x").mkdir()
    assert stage.begin("k") is True
    assert sorted(p.name for p in stage.path.iterdir()) == ["checkpoint", "intent.json"]


@pytest.mark.parametrize("key", ["k", "other"])
def test_finished_work_is_never_resumed(stage: StageFolder, key: str) -> None:
    stage.begin("k")
    stage.write_text("product", "1")
    stage.write_text(MANIFEST, "{}")
    assert stage.begin(key) is False
    assert [p.name for p in stage.path.iterdir()] == ["intent.json"]


def test_unfinished_work_of_another_key_is_removed(stage: StageFolder) -> None:
    stage.begin("k")
    stage.write_text("checkpoint", "1")
    assert stage.begin("other") is False
    assert [p.name for p in stage.path.iterdir()] == ["intent.json"] and read_intent_key(stage.path) == "other"


def test_a_kill_while_clearing_leaves_nothing_to_skip_or_resume(
    stage: StageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.begin("k")
    stage.write_text("product", "1")
    stage.write_text(MANIFEST, "{}")
    fired: list[object] = []

    def killed(path: object) -> None:
        fired.append(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.clear()
    assert fired and not (stage.path / MANIFEST).exists() and (stage.path / "product").exists()
    assert stage.begin("k") is False
    assert not (stage.path / "product").exists()


def test_products_are_written_in_their_forms(stage: StageFolder) -> None:
    stage.begin("k")
    example = Example(messages=(Message(role="user", content="é"),), source="a:1")
    stage.write_json("a.json", {"b": "é"})
    stage.write_jsonl("b.jsonl", [{"a": 1}, {"a": 2}])
    stage.write_examples("c.jsonl", [example])
    with stage.writing("d") as folder:
        folder.mkdir()
        (folder / "x").write_text("x")
    assert (stage.path / "a.json").read_text() == '{\n  "b": "é"\n}\n'
    assert (stage.path / "b.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n'
    assert read_examples(stage.path / "c.jsonl") == [example]
    assert (stage.path / "d" / "x").read_text() == "x"
    stage.sync()


def test_a_result_that_is_not_a_number_is_not_written(stage: StageFolder) -> None:
    stage.begin("k")
    with pytest.raises(ValueError, match="not JSON compliant"):
        stage.write_json("results.json", {"score": float("nan")})
    assert not (stage.path / "results.json").exists()
