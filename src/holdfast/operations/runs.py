"""What can be done with a run: bring it up to date, check it, measure it on other items, serve it, ask it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast import models, report
from holdfast.core.config import RunConfig, load_config
from holdfast.core.console import Console
from holdfast.core.device import planned_device
from holdfast.core.digest import digest_file
from holdfast.core.documents import deployed_quantization
from holdfast.core.errors import IntegrityError, ModelError, UsageError
from holdfast.core.manifest import MANIFEST, read_manifest, verify_products
from holdfast.core.measured import refuse_unmeasured
from holdfast.core.rundir import RunDir
from holdfast.operations.dry_run import print_dry_run
from holdfast.operations.training import warn_of_other_processes
from holdfast.operations.verdict import current_verdict
from holdfast.pipeline import BASE_MODEL, STAGES, run_pipeline
from holdfast.redact.redactor import Redactor


def run(
    config_file: Path,
    run_dir: Path | None,
    overrides: list[str],
    console: Console,
    *,
    until: str | None = None,
    redo_from: str | None = None,
    dry_run: bool = False,
) -> int:
    """Bring a run up to date; the exit code is the verdict's when the run was decided, else 0."""
    config = load_config(config_file, overrides)
    folder = run_dir or Path("runs") / config.name
    warn_of_other_processes(folder, config, console)
    if dry_run:
        return print_dry_run(config, folder, console, until=until, redo_from=redo_from)
    return run_and_report(config, folder, console, until=until, redo_from=redo_from)


def run_and_report(
    config: RunConfig, folder: Path, console: Console, *, until: str | None = None, redo_from: str | None = None
) -> int:
    """Run the pipeline and print the story of the run (or the --json document). Returns the exit code."""
    outcomes = run_pipeline(config, RunDir(folder), console, until=until, redo_from=redo_from)
    actions = {outcome.stage: outcome.action for outcome in outcomes}
    if outcomes[-1].stage != STAGES[-1].name:
        text = f"finished up to {outcomes[-1].stage}: {RunDir(folder).stage(outcomes[-1].stage).path}"
        console.result({"run_dir": str(folder), "stages": actions, "exit_code": 0}, text)
        return 0
    document = report.summarize_run(folder) | {"stages": actions}
    console.result(document, report.tell_story(folder))
    return int(document["exit_code"])


def status(folder: Path, console: Console) -> int:
    """Which stages are finished, when and how long they took, the verdict, and which process works in the folder. The
    exit code is 22 when a manifest is damaged."""
    run_dir = RunDir(folder)
    config = run_dir.read_config()
    stages: dict[str, Any] = {}
    for stage in STAGES:
        begun, damaged, manifest = run_dir.stage(stage.name).path.exists(), False, None
        try:
            manifest = read_manifest(run_dir.stage(stage.name).path)
        except IntegrityError:  # named by `check`; at night the other lines are wanted too
            damaged = True
        state = "finished" if manifest else "damaged" if damaged else "unfinished" if begun else "not begun"
        stages[stage.name] = {"state": state} | (
            {"finished_at": manifest.finished_at, "seconds": manifest.seconds, "products": len(manifest.products)}
            if manifest
            else {}
        )
    broken = any(stage["state"] == "damaged" for stage in stages.values())
    verdict = None if broken else current_verdict(run_dir)
    document = {"run_dir": str(folder), "name": config.name, "verdict": verdict, "stages": stages,
                "process": run_dir.owner()}  # fmt: skip
    console.result(document, report.render_status(document))
    return IntegrityError.exit_code if broken else 0


