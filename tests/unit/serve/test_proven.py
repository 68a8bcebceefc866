"""`serve` and `ask` look at everything that the decision rests on, not only at the file that is served."""

import json
import shutil
from pathlib import Path

import pytest

from finished_stage import finish_stage
from holdfast.core.errors import IntegrityError
from holdfast.core.rundir import RunDir
from holdfast.pipeline import BASE_MODEL, STAGES
from holdfast.serve.proven import require_proven


def finish(run: RunDir, stage: str, materials: dict[str, str], content: str = "1") -> dict[str, str]:
    folder = run.stage(stage).path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "product.json").write_text(json.dumps([stage, content]))
    return finish_stage(folder, stage, materials)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A decided run: each stage has one product, and has read those of the stages that it uses in `pipeline.py`."""
    run = RunDir(tmp_path / "run")
    made: dict[str, dict[str, str]] = {BASE_MODEL: {"base_model/config.json": "sha256:1"}}
    for stage in STAGES:
        used = [name for name, products in stage.uses.items() if products or name == BASE_MODEL]
        materials = {name: digest for earlier in used for name, digest in made[earlier].items()}
        made[stage.name] = finish(run, stage.name, materials | {"file/tickets.jsonl": "sha256:2"})
    return run


def test_a_whole_run_is_served_also_when_its_base_model_and_sources_are_gone(run: RunDir) -> None:
    require_proven(run)


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_no_stage_that_the_decision_rests_on_may_be_missing_or_begun_again(stage: str, run: RunDir) -> None:
    folder = run.stage(stage).path
    (folder / "manifest.json").unlink()
    with pytest.raises(IntegrityError, match=rf"rests on stage {stage}, but {folder.name} is not finished"):
        require_proven(run)
    shutil.rmtree(folder)
    with pytest.raises(IntegrityError, match=rf"rests on stage {stage}, but {folder.name} is not finished"):
        require_proven(run)


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES[:-1]])
def test_no_stage_that_the_decision_rests_on_may_be_made_anew(stage: str, run: RunDir) -> None:
    finish(run, stage, {}, "2")
    with pytest.raises(IntegrityError, match=rf"was made from another {stage}/product\.json than the one"):
        require_proven(run)


@pytest.mark.parametrize("stage", ["baseline", "evaluate", "verify"])
def test_the_answers_that_decided_must_be_what_they_were(stage: str, run: RunDir) -> None:
    file = run.stage(stage).path / "product.json"
    file.write_text("better ones")
    with pytest.raises(IntegrityError, match=r"product\.json is not what it was when .* was decided"):
        require_proven(run)
    file.unlink()
    with pytest.raises(IntegrityError, match=r"product\.json is gone, from which .* was decided"):
        require_proven(run)


def test_who_works_in_the_run_is_named(run: RunDir) -> None:
    run.stage("evaluate").clear()
    with run.lock(), pytest.raises(IntegrityError) as caught:
        require_proven(run)
    assert "works in this run now" in caught.value.hint
    with pytest.raises(IntegrityError) as caught:
        require_proven(run)
    assert f"holdfast status {run.path}" in caught.value.hint
