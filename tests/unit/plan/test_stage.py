"""The stage on disk: what it writes, also when nothing fits. Run: pytest tests/unit/plan/test_stage.py"""

import json
from pathlib import Path

import pytest

from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import ConfigError, DoesNotFitError
from holdfast.core.rundir import RunDir
from holdfast.plan import stage
from plan_shapes import run_config, write_config


def context_for(tmp_path: Path, model: str, **sections: object) -> StageContext:
    folder, prepared = tmp_path / "base", tmp_path / "prepare"
    folder.mkdir()
    prepared.mkdir()
    write_config(folder, model)
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(b"{}")
    lengths = {"train": [200] * 40, "valid": [150] * 5, "test_prompt_max": 120, "sequence_len": 512}
    (prepared / "lengths.json").write_text(json.dumps(lengths))
    config = run_config(base_model=str(folder), **sections)
    run_dir = RunDir(tmp_path / "run")
    out = run_dir.stage("plan")
    out.begin("key")
    return StageContext(config, out, {"prepare": prepared}, Console(quiet=True), run_dir)


def test_the_stage_writes_plan_and_settings(tmp_path: Path) -> None:
    context = context_for(tmp_path, "stack.md tiny", plan={"gpu": "cpu"})
    stage.run(context)
    settings = json.loads((context.out.path / "settings.json").read_text())
    assert settings["micro_batch_size"] == 8
    plan = json.loads((context.out.path / "plan.json").read_text())
    assert plan["settings"] == settings
    answering = json.loads((context.out.path / "evaluate.json").read_text())
    assert answering == {"batch_size": 16}
    assert plan["evaluation"] == {"batch_size": 16, "merged": True}


def test_a_run_that_does_not_fit_leaves_the_plan_but_no_settings(tmp_path: Path) -> None:
    context = context_for(tmp_path, "Qwen2.5-7B", plan={"gpu": "4GB"})
    with pytest.raises(DoesNotFitError, match="load does not fit"):
        stage.run(context)
    assert json.loads((context.out.path / "plan.json").read_text())["fits"] is False
    assert not (context.out.path / "settings.json").exists()


@pytest.mark.parametrize("key", [{"early_stopping_patience": 2}, {"load_best_model_at_end": True}])
def test_without_validation_rows_what_needs_their_loss_is_refused_before_anything_runs(
    key: dict[str, object], tmp_path: Path
) -> None:
    context = context_for(tmp_path, "stack.md tiny", plan={"gpu": "cpu"}, train=key)
    stage.run(context)
    for none in ([], {"rows": 0, "tokens": 0, "longest": 0}):
        lengths = {"train": [200] * 40, "valid": none, "test_prompt_max": 120}
        (context.inputs["prepare"] / "lengths.json").write_text(json.dumps(lengths))
        with pytest.raises(ConfigError, match=f"train.{next(iter(key))} need a validation loss"):
            stage.run(context)
