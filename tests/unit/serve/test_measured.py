"""run.yaml may name values that nothing was measured with."""

from pathlib import Path

import pytest

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.errors import UsageError
from holdfast.core.manifest import Manifest, write_manifest
from holdfast.core.measured import SERVED, refuse_unmeasured
from holdfast.core.rundir import RunDir
from holdfast.operations import compare
from holdfast.pipeline import STAGES, select_config
from holdfast.serve import launch

CONFIG = RunConfig.model_validate({"name": "r", "collect": {"sources": [{"path": "a"}]}})
CHANGES = {
    "name": {"name": "other"},
    "verify.n_ctx": {"verify": CONFIG.verify.model_copy(update={"n_ctx": 4096})},
    "verify.deploy": {"verify": CONFIG.verify.model_copy(update={"deploy": "F16"})},
    "evaluate.max_new_tokens": {"evaluate": CONFIG.evaluate.model_copy(update={"max_new_tokens": 7})},
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose evaluate and verify were made with CONFIG."""
    run = RunDir(tmp_path)
    run.write_config(CONFIG)
    for stage in STAGES:
        if stage.name in ("evaluate", "verify"):
            run.stage(stage.name).path.mkdir()
            write_manifest(run.stage(stage.name).path, Manifest(
                stage=stage.name, stage_version=1, key="k", config=select_config(CONFIG, stage.config), materials={},
                products={}, environment={}, seed=0, started_at="", finished_at="", seconds=0.0,
            ))  # fmt: skip
    return run


@pytest.mark.parametrize("key", CHANGES)
def test_serve_and_ask_refuse_values_that_were_not_measured(
    key: str, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "require_keep", lambda *_: None)
    run.write_config(CONFIG.model_copy(update=CHANGES[key]))
    quiet = Console(quiet=True)
    with pytest.raises(UsageError, match=rf"run.yaml says {key} \w+, but 08-verify was made with \w+") as caught:
        launch.ask(run.path, "why?", quant=None, console=quiet)
    assert "holdfast run -c FILE" in caught.value.hint
    with pytest.raises(UsageError, match=f"run.yaml says {key} "):
        launch.serve(run.path, host="127.0.0.1", port=0, api_key_file=None, quant=None, console=quiet)


def test_what_was_measured_is_served_and_other_keys_are_free(run: RunDir) -> None:
    refuse_unmeasured(run, CONFIG, "verify", SERVED)
    free = CONFIG.model_copy(update={"serve": CONFIG.serve.model_copy(update={"port": 1}), "seed": 7})
    refuse_unmeasured(run, free, "verify", SERVED)
    refuse_unmeasured(run, CONFIG.model_copy(update=CHANGES["name"]), "export", SERVED)  # not finished: not judged
    refuse_unmeasured(run, CONFIG, "verify", ("train.lora_r", "verify.gone"))  # the manifest does not know them


def test_compare_takes_the_score_and_the_file_that_were_measured(run: RunDir) -> None:
    other = CONFIG.decide.model_copy(update={"primary": "valid_json"})
    run.write_config(CONFIG.model_copy(update={"decide": other}))
    with pytest.raises(UsageError, match=r"says decide.primary valid_json, but 06-evaluate was made with label_acc"):
        compare.compare([run.path, run.path], Console(quiet=True), deployed=False, alpha=0.05)
    run.write_config(CONFIG.model_copy(update=CHANGES["verify.deploy"]))
    with pytest.raises(UsageError, match=r"says verify.deploy F16, but 08-verify was made with Q4_K_M"):
        compare.compare([run.path, run.path], Console(quiet=True), deployed=True, alpha=0.05)


def test_one_run_under_two_names_is_not_compared_with_itself(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_samples", lambda *_: [])
    again = run.path / ".." / run.path.name
    with pytest.raises(UsageError, match="at least 2 different runs, got 1"):
        compare.compare([run.path, again], Console(quiet=True), deployed=False, alpha=0.05)