def check(folder: Path, console: Console, *, read_data: bool = False) -> int:
    """Compare every product and the base model with the manifests; `read_data` also the files outside the run.

    Raises IntegrityError naming each file that is not what it was.
    """
    run_dir = RunDir(folder)
    config = run_dir.read_config()
    problems: list[str] = []
    used: list[dict[str, str]] = []
    unfinished: list[str] = []
    products = 0
    known: dict[str, str] = {}
    for stage in STAGES:
        path = run_dir.stage(stage.name).path
        manifest = read_manifest(path)
        if manifest is None:
            unfinished.append(stage.name)
            continue
        products += len(manifest.products)
        used.append(manifest.materials)
        problems += [f"{path / m.path}: {m.problem}" for m in verify_products(path, manifest)]
        problems += [
            f"{run_dir.stage(name).path / MANIFEST}: missing, but {path.name} was made from that stage"
            for name in unfinished
            if any(material.startswith(f"{name}/") for material in manifest.materials)
        ]
        problems += _changed_materials(manifest.materials, known, path.name)
        known |= {f"{stage.name}/{name}": product.digest for name, product in manifest.products.items()}
        if read_data:
            problems += _changed_files(manifest.materials)
    try:
        problems += base_model_changes(config, used)
    except ModelError as error:
        if not problems:
            raise
        problems.append(error.message)
    problems = list(dict.fromkeys(problems))
    if problems:
        listed = "\n  ".join(problems)
        raise IntegrityError(
            f"{len(problems)} file{'s are' if len(problems) > 1 else ' is'} not what the manifests say:\n  {listed}",
            hint="move added files elsewhere"
            if all(problem.endswith(": unexpected") for problem in problems)
            else "holdfast run -c FILE rebuilds what changed; restore the base model if it was changed by mistake",
        )
    left = f"; not finished: {', '.join(unfinished)}" if unfinished else ""
    document = {"run_dir": str(folder), "products": products, "unfinished": unfinished, "problems": [], "exit_code": 0}
    console.result(document, f"{products} products are what their manifests say{left}")
    return 0


def _changed_materials(materials: dict[str, str], known: dict[str, str], folder: str) -> list[str]:
    """Earlier products that were made anew after this stage had used them."""
    return [
        f"{folder}: was made from another {name}" for name, d in materials.items() if name in known and known[name] != d
    ]


def _changed_files(materials: dict[str, str]) -> list[str]:
    problems = []
    for name, digest in materials.items():
        if name.startswith("file/"):
            path = Path(name.removeprefix("file/"))
            if not path.is_file():
                problems.append(f"{path}: missing")
            elif digest_file(path) != digest:
                problems.append(f"{path}: changed")
    return problems


