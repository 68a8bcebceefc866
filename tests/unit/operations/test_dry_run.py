"""What `--dry-run` says is what `run` then does, and it is said in words that a stranger understands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import pipeline
from holdfast.core.config import RunConfig, load_config
from holdfast.core.console import Console
from holdfast.core.rundir import RunDir
from holdfast.operations.dry_run import explain, print_dry_run
from toy_pipeline import Toy, changed, run_toy, write_toy_config

DONE = {"skip": {"skipped"}, "run": {"ran", "resumed"}, "maybe": {"skipped", "ran"}}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(pipeline, "STAGES", Toy().stages())
    monkeypatch.setattr(pipeline, "describe_environment", dict)
    return load_config(write_toy_config(tmp_path))


def nothing(config: RunConfig, folder: Path) -> RunConfig:
    return config


def other_remark(config: RunConfig, folder: Path) -> RunConfig:
    return changed(config, "collect", system_prompt="other")  # collect makes the same examples of it


def other_words(config: RunConfig, folder: Path) -> RunConfig:
    Path(config.collect.sources[0].path).write_text("four\n")
    return config


def other_collect_and_plan(config: RunConfig, folder: Path) -> RunConfig:
    return changed(other_remark(config, folder), "plan", gpu="8GB")


def damaged_plan(config: RunConfig, folder: Path) -> RunConfig:
    (folder / "03-plan" / "plan.json").write_text("{}")
    return other_remark(config, folder)


def removed_prepare(config: RunConfig, folder: Path) -> RunConfig:
    RunDir(folder).stage("prepare").clear()
    return config


@pytest.mark.parametrize(
    ("change", "redo_from", "said"),
    [
        (nothing, None, ["skip: up to date"] * 3),
        (nothing, "prepare", ["skip: up to date", "run: asked for by --from", "run: asked for by --from"]),
        (other_remark, None, ["run: its configuration or materials changed",
                              "maybe: only if collect makes other products than before",
                              "maybe: only if prepare makes other products than before"]),
        (other_words, None, ["run: its configuration or materials changed",
                             "maybe: only if collect makes other products than before",
                             "maybe: only if prepare makes other products than before"]),
        (other_collect_and_plan, None, ["run: its configuration or materials changed",
                                        "maybe: only if collect makes other products than before",
                                        "run: its configuration or materials changed"]),
        (damaged_plan, None, ["run: its configuration or materials changed",
                              "maybe: only if collect makes other products than before",
                              "run: plan.json is changed"]),
        (removed_prepare, None, ["skip: up to date", "run: not done yet",
                                 "maybe: only if prepare makes other products than before"]),
    ],
)  # fmt: skip
def test_what_is_said_is_what_is_done(
    change: Callable[[RunConfig, Path], RunConfig], redo_from: str | None, said: list[str], config: RunConfig,
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = tmp_path / "run"
    run_toy(config, folder)
    config = change(config, folder)
    found = explain(config, RunDir(folder), redo_from=redo_from)
    assert list(found.values()) == said
    for outcome in run_toy(config, folder, redo_from=redo_from):
        assert outcome.action in DONE[found[outcome.stage].partition(":")[0]], outcome


def test_of_a_run_that_was_never_begun_every_stage_is_not_done_yet(config: RunConfig, tmp_path: Path) -> None:
    assert set(explain(config, RunDir(tmp_path / "run")).values()) == {"run: not done yet"}
    assert not (tmp_path / "run").exists()


def test_where_nothing_is_done_that_is_said_and_also_who_is_at_work(
    config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert print_dry_run(config, folder, Console(), until="prepare") == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"in {folder} (dry run: nothing is done)\n  collect    run: not done yet\n")
    assert told.err == ""
    with RunDir(folder).lock():
        print_dry_run(config, folder, Console(as_json=True))
    assert "until it ends a run there is refused (exit code 24)" in capsys.readouterr().err.replace("\n", " ")


def test_how_train_is_started_is_only_shown_where_it_may_run(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: dict[str, str] = {}

    def answer(*given: Any, **named: Any) -> dict[str, str]:
        return answers

    monkeypatch.setattr("holdfast.operations.dry_run.explain", answer)
    several = changed(config, "train", nproc=2)
    for text, shown in (("skip: up to date", False), ("run: not done yet", True), ("maybe: only if …", True)):
        answers["train"] = text
        print_dry_run(several, tmp_path / "run", Console())
        assert ("train would be started as:" in capsys.readouterr().out) == shown
