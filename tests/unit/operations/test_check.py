"""`check` and `status` say what is wrong with a run, also when whole stages are no longer finished."""

import os
import shutil
from pathlib import Path

import pytest

from holdfast import models, pipeline
from holdfast.core.config import RunConfig, load_config
from holdfast.core.console import Console
from holdfast.core.errors import IntegrityError, ModelError, UsageError
from holdfast.core.manifest import MANIFEST, read_manifest, write_manifest
from holdfast.core.rundir import RunDir
from holdfast.operations import runs
from holdfast.pipeline import BASE_MODEL, Stage
from toy_pipeline import FOLDERS, Toy, run_toy, write_toy_config


def with_base(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Every stage but the first also uses the base model."""
    return (stages[0], *(stage._replace(uses={**stage.uses, BASE_MODEL: ()}) for stage in stages[1:]))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished toy run; its base model is the folder `base`."""
    base = tmp_path / "base"
    base.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (base / name).write_text("{}")
    (base / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    stages = with_base(Toy().stages())
    monkeypatch.setattr(pipeline, "STAGES", stages)
    monkeypatch.setattr(runs, "STAGES", stages)
    monkeypatch.setattr(pipeline, "describe_environment", dict)
    config: RunConfig = load_config(write_toy_config(tmp_path)).model_copy(update={"base_model": str(base)})
    run_toy(config, tmp_path / "run")
    return tmp_path / "run"


def problems_of(run: Path) -> list[str]:
    with pytest.raises(IntegrityError) as caught:
        runs.check(run, Console(quiet=True))
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_a_removed_manifest_does_not_hide_a_changed_product(run: Path) -> None:
    folder = run / FOLDERS["prepare"]
    (folder / MANIFEST).unlink()
    (folder / "parts" / "0").write_text("changed")
    assert problems_of(run) == [f"{folder / MANIFEST}: missing, but 03-plan was made from that stage"]


def test_a_run_that_stopped_early_is_as_it_should_be(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("prepare", "plan"):
        (run / FOLDERS[name] / MANIFEST).unlink()
    assert runs.check(run, Console()) == 0
    assert "; not finished: prepare, plan" in capsys.readouterr().out


def test_status_says_where_a_decided_run_lost_its_verdict(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for verdict, said in (("keep", False), (None, True)):
        monkeypatch.setattr(runs, "current_verdict", lambda run_dir, verdict=verdict: verdict)
        runs.status(run, Console())
        assert (f"holdfast check {run} names them" in capsys.readouterr().out) is said
    (run / FOLDERS["plan"] / MANIFEST).unlink()
    runs.status(run, Console())
    assert "names them" not in capsys.readouterr().out


def test_status_shows_a_damaged_manifest_among_the_other_stages(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / FOLDERS["plan"] / MANIFEST).write_text("")
    assert runs.status(run, Console()) == 22
    said = capsys.readouterr().out
    assert "plan      damaged" in said and "prepare   finished" in said and "names them" in said


def test_status_names_the_process_that_works_in_the_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDir(run).lock():
        assert runs.status(run, Console()) == 0
    assert f"process {os.getpid()} is at work here now" in capsys.readouterr().out
    assert runs.status(run, Console()) == 0
    assert "at work" not in capsys.readouterr().out


def test_the_base_model_is_read_once_for_all_stages(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    digest = models.digest_base_model
    monkeypatch.setattr(models, "digest_base_model", lambda folder: read.append(folder) or digest(folder))
    assert runs.check(run, Console(quiet=True)) == 0
    assert len(read) == 1


def test_a_missing_base_model_does_not_hide_a_changed_product(run: Path) -> None:
    base = run.parent / "base"
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="not a usable model folder"):
        runs.check(run, Console(quiet=True))
    changed = run / FOLDERS["plan"] / "plan.json"
    changed.write_text("{}")
    named = problems_of(run)
    assert named[0] == f"{changed}: changed"
    assert str(base) in named[1]


def test_what_does_not_belong_together_is_not_measured(run: Path) -> None:
    """Prepare was made anew, plan is still of the old one."""
    config = RunDir(run).read_config()
    runs._require_measurable(RunDir(run), config, ("prepare", "plan"))
    run_toy(config.model_copy(update={"seed": 7}), run, until="prepare")
    with pytest.raises(IntegrityError, match="03-plan: was made from another prepare/parts/0"):
        runs._require_measurable(RunDir(run), config, ("prepare", "plan"))


def test_another_precision_than_in_training_is_not_measured(run: Path) -> None:
    config = RunDir(run).read_config()
    folder = RunDir(run).stage("train").path
    shutil.copytree(run / FOLDERS["plan"], folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, manifest.model_copy(update={"stage": "train", "config": {"train": {"adapter": "lora"}}}))
    with pytest.raises(UsageError, match="was trained as lora, but run.yaml now says qlora"):
        runs._require_measurable(RunDir(run), config, ("prepare", "train"))