def base_model_changes(config: RunConfig, used: Sequence[Mapping[str, str]]) -> list[str]:
    """Files of the base model that are no longer what stages were made from; `used` are the materials of each stage.

    The files are read once, however many stages used them.
    """
    prefix = f"{BASE_MODEL}/"
    taken = [{n.removeprefix(prefix): d for n, d in stage.items() if n.startswith(prefix)} for stage in used]
    taken = [before for before in taken if before]
    if not taken:
        return []
    folder = models.find_base_model(config.base_model)
    now = models.digest_base_model(folder)
    changed = {name for before in taken for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    return [f"{folder / name}: base model file changed" for name in sorted(changed)]


def evaluate_other_items(
    folder: Path, data: Path, console: Console, *, runtime: str, quant: str | None, samples_out: Path | None = None
) -> int:
    """Measure baseline and tuned model of a finished run on another file of items.

    With runtime `gguf` the tuned model is the GGUF file in the llama.cpp server; the baseline always runs in
    transformers. Raises IntegrityError when the base model or a product is not what the run was made with.
    """
    from holdfast.evaluate.other_items import measure_other_items
    from holdfast.evaluate.planned import answering
    from holdfast.operations.planning import fewer_at_once

    run_dir = RunDir(folder)
    config = run_dir.read_config()
    config = config.model_copy(update={"evaluate": answering(config, run_dir.stage("plan").path)})
    if runtime not in ("transformers", "gguf"):
        raise UsageError(f"--runtime {runtime}: expected transformers or gguf")
    _require_measurable(run_dir, config, ("prepare", "train", "export") if runtime == "gguf" else ("prepare", "train"))
    redactor = Redactor(config.redact, forbidden=folder)
    task, primary, found = read_task_and_items(data, config, run_dir.stage("prepare").path / "task.json")
    items = redactor.mask_examples(found)
    masked = dict(redactor.by_type)
    console.say(f"  {redactor.describe()}")
    config = fewer_at_once(config, items)
    gguf = None
    if runtime == "gguf":
        refuse_unmeasured(run_dir, config, "export", ("name",))
        refuse_unmeasured(run_dir, config, "verify", () if quant else ("verify.deploy",))
        quant = quant or deployed_quantization(config.verify.deploy, run_dir.stage("verify").path)
        gguf = run_dir.stage("export").path / f"{config.name}-{quant}.gguf"
        if not gguf.is_file():
            raise UsageError(f"{gguf.name} was not exported", hint=f"add {quant} to export.quantizations and run again")
    with planned_device(config.plan.gpu):
        document = measure_other_items(
            config, task, run_dir.stage("train").path / "adapter", gguf, items, console,
            primary=primary, samples_out=samples_out,
        )  # fmt: skip
    document |= {"run_dir": str(folder), "data": str(data), "redaction": masked}
    console.result(document, report.render_comparison(document))
    return 0


def _require_measurable(run_dir: RunDir, config: RunConfig, stages: Sequence[str]) -> None:
    """Raise IntegrityError unless the stages belong together and nothing changed since, UsageError when one is not
    finished or run.yaml has another `train.adapter` than the adapter was trained with: it decides the precision."""
    problems: list[str] = []
    used: list[dict[str, str]] = []
    known: dict[str, str] = {}
    for name in stages:
        path = run_dir.stage(name).path
        manifest = read_manifest(path)
        if manifest is None:
            raise UsageError(f"{run_dir.path}: stage {name} is not finished", hint="holdfast run -c FILE")
        problems += [f"{path / m.path}: {m.problem}" for m in verify_products(path, manifest)]
        problems += _changed_materials(manifest.materials, known, path.name)
        known |= {f"{name}/{product}": found.digest for product, found in manifest.products.items()}
        used.append(manifest.materials)
        trained = manifest.config.get("train", {}).get("adapter") if name == "train" else None
        if trained not in (None, config.train.adapter):
            raise UsageError(
                f"the adapter of {run_dir.path} was trained as {trained}, but run.yaml now says {config.train.adapter}",
                hint="holdfast run -c FILE brings the run up to date",
            )
    problems += base_model_changes(config, used)
    if problems:
        raise IntegrityError("refusing to measure: " + "; ".join(problems), hint=f"holdfast check {run_dir.path}")


def read_task_and_items(data: Path, config: RunConfig, task_file: Path) -> tuple[Any, str | None, list[Any]]:
    """(task, score to compare by or None, items) of a file of rows, or of a task file (YAML)."""
    from holdfast.evaluate.task_files import is_task_file, read_task_file
    from holdfast.evaluate.tasks import read_task

    if not is_task_file(data):
        return read_task(task_file), None, read_items(data, config)
    found = read_task_file(data)
    if found.examples is not None:
        return found.task, found.primary, found.examples
    prompt = config.collect.system_prompt if found.system_prompt is None else found.system_prompt
    asked = config.model_copy(update={"collect": config.collect.model_copy(update={"system_prompt": prompt})})
    return found.task, found.primary, read_items(found.data, asked)


def read_items(data: Path, config: RunConfig) -> list[Any]:
    """Read a file of items as `collect` would, with the run's system prompt. Raises ContractError, UsageError."""
    from holdfast.sources.conversation import with_system_prompt
    from holdfast.sources.readers import defects_error, read_file

    if not data.is_file():
        raise UsageError(f"there is no file {data}")
    reading = read_file(data, data.name)
    if reading.defects:
        raise defects_error(reading.defects, len(reading.examples) + len(reading.defects))
    return [with_system_prompt(example, config.collect.system_prompt) for example in reading.examples]


def serve(
    folder: Path, console: Console, *, host: str | None, port: int | None, api_key_file: Path | None, quant: str | None
) -> int:
    """Serve the deployed model until a signal comes."""
    from holdfast.serve import launch

    config = RunDir(folder).read_config().serve
    launch.serve(
        folder,
        host=host or config.host,
        port=config.port if port is None else port,
        api_key_file=api_key_file,
        quant=quant,
        console=console,
    )
    return 0


def ask(folder: Path, text: str, console: Console, *, quant: str | None) -> int:
    """One answer of the deployed model."""
    from holdfast.serve import launch

    reply = launch.ask(folder, text, quant=quant, console=console)
    console.result({"text": reply.text, "tokens": reply.tokens, "stopped": reply.stopped}, reply.text)
    return 0
