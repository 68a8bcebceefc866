"""`--dry-run`: what `run` would do and why, stage by stage; nothing is done or written."""

from pathlib import Path

from holdfast import pipeline
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.digest import digest_document
from holdfast.core.errors import IntegrityError
from holdfast.core.manifest import Manifest, read_intent_key, read_manifest, stage_key
from holdfast.core.rundir import RunDir
from holdfast.operations.training import started_as
from holdfast.pipeline import BASE_MODEL, Stage, gather_materials, reason_to_run, select_config


def print_dry_run(
    config: RunConfig, folder: Path, console: Console, *, until: str | None = None, redo_from: str | None = None
) -> int:
    """Print the answers of `explain`, and how the processes of `train` would be started. The exit code is 0."""
    run_dir = RunDir(folder)
    plan = explain(config, run_dir, redo_from=redo_from, until=until)
    lines = [f"in {folder} (dry run: nothing is done)", *(f"  {name:10} {answer}" for name, answer in plan.items())]
    document = {"run_dir": str(folder), "stages": plan, "config": config.model_dump(mode="json")}
    trains = not plan.get("train", "skip").startswith("skip")
    if trains and (processes := started_as(folder, config)):
        document["processes"] = processes
        lines += ["train would be started as:", *(f"  {line}" for line in processes)]
    owner = run_dir.owner()
    if owner is not None:
        console.warn(f"process {owner} works in {folder} now; until it ends a run there is refused (exit code 24)")
    console.result(document, "\n".join(lines))
    return 0


def explain(
    config: RunConfig, run_dir: RunDir, *, until: str | None = None, redo_from: str | None = None
) -> dict[str, str]:
    """Stage → `skip: why`, `run: why`, or `maybe: when`, where that hangs on what an earlier stage will make.

    Raises what `run_pipeline` raises before it writes anything.
    """
    wanted, forced = pipeline.select_stages(config, until, redo_from)
    answers: dict[str, str] = {}
    for stage in wanted:
        anew = [name for name in stage.uses if not answers.get(name, "skip").startswith("skip")]
        if stage.name in forced:
            answers[stage.name] = "run: asked for by --from"
        else:
            answers[stage.name] = _answer(stage, config, run_dir, anew)
    return answers


def _answer(stage: Stage, config: RunConfig, run_dir: RunDir, anew: list[str]) -> str:
    """anew: earlier stages that this one uses and that run, or may run."""
    folder = run_dir.stage(stage.name).path
    if not anew:
        section = select_config(config, stage.config)
        key = stage_key(stage.name, stage.version, section, gather_materials(stage, config, run_dir))
        why = reason_to_run(folder, key)
        if why is None:
            return "skip: up to date"
        resumed = read_intent_key(folder) == key and why == "not done yet"
        return "run: goes on where it stopped" if resumed else f"run: {why}"
    try:
        manifest = read_manifest(folder)
    except IntegrityError:
        return "run: its manifest is damaged"
    if manifest is None:
        return "run: not done yet"
    if _changed_without(stage, config, run_dir, manifest):
        return "run: its configuration or materials changed"
    why = reason_to_run(folder, manifest.key)
    given = [name for name in anew if stage.uses[name]]
    if why is None and not given:
        return "skip: up to date"
    return f"maybe: only if {' or '.join(given)} makes other products than before" if why is None else f"run: {why}"


def _changed_without(stage: Stage, config: RunConfig, run_dir: RunDir, manifest: Manifest) -> bool:
    """Whether the stage must run whatever the stages before it make: by its configuration, version, base or files."""
    section = select_config(config, stage.config)
    if manifest.stage_version != stage.version or digest_document(manifest.config) != digest_document(section):
        return True
    outside = stage._replace(uses={name: uses for name, uses in stage.uses.items() if name == BASE_MODEL})
    before = {n: d for n, d in manifest.materials.items() if n.startswith((f"{BASE_MODEL}/", "file/"))}
    return gather_materials(outside, config, run_dir) != before
