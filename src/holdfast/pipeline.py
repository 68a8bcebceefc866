"""The story: what is done, in which order, from what, and when it may be skipped.

    collect → prepare → plan → baseline → train → evaluate → export → verify → decide

For each stage: gather its materials, compute its key; a manifest with that key whose products still verify means
*skip*; unfinished work with that key is *resumed*; anything else *runs* from a clean folder. The intent is written
first, the manifest last. Stages never see each other: they meet in the run folder.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from holdfast import decide, models, preflight
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.device import planned_device
from holdfast.core.digest import digest_file
from holdfast.core.environment import describe_environment
from holdfast.core.errors import IntegrityError, Interrupted, UsageError, full_disk_named
from holdfast.core.manifest import (
    Manifest,
    describe_products,
    is_begun_otherwise,
    read_manifest,
    stage_key,
    verify_products,
    write_manifest,
)
from holdfast.core.rundir import RunDir, utc_now
from holdfast.dataset import stage as dataset
from holdfast.evaluate import stage as evaluate
from holdfast.evaluate import verify
from holdfast.export import stage as export
from holdfast.plan import stage as plan
from holdfast.sources import stage as sources
from holdfast.sources.files import source_files
from holdfast.train import stage as train

BASE_MODEL = "base_model"


class Stage(NamedTuple):
    """One step. Its key is made of `version`, the `config` fields and the digests of what it `uses`.

    config: sections of the configuration, or single keys of one (`train.adapter`).
    uses: earlier stage → products it reads (a name ending in "/" is a folder); `base_model` = the model folder. Without
    any product it is looked at, and is no material: for times and memory on the page, and whether a file is unchanged.
    files: configuration → files outside the run that it reads.
    """

    name: str
    version: int
    run: Callable[[StageContext], None]
    config: tuple[str, ...]
    uses: dict[str, tuple[str, ...]]
    files: Callable[[RunConfig], list[str]] = lambda config: []


def _source_files(config: RunConfig) -> list[str]:
    return sorted({str(path) for source in config.collect.sources for path in source_files(source)})


def _prepare_files(config: RunConfig) -> list[str]:
    files = (config.prepare.contract, config.prepare.split_lock, config.augment.rules)
    return [name for name in files if name]


PLANTED = ("audit.enabled", "audit.repeats", "audit.canaries", "audit.digits", "audit.seed")
EXAMPLES = {
    "prepare": ("test.jsonl", "task.json", "knowledge.json"), "plan": ("evaluate.json",), BASE_MODEL: (),
}  # fmt: skip

STAGES = (
    Stage("collect", 6, sources.run, ("collect", "redact"), {}, _source_files),
    Stage("prepare", 5, dataset.run, ("prepare", "augment", "sequence_len", "seed", *PLANTED),
          {"collect": ("examples.jsonl", "collect.json", "redaction.json", "knowledge.json"), BASE_MODEL: ()},
          _prepare_files),
    Stage("plan", 4, plan.run, ("plan", "train", "evaluate", "export", "verify", "serve", "sequence_len"),
          {"prepare": ("lengths.json",), BASE_MODEL: ()}),
    Stage("baseline", 3, evaluate.run_baseline, ("evaluate", "train.adapter"), EXAMPLES),
    Stage("train", 3, train.run, ("train", "sequence_len", "seed"),
          {"prepare": ("train.jsonl", "valid.jsonl"), "plan": ("device.json",), BASE_MODEL: ()}),
    Stage("evaluate", 4, evaluate.run_tuned, ("evaluate", "train", "decide.primary", "decide.alpha", "audit"),
          {**EXAMPLES, "collect": ("redacted.bin",),
           "prepare": ("test.jsonl", "task.json", "knowledge.json", "canaries.json", "repeats.json"),
           "train": ("adapter/", "losses.json"), "baseline": ("samples.jsonl", "general.jsonl")}),
    Stage("export", 3, export.run, ("name", "export", "evaluate", "train", "verify"),
          {"prepare": ("train.jsonl", "valid.jsonl", "test.jsonl", "task.json"), "train": ("adapter/",),
           "evaluate": ("results.json",), "plan": (), BASE_MODEL: ()}),
    Stage("verify", 3, verify.run,
          ("name", "export", "verify", "evaluate", "train.adapter", "decide.primary", "decide.alpha",
           "decide.maximum_deployed_loss"),
          {**EXAMPLES, "prepare": ("test.jsonl", "train.jsonl", "task.json", "knowledge.json"), "train": ("adapter/",),
           "export": ("",), "evaluate": ("samples.jsonl", "results.json")}),
    Stage("decide", 5, decide.run, ("decide", "verify", "evaluate.general_probe", "audit"),
          {"baseline": ("samples.jsonl", "results.json"),
           "evaluate": ("samples.jsonl", "results.json", "comparison.json", "forgetting.json", "slices.json",
                        "leak_audit.json", "redacted.json"),
           "verify": ("ladder.json", "parity.json"), "prepare": ("report.json",), "train": ("losses.json",),
           "export": (), "plan": ()}),
)  # fmt: skip


class Outcome(NamedTuple):
    """What happened to one stage."""

    stage: str
    action: str  # "skipped" | "resumed" | "ran"
    seconds: float


def run_pipeline(
    config: RunConfig,
    run_dir: RunDir,
    console: Console,
    *,
    until: str | None = None,
    redo_from: str | None = None,
) -> list[Outcome]:
    """Bring a run up to date, stage by stage. Raises what the stages raise; what was finished stays finished."""
    wanted, forced = select_stages(config, until, redo_from)
    with full_disk_named(run_dir.path), run_dir.lock(), _interrupted_redo(redo_from), planned_device(config.plan.gpu):
        run_dir.write_config(config)
        run_dir.journal("run", until=until, redo_from=redo_from)
        outcomes = [_bring_up_to_date(stage, config, run_dir, console, wanted, forced) for stage in wanted]
        run_dir.journal("done", stages={o.stage: o.action for o in outcomes})
    return outcomes


@contextmanager
def _interrupted_redo(redo_from: str | None) -> Iterator[None]:
    """`--from` begins anew each time it is given: whoever repeats an interrupted command must leave it out."""
    try:
        yield
    except KeyboardInterrupt:
        if redo_from is None:
            raise
        raise Interrupted("interrupted. The same command without --from goes on where this one stopped.") from None


def _bring_up_to_date(
    stage: Stage, config: RunConfig, run_dir: RunDir, console: Console, wanted: tuple[Stage, ...], forced: set[str]
) -> Outcome:
    materials = gather_materials(stage, config, run_dir)
    refuse_another_base(stage, materials, run_dir)
    section = select_config(config, stage.config)
    key = stage_key(stage.name, stage.version, section, materials)
    folder = run_dir.stage(stage.name)
    number = f"{STAGES.index(stage) + 1}/{len(STAGES)} {stage.name}"
    why = "asked for by --from" if stage.name in forced else reason_to_run(folder.path, key)
    if why is None:
        console.say(f"{number}: up to date")
        return Outcome(stage.name, "skipped", 0.0)
    preflight.refuse_before(stage.name, [each.name for each in wanted], config, run_dir)
    if stage.name in forced:
        folder.clear()
    resumed = folder.begin(key)
    action = "resumed" if resumed else "ran"
    console.say(f"{number}: {'going on where it stopped' if resumed else why}")
    run_dir.journal("begin", stage=stage.name, key=key, action=action, why=why)
    started, clock = utc_now(), time.monotonic()
    inputs = {name: run_dir.stage(name).path for name in stage.uses if name != BASE_MODEL}
    stage.run(StageContext(config, folder, inputs, console, run_dir))
    models.let_go()
    _refuse_changed_files(stage, materials)
    folder.sync()
    seconds = round(time.monotonic() - clock, 2)
    manifest = Manifest(
        stage=stage.name, stage_version=stage.version, key=key, config=section, materials=materials,
        products=describe_products(folder.path), environment=describe_environment(), seed=config.seed,
        started_at=started, finished_at=utc_now(), seconds=seconds,
    )  # fmt: skip
    write_manifest(folder.path, manifest)
    run_dir.journal("end", stage=stage.name, key=key, seconds=seconds)
    return Outcome(stage.name, action, seconds)


def reason_to_run(folder: Path, key: str) -> str | None:
    """Why a stage must run, in words; None when its manifest has this key and its products verify. IntegrityError when
    all that is wrong is a file that someone put there."""
    try:
        manifest = read_manifest(folder)
    except IntegrityError:
        return "its manifest is damaged"
    if manifest is None:
        removed = "; what another configuration or other materials had begun is removed"
        return "not done yet" + removed * is_begun_otherwise(folder, key)
    if manifest.key != key:
        return "its configuration or materials changed"
    problems = verify_products(folder, manifest)
    preflight.refuse_added_files(folder, problems)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return f"{problems[0].path} is {problems[0].problem}{more}"
    return None


def gather_materials(stage: Stage, config: RunConfig, run_dir: RunDir) -> dict[str, str]:
    """Digests of all that a stage reads: products of earlier stages, the base model, files outside the run."""
    materials: dict[str, str] = {}
    for name, wanted in stage.uses.items():
        if name == BASE_MODEL:
            folder = models.find_base_model(config.base_model)
            materials |= {f"{BASE_MODEL}/{file}": d for file, d in models.digest_base_model(folder).items()}
            continue
        manifest = read_manifest(run_dir.stage(name).path)
        if manifest is None:
            raise UsageError(f"stage {stage.name} needs {name}, which is not finished", hint="holdfast run -c FILE")
        for path, product in manifest.products.items():
            if any(path == want or (want.endswith("/") or not want) and path.startswith(want) for want in wanted):
                materials[f"{name}/{path}"] = product.digest
    for text in stage.files(config):
        materials[f"file/{text}"] = digest_file(_existing(Path(text), stage.name))
    return materials


def refuse_another_base(stage: Stage, materials: dict[str, str], run_dir: RunDir) -> None:
    """Raise IntegrityError when the base model is not the one that earlier stages used a moment ago: it was changed
    while this run went on, and what is exported would not be what was measured."""
    base = {name: digest for name, digest in materials.items() if name.startswith(f"{BASE_MODEL}/")}
    for earlier in STAGES[: STAGES.index(stage)] if base else ():
        manifest = read_manifest(run_dir.stage(earlier.name).path) if BASE_MODEL in earlier.uses else None
        if manifest is None:
            continue
        before = {name: digest for name, digest in manifest.materials.items() if name.startswith(f"{BASE_MODEL}/")}
        changed = sorted(name for name in before.keys() | base.keys() if before.get(name) != base.get(name))
        if changed:
            raise IntegrityError(
                f"the base model changed while the run went on: {changed[0].removeprefix(BASE_MODEL + '/')} is not the "
                f"file that {earlier.name} used ({len(changed)} of {len(base)} files differ)",
                hint="put the right revision back, or begin anew with it: holdfast run -c FILE",
            )


def _refuse_changed_files(stage: Stage, materials: dict[str, str]) -> None:
    """Raise IntegrityError when a file outside the run is not what it was before the stage read it: the manifest would
    name bytes that were never read."""
    for name, digest in materials.items():
        path = Path(name.removeprefix("file/"))
        if name.startswith("file/") and (not path.is_file() or digest_file(path) != digest):
            raise IntegrityError(
                f"{path} changed while {stage.name} read it", hint="repeat the same command when the file is at rest"
            )


def _existing(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise UsageError(f"{stage}: there is no file {path}", hint="correct the path in the configuration")
    return path


def select_stages(config: RunConfig, until: str | None, redo_from: str | None) -> tuple[tuple[Stage, ...], set[str]]:
    """(stages that are wanted, names of those that are done again). Raises what can be told before anything is done."""
    wanted = STAGES if until is None else STAGES[: _position(until) + 1]
    forced = set() if redo_from is None else {stage.name for stage in STAGES[_position(redo_from) :]}
    needs_base = any(BASE_MODEL in stage.uses for stage in wanted)
    preflight.refuse_in_vain([stage.name for stage in wanted], forced, config, needs_base=needs_base)
    return wanted, forced


def _position(name: str) -> int:
    names = [stage.name for stage in STAGES]
    if name not in names:
        raise UsageError(f"there is no stage {name!r}", hint=f"stages: {', '.join(names)}")
    return names.index(name)


def select_config(config: RunConfig, names: tuple[str, ...]) -> dict[str, Any]:
    """The named parts of the configuration; `train.adapter` is one key of a section."""
    document = config.model_dump(mode="json")
    return {name: reduce(lambda part, key: part[key], name.split("."), document) for name in names}
