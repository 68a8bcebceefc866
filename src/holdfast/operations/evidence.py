"""More from a finished run's answers: `rescore` (new scores for stored answers) and `export-eval` (out to lm_eval)."""

import shlex
from pathlib import Path
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.documents import read_json
from holdfast.core.errors import IntegrityError, UsageError
from holdfast.core.files import atomic_path, require_new_folder
from holdfast.core.manifest import read_manifest, verify_products
from holdfast.core.measured import refuse_unmeasured
from holdfast.core.records import jsonl_bytes, read_examples
from holdfast.core.rundir import RunDir
from holdfast.pipeline import select_config


def rescore(
    folder: Path, contract: Path | None, primary: str | None, out: Path | None, console: Console
) -> int:  # fmt: skip
    """Score the stored answers of a run again, with another contract or with changed scorers; no model is asked.

    Writes to `out` when given; the run itself stays as it is, and so does what may be served. The exit code is that of
    the new verdict. Raises UsageError, IntegrityError, ContractError, ConfigError.
    """
    from holdfast.dataset.contract import describe_task, read_contract
    from holdfast.evaluate.rescore import rescore_run
    from holdfast.evaluate.tasks import Task, read_task

    if out is not None:
        require_new_folder(out)
    run_dir = RunDir(folder)
    config = run_dir.read_config()
    if primary is not None:
        config = config.model_copy(update={"decide": config.decide.model_copy(update={"primary": primary})})
    folders = _finished(run_dir, ("prepare", "baseline", "evaluate"), ("verify", "train"))
    task = read_task(folders["prepare"] / "task.json")
    if contract is not None:
        described = describe_task(read_contract(contract), config.name, ())
        kept = {"knowledge": task.knowledge}
        task = Task.model_validate({**described, "system_prompt": task.system_prompt}).model_copy(update=kept)
    documents = rescore_run(config, folders, task)
    if out is not None:
        _write(out, documents)
    decision = _decide(config, folders, documents) if "verify" in folders else None
    summary = _summary(folder, task.task, config, folders, documents, decision)
    console.result(summary, _render(summary, out))
    return int(summary["exit_code"])


def export_eval(folder: Path, to: Path, console: Console) -> int:
    """Write the run's test items as a task of lm-evaluation-harness. Raises UsageError, ContractError."""
    from holdfast.evaluate.lm_eval import export_task
    from holdfast.evaluate.tasks import read_task

    run_dir = RunDir(folder)
    config = run_dir.read_config()
    refuse_unmeasured(run_dir, config, "evaluate", ("evaluate.max_new_tokens",))
    prepared = _finished(run_dir, ("prepare",), ())["prepare"]
    task = read_task(prepared / "task.json")
    name = f"holdfast_{config.name}".replace("-", "_").replace(".", "_")
    items = read_examples(prepared / "test.jsonl")
    document = export_task(to, name, task, items, config.evaluate.max_new_tokens) | {"items": len(items)}
    if task.scorers:
        names = ", ".join(scorer.score for scorer in task.scorers)
        console.warn(f"lm_eval will not compute the contract's own scorers ({names})")
    serve = f"holdfast serve {shlex.quote(str(folder))} --host 127.0.0.1 --port 8080"  # where the command asks
    text = f"{len(items)} items in {to}\n  {serve}\n  {document['command']}"
    console.result(document, text)
    return 0


def _finished(run_dir: RunDir, needed: tuple[str, ...], more: tuple[str, ...]) -> dict[str, Path]:
    """Folders of finished stages whose products are what their manifests say."""
    found = {}
    for name in (*needed, *more):
        path = run_dir.stage(name).path
        manifest = read_manifest(path)
        if manifest is None:
            if name in needed:
                raise UsageError(f"{run_dir.path}: stage {name} is not finished", hint="holdfast run -c FILE")
            continue
        if problems := verify_products(path, manifest):
            listed = "; ".join(f"{path / m.path}: {m.problem}" for m in problems[:3])
            raise IntegrityError(f"refusing to score: {listed}", hint=f"holdfast check {run_dir.path}")
        found[name] = path
    return found


def _write(out: Path, documents: dict[str, Any]) -> None:
    import json

    with atomic_path(out) as folder:
        for name, document in documents.items():
            rows = isinstance(document, list)
            text = b"" if rows else (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(jsonl_bytes(document) if rows else text)


def _decide(config: RunConfig, folders: dict[str, Path], documents: dict[str, Any]) -> Any:
    from holdfast import decide

    ladder, parity = documents["verify/ladder.json"], read_json(folders["verify"] / "parity.json")
    deployed = next(rung for rung in ladder["rungs"] if rung["rung"] == ladder["deploy"])
    evaluate = folders["evaluate"]
    forgetting = evaluate / "forgetting.json"
    losses = read_json(folders["train"] / "losses.json")["valid"] if "train" in folders else ()
    return decide.decide(
        documents["baseline/results.json"], documents["evaluate/results.json"], deployed,
        documents["evaluate/comparison.json"], config.decide, parity=parity, rungs=ladder["rungs"],
        forgetting=read_json(forgetting) if forgetting.is_file() else None,
        more=decide.more_gates(config, evaluate, documents["evaluate/slices.json"], deployed), losses=losses,
    )  # fmt: skip


def _summary(
    folder: Path, task: str, config: RunConfig, folders: dict[str, Path], documents: dict[str, Any], decision: Any
) -> dict[str, Any]:
    comparison = documents["evaluate/comparison.json"]
    before, after = documents["baseline/results.json"], documents["evaluate/results.json"]
    was = {name: read_json(folders[name] / "results.json") for name in ("baseline", "evaluate")}
    return {
        "run_dir": str(folder), "task": task, "gates": select_config(config, ("decide",))["decide"],
        "scores": {
            name: {"baseline": before[name], "tuned": after[name], "baseline_before": was["baseline"].get(name),
                   "tuned_before": was["evaluate"].get(name)}
            for name in after["intervals"]
        },
        "comparison": {key: value for key, value in comparison.items() if key != "rows"},
        "verdict": decision.verdict if decision else None,
        "reasons": list(decision.reasons) if decision else [],
        "exit_code": decision.exit_code if decision else 0,
    }  # fmt: skip


def _render(summary: dict[str, Any], out: Path | None) -> str:
    def percent(share: float | None) -> str:
        return "     new" if share is None else f"{100 * share:6.1f} %"

    lines = [f"{'':18}{'baseline':>20}{'tuned':>20}", f"{'':18}{'was':>10}{'is':>10}{'was':>10}{'is':>10}"]
    lines += [
        f"{name:18}{percent(s['baseline_before']):>10}{percent(s['baseline']):>10}{percent(s['tuned_before']):>10}"
        f"{percent(s['tuned']):>10}"
        for name, s in summary["scores"].items()
    ]
    verdict = summary["verdict"] or "none: verify is not finished"
    lines.append(f"verdict with these scores: {verdict}")
    lines += [f"  {reason}" for reason in summary["reasons"]]
    where = f"written to {out}; " if out else ""
    lines.append(f"{where}the run and what it serves stay as they were; holdfast run -c FILE makes it binding")
    return "\n".join(lines)
