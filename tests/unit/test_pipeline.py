"""Skip and run: what was finished stays finished, what changed is made again."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import pipeline
from holdfast.core.config import RunConfig, load_config
from holdfast.core.context import StageContext
from holdfast.core.device import VISIBLE
from holdfast.core.errors import IntegrityError, Interrupted, LockedError, ModelError, UsageError
from holdfast.core.manifest import MANIFEST, read_manifest
from holdfast.core.records import read_jsonl
from holdfast.core.rundir import STAGE_NAMES, RunDir
from holdfast.pipeline import BASE_MODEL, STAGES, Stage, gather_materials, select_config
from toy_pipeline import FOLDERS, Toy, actions, changed, products, run_toy, write_toy_config


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


def test_the_first_run_runs_all_and_the_second_skips_all(toy: Toy, config: RunConfig, folder: Path) -> None:
    assert actions(config, folder) == ["ran", "ran", "ran"]
    before, done = products(folder), list(toy.log)
    assert actions(config, folder) == ["skipped", "skipped", "skipped"]
    assert toy.log == done and products(folder) == before


@pytest.mark.parametrize(("gpu", "seen"), [("cpu", ""), ("auto", None)])
def test_a_run_that_is_planned_for_the_processor_sees_no_card_in_any_stage(
    gpu: str, seen: str | None, toy: Toy, config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    found: set[str | None] = set()
    toy.fail = lambda step, context: found.add(os.environ.get(VISIBLE))
    run_toy(changed(config, "plan", gpu=gpu), folder)
    assert found == {seen} and VISIBLE not in os.environ


def test_a_manifest_records_what_went_in_and_what_came_out(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    manifests = {name: read_manifest(folder / sub) for name, sub in FOLDERS.items()}
    collect, prepare, plan = (manifests[name] for name in FOLDERS)
    assert collect is not None and prepare is not None and plan is not None
    assert list(collect.materials) == [f"file/{config.collect.sources[0].path}"]
    assert prepare.materials == {"collect/examples.jsonl": collect.products["examples.jsonl"].digest}
    assert plan.materials == {f"prepare/parts/{n}": prepare.products[f"parts/{n}"].digest for n in range(4)}
    assert (prepare.config, plan.config, prepare.seed) == ({"seed": 42}, {"plan.gpu": "auto"}, 42)
    assert "intent.json" not in plan.products and list(plan.products) == ["plan.json"]


def test_the_journal_tells_the_story_and_keeps_the_earlier_runs(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    run_toy(config, folder)
    rows = [row for _, row in read_jsonl(folder / "journal.jsonl")]
    assert [r["event"] for r in rows] == ["run", *["begin", "end"] * 3, "done", "run", "done"]
    assert [r["why"] for r in rows if r["event"] == "begin"] == ["not done yet"] * 3
    assert rows[-1]["stages"] == dict.fromkeys(FOLDERS, "skipped")


def test_a_changed_late_setting_runs_only_the_late_stage(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    assert actions(changed(config, "plan", gpu="8GB"), folder) == ["skipped", "skipped", "ran"]
    assert actions(changed(config, "train", lora_r=4), folder) == ["skipped", "skipped", "ran"]  # back to `auto`
    assert actions(changed(config, "train", lora_r=8), folder) == ["skipped"] * 3


def test_a_changed_early_setting_runs_the_stages_whose_materials_change(
    toy: Toy, config: RunConfig, folder: Path
) -> None:
    run_toy(config, folder)
    assert actions(changed(config, "seed", seed=1), folder) == ["skipped", "ran", "ran"]
    # the prompt goes only into a report that nobody reads
    assert actions(changed(changed(config, "seed", seed=1), "collect", system_prompt="x"), folder) == [
        "ran", "skipped", "skipped"
    ]  # fmt: skip


def test_a_changed_source_file_runs_everything(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    Path(config.collect.sources[0].path).write_text("four\n")
    assert actions(config, folder) == ["ran", "ran", "ran"]


def test_a_newer_version_of_a_stage_runs_it_again(
    toy: Toy, config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(config, folder)
    collect, prepare, plan = toy.stages()
    monkeypatch.setattr(pipeline, "STAGES", (collect, prepare._replace(version=2), plan))
    assert actions(config, folder) == ["skipped", "ran", "skipped"]


def tamper(path: Path) -> None:
    path.write_text(path.read_text()[::-1])


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("parts/2", tamper, "parts/2 is changed"), ("parts/2", Path.unlink, "parts/2 is missing"),
        ("test.jsonl", tamper, "test.jsonl is changed"),
    ],
)  # fmt: skip
def test_a_damaged_product_runs_its_stage_again_and_no_other(
    toy: Toy, config: RunConfig, folder: Path, name: str, damage: Callable[[Path], None], words: str
) -> None:
    run_toy(config, folder)
    before = products(folder)
    damage(folder / "02-prepare" / name)
    assert actions(config, folder) == ["skipped", "ran", "skipped"]
    assert products(folder) == before
    why = [row["why"] for _, row in read_jsonl(folder / "journal.jsonl") if row["event"] == "begin"][-1]
    assert why == words


def test_a_file_that_someone_added_costs_no_stage_and_is_not_removed(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    before = products(folder)
    for added in (folder / "02-prepare" / "notes.txt", folder / "02-prepare" / "parts" / "extra"):
        added.write_text("mine")
        with pytest.raises(IntegrityError, match=f"1 file that the stage did not make: .*{added.name}") as caught:
            run_toy(config, folder)
        assert added.read_text() == "mine" and "--from prepare" in caught.value.hint
        added.unlink()
        assert actions(config, folder) == ["skipped"] * 3
    added.write_text("mine")
    (folder / "02-prepare" / "test.jsonl").unlink()
    assert actions(config, folder) == ["skipped", "ran", "skipped"] and products(folder) == before


def test_a_remade_product_with_another_digest_runs_the_later_stages_too(
    toy: Toy, config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(config, folder)
    real = toy.prepare

    def moody(context: StageContext) -> None:
        real(context)
        with context.out.writing("parts") as parts:
            parts.mkdir()
            (parts / "0").write_text("another")

    collect, prepare, plan = toy.stages()
    monkeypatch.setattr(pipeline, "STAGES", (collect, prepare._replace(run=moody), plan))
    (folder / "02-prepare" / "test.jsonl").unlink()
    assert actions(config, folder) == ["skipped", "ran", "ran"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}'])
def test_a_damaged_manifest_runs_its_stage_again(toy: Toy, config: RunConfig, folder: Path, content: str) -> None:
    run_toy(config, folder)
    (folder / "02-prepare" / MANIFEST).write_text(content)
    assert actions(config, folder) == ["skipped", "ran", "skipped"]


def test_a_missing_manifest_goes_on_with_the_work_that_is_there(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    (folder / "02-prepare" / MANIFEST).unlink()
    toy.log.clear()
    assert actions(config, folder) == ["skipped", "resumed", "skipped"]
    assert toy.log == ["prepare.last"]


def test_until_stops_after_its_stage(toy: Toy, config: RunConfig, folder: Path) -> None:
    assert actions(config, folder, until="prepare") == ["ran", "ran"]
    assert not (folder / "03-plan").exists()
    assert actions(config, folder) == ["skipped", "skipped", "ran"]


def test_from_runs_its_stage_and_all_later_ones_from_a_clean_folder(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    before = products(folder)
    toy.log.clear()
    assert actions(config, folder, redo_from="prepare") == ["skipped", "ran", "ran"]
    assert toy.log[0] == "prepare.0" and products(folder) == before


def test_from_and_until_together_redo_only_what_lies_between(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    assert actions(config, folder, redo_from="prepare", until="prepare") == ["skipped", "ran"]
    assert actions(config, folder) == ["skipped"] * 3


@pytest.mark.parametrize("option", ["until", "redo_from"])
def test_an_unknown_stage_name_is_refused_before_anything_is_written(
    toy: Toy, config: RunConfig, folder: Path, option: str
) -> None:
    with pytest.raises(UsageError, match="there is no stage 'trian'") as caught:
        run_toy(config, folder, **{option: "trian"})
    assert caught.value.hint == "stages: collect, prepare, plan" and not folder.exists()


def test_a_source_that_changes_while_it_is_read_is_refused(toy: Toy, config: RunConfig, folder: Path) -> None:
    source = Path(config.collect.sources[0].path)

    def edit(step: str, context: StageContext) -> None:
        if step == "collect.report":
            source.write_text("four\n")

    toy.fail = edit
    with pytest.raises(IntegrityError, match=r"words\.txt changed while collect read it"):
        run_toy(config, folder)
    assert not (folder / FOLDERS["collect"] / MANIFEST).exists()
    toy.fail = lambda step, context: None
    assert actions(config, folder) == ["ran", "ran", "ran"]
    assert (folder / FOLDERS["collect"] / "examples.jsonl").read_text() == "four\n"


def test_a_redo_that_would_redo_nothing_is_refused(toy: Toy, config: RunConfig, folder: Path) -> None:
    with pytest.raises(UsageError, match="--from begins after --until collect"):
        run_toy(config, folder, until="collect", redo_from="plan")
    assert not folder.exists()


def test_a_missing_base_model_is_noticed_before_anything_is_written(
    toy: Toy, config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = toy.stages()
    last = stages[2]._replace(uses={**stages[2].uses, BASE_MODEL: ()})
    monkeypatch.setattr(pipeline, "STAGES", (*stages[:2], last))
    without = config.model_copy(update={"base_model": str(folder / "no-such-model")})
    with pytest.raises(ModelError, match="no-such-model"):
        run_toy(without, folder)
    assert not folder.exists()
    run_toy(without, folder, until="prepare")


def test_a_missing_source_file_is_named(toy: Toy, config: RunConfig, folder: Path) -> None:
    Path(config.collect.sources[0].path).unlink()
    with pytest.raises(UsageError, match=r"collect: there is no file .*words\.txt"):
        run_toy(config, folder)


def test_a_stage_whose_materials_are_not_finished_cannot_be_planned(toy: Toy, config: RunConfig, folder: Path) -> None:
    with pytest.raises(UsageError, match="stage prepare needs collect, which is not finished"):
        gather_materials(toy.stages()[1], config, RunDir(folder))


def test_the_files_of_the_base_model_are_materials(toy: Toy, config: RunConfig, folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "a.safetensors"):
        (model / name).write_text(name)
    stage = Stage("plan", 1, toy.plan, (), {BASE_MODEL: ()})
    with_model = config.model_copy(update={"base_model": str(model)})
    before = gather_materials(stage, with_model, RunDir(folder))
    assert {"base_model/config.json", "base_model/a.safetensors"} <= before.keys()
    (model / "a.safetensors").write_text("other weights")
    assert gather_materials(stage, with_model, RunDir(folder)) != before
    (model / "a.safetensors").unlink()
    with pytest.raises(ModelError):
        gather_materials(stage, with_model, RunDir(folder))


def test_a_run_in_use_is_refused(toy: Toy, config: RunConfig, folder: Path) -> None:
    with RunDir(folder).lock(), pytest.raises(LockedError):
        run_toy(config, folder)
    assert toy.log == []


def test_every_stage_uses_only_earlier_stages_and_known_settings(config: RunConfig) -> None:
    names = [stage.name for stage in STAGES]
    assert names == list(STAGE_NAMES[: len(names)])
    for number, stage in enumerate(STAGES):
        assert stage.uses.keys() - {BASE_MODEL} <= set(names[:number]), stage.name
        assert set(select_config(config, stage.config)) == set(stage.config)


def test_a_single_key_of_a_section_can_be_selected(config: RunConfig) -> None:
    assert select_config(config, ("train.adapter", "seed")) == {"train.adapter": "qlora", "seed": 42}


def test_a_run_of_a_newer_holdfast_is_left_as_it_is(toy: Toy, config: RunConfig, folder: Path) -> None:
    run_toy(config, folder)
    path = folder / "02-prepare" / MANIFEST
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    before = products(folder)
    with pytest.raises(UsageError, match="newer holdfast"):
        run_toy(config, folder)
    assert products(folder) == before


def test_an_interrupted_redo_says_how_to_go_on(toy: Toy, config: RunConfig, folder: Path) -> None:
    def interrupt(step: str, context: StageContext) -> None:
        if step == "prepare.2":
            raise KeyboardInterrupt

    run_toy(config, folder)
    toy.fail = interrupt
    with pytest.raises(Interrupted, match="without --from goes on"):
        run_toy(config, folder, redo_from="prepare")
    toy.fail = lambda step, context: None
    assert actions(config, folder) == ["skipped", "resumed", "skipped"]
