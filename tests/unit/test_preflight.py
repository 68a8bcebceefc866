"""What would fail after hours of training fails before."""

import json
from pathlib import Path

import pytest

from holdfast import pipeline
from holdfast.core.config import load_config
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import ConfigError, KeyFileError, ModelError
from holdfast.core.rundir import RunDir
from holdfast.pipeline import Stage
from holdfast.preflight import refuse_in_vain
from holdfast.redact.digests import DIGESTS_FILE, Memory
from tiny_checkpoint import make_checkpoint
from toy_pipeline import changed, write_toy_config


def test_a_missing_key_is_refused_before_training_and_not_where_it_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    def collect(context: StageContext) -> None:
        memory = Memory(tmp_path / "key")
        memory.note("hunter2hunter2")
        with context.out.writing(DIGESTS_FILE) as path:
            path.write_bytes(memory.encode())

    def work(context: StageContext) -> None:
        log.append(context.out.path.name)

    stages = (
        Stage("collect", 1, collect, ("collect",), {}),
        Stage("train", 1, work, ("train.lora_r",), {"collect": (DIGESTS_FILE,)}),
        Stage("evaluate", 1, work, ("decide.alpha",), {"collect": (DIGESTS_FILE,), "train": ("",)}),
        Stage("export", 1, work, ("export",), {"train": ("",)}),
    )
    monkeypatch.setattr(pipeline, "STAGES", stages)
    monkeypatch.setattr(pipeline, "describe_environment", dict)
    config = changed(load_config(write_toy_config(tmp_path)), "redact", pseudonym_key_file=str(tmp_path / "key"))

    def run(until: str | None = None, rank: int = 16, alpha: float = 0.05, imatrix: bool = False) -> list[str]:
        log.clear()
        wanted = changed(changed(config, "train", lora_r=rank), "decide", alpha=alpha)
        wanted = changed(wanted, "export", imatrix=imatrix)
        pipeline.run_pipeline(wanted, RunDir(tmp_path / "run"), Console(quiet=True), until=until)
        return list(log)

    assert run(until="collect") == [] and (tmp_path / "key").is_file()
    (tmp_path / "key").rename(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="is gone"):
        run()
    assert log == [], "nothing was trained"
    assert run(until="train") == ["05-train"], "whoever wants no answers needs no key"
    (tmp_path / "elsewhere").rename(tmp_path / "key")
    assert run() == ["06-evaluate", "07-export"]
    (tmp_path / "key").unlink()
    assert run() == [] and run(imatrix=True) == ["07-export"], "what is up to date, and what comes later, needs none"
    with pytest.raises(KeyFileError, match="is gone"):
        run(alpha=0.01)


def test_finished_answers_outlive_a_misspelled_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(context: StageContext) -> None:
        context.out.write_json("task.json", {"task": "t"})

    def evaluate(context: StageContext) -> None:
        context.out.write_text("samples.jsonl", "hours of work")

    stages = (Stage("prepare", 1, prepare, (), {}), Stage("evaluate", 1, evaluate, ("decide.primary",), {}))
    monkeypatch.setattr(pipeline, "STAGES", stages)
    monkeypatch.setattr(pipeline, "describe_environment", dict)
    config = changed(load_config(write_toy_config(tmp_path)), "decide", primary="valid_json")
    run_dir = RunDir(tmp_path / "run")
    pipeline.run_pipeline(config, run_dir, Console(quiet=True))
    with pytest.raises(ConfigError, match="'valid_jsn', but answers of task 't' get only the scores valid_json"):
        pipeline.run_pipeline(changed(config, "decide", primary="valid_jsn"), run_dir, Console(quiet=True))
    outcomes = pipeline.run_pipeline(config, run_dir, Console(quiet=True))
    assert [outcome.action for outcome in outcomes] == ["skipped", "skipped"]


def test_a_base_model_that_could_not_be_exported_is_refused_before_training(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", "llama", hidden=64)
    config = load_config(write_toy_config(tmp_path), [f"base_model={base}"])
    changed_json = json.loads((base / "config.json").read_text()) | {"hidden_act": "gelu"}
    (base / "config.json").write_text(json.dumps(changed_json))
    refuse_in_vain(["plan", "baseline", "train", "evaluate"], (), config, needs_base=True)
    with pytest.raises(ModelError, match="activation 'gelu'") as caught:
        refuse_in_vain(["plan", "baseline", "train", "evaluate", "export"], (), config, needs_base=True)
    assert "holdfast evaluate -c FILE goes without it" in caught.value.hint
