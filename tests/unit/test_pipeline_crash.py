"""Nothing is lost: a crash, a full disk or a kill at any moment ends, after a repeat, with the same products."""

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toy_pipeline
from holdfast import pipeline
from holdfast.core.config import RunConfig, load_config
from holdfast.core.context import StageContext
from holdfast.core.errors import IntegrityError, StageError
from holdfast.core.manifest import MANIFEST, read_manifest, verify_products
from holdfast.core.rundir import RunDir
from holdfast.operations.dry_run import explain
from toy_pipeline import FOLDERS, Toy, actions, changed, products, run_toy, write_toy_config

SOURCE = str(Path(pipeline.__file__).parents[1])
KILLS = 10


class CrashError(Exception):
    """A stage that breaks down."""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    toy = Toy()
    monkeypatch.setattr(pipeline, "STAGES", toy.stages())
    monkeypatch.setattr(pipeline, "describe_environment", dict)
    return toy


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config(write_toy_config(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def crash_at(wanted: str) -> Callable[[str, StageContext], None]:
    def fail(step: str, context: StageContext) -> None:
        if step == wanted:
            raise CrashError(step)

    return fail


def test_the_intent_is_there_before_the_stage_and_the_manifest_after_it(
    toy: Toy, config: RunConfig, folder: Path
) -> None:
    seen: list[set[str]] = []
    toy.fail = lambda step, context: seen.append({p.name for p in context.out.path.iterdir()})
    run_toy(config, folder)
    assert all("intent.json" in names and MANIFEST not in names for names in seen) and len(seen) == 8
    assert all((folder / sub / MANIFEST).exists() for sub in FOLDERS.values())


@pytest.mark.parametrize("error", [CrashError("x"), KeyboardInterrupt(), IntegrityError("x")])
def test_a_crash_leaves_no_manifest_and_keeps_what_was_finished(
    toy: Toy, config: RunConfig, folder: Path, error: BaseException
) -> None:
    def fail(step: str, context: StageContext) -> None:
        if step == "prepare.2":
            raise error

    toy.fail = fail
    with pytest.raises(type(error)):
        run_toy(config, folder)
    assert (folder / "01-collect" / MANIFEST).exists()
    assert not (folder / "02-prepare" / MANIFEST).exists() and not (folder / "03-plan").exists()


def test_the_same_key_resumes_in_its_folder_with_its_files(
    toy: Toy, config: RunConfig, folder: Path, tmp_path: Path
) -> None:
    run_toy(config, tmp_path / "whole")
    toy.fail = crash_at("prepare.2")
    with pytest.raises(CrashError):
        run_toy(config, folder)
    toy.fail = crash_at("never")
    toy.log.clear()
    assert actions(config, folder) == ["skipped", "resumed", "ran"]
    assert toy.log == ["prepare.2", "prepare.3", "prepare.last", "plan"]
    assert products(folder) == products(tmp_path / "whole")


def test_another_key_starts_clean(toy: Toy, config: RunConfig, folder: Path) -> None:
    toy.fail = crash_at("prepare.2")
    with pytest.raises(CrashError):
        run_toy(config, folder)
    (folder / "02-prepare" / "left").write_text("of the other key")
    toy.fail = crash_at("never")
    other = changed(config, "seed", seed=1)
    removed = "; what another configuration or other materials had begun is removed"
    assert explain(config, RunDir(folder))["prepare"] == "run: goes on where it stopped"
    assert explain(other, RunDir(folder))["prepare"] == "run: not done yet" + removed
    assert actions(other, folder) == ["skipped", "ran", "ran"]
    assert not (folder / "02-prepare" / "left").exists()
    assert (folder / "02-prepare" / "part-0").read_text().startswith("0 1 ")


def test_from_does_not_go_on_with_work_that_a_crash_left(toy: Toy, config: RunConfig, folder: Path) -> None:
    toy.fail = crash_at("prepare.2")
    with pytest.raises(CrashError):
        run_toy(config, folder)
    toy.fail = crash_at("never")
    assert actions(config, folder, redo_from="prepare") == ["skipped", "ran", "ran"]


def test_a_full_disk_at_any_rename_is_survived(
    toy: Toy, config: RunConfig, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(config, tmp_path / "whole")
    real, calls = os.replace, 0
    full_at = 1
    while True:
        calls = 0

        def failing(source: Any, target: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == full_at:  # noqa: B023 (used within this turn)
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
            real(source, target)

        run = folder / str(full_at)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", failing)
            try:
                run_toy(config, run)
            except StageError as error:
                assert "the disk is full" in error.message
        if calls < full_at:
            break
        assert not list(run.rglob(".tmp-*"))
        run_toy(config, run)
        assert products(run) == products(tmp_path / "whole"), full_at
        full_at += 1
    assert full_at > 15


def kill_at(config: Path, folder: Path, moment: float, seconds_per_step: float) -> bool:
    """Start the toy run in another process and kill it; whether it was still at work."""
    command = [sys.executable, toy_pipeline.__file__, str(config), str(folder), str(seconds_per_step)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(moment)
        at_work = process.poll() is None
        process.kill()
    return at_work


def test_a_kill_at_any_moment_ends_with_the_same_products(
    toy: Toy, config: RunConfig, folder: Path, tmp_path: Path
) -> None:
    span = 0.3
    while kill_at(tmp_path / "toy.yaml", tmp_path / f"whole-{span}", span, 0.02):  # how long it takes on this machine
        span *= 1.5
    run_toy(config, tmp_path / "whole")
    whole, moments, hit, found = products(tmp_path / "whole"), random.Random(7), 0, set()
    for number in range(3 * KILLS):  # where a moment falls is up to the machine: more of them if it was slow at first
        run = folder / str(number)
        hit += kill_at(tmp_path / "toy.yaml", run, span * (number % KILLS + moments.random()) / KILLS, 0.02)
        assert not any(_finished_but_wrong(run / sub) for sub in FOLDERS.values())
        found.add(tuple(actions(config, run)))
        assert products(run) == whole, number
        assert not list(run.rglob(".tmp-*"))
        if number + 1 >= KILLS and hit >= KILLS // 2 and len(found) >= 3:
            return
    raise AssertionError(f"{hit} kills hit, with these ends: {found}")


def _finished_but_wrong(stage: Path) -> bool:
    manifest = read_manifest(stage)
    return manifest is not None and bool(verify_products(stage, manifest))
