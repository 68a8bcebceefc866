"""`holdfast compare`: several finished runs that answered the same items."""

from pathlib import Path
from typing import Any

from holdfast.core.console import Console
from holdfast.core.documents import deployed_quantization
from holdfast.core.errors import IntegrityError, UsageError
from holdfast.core.manifest import read_manifest, verify_products
from holdfast.core.measured import refuse_unmeasured
from holdfast.core.records import read_jsonl
from holdfast.core.rundir import RunDir


def compare(folders: list[Path], console: Console, *, deployed: bool, alpha: float) -> int:
    """Rank the runs' tuned (or deployed) models on the primary score of the first run.

    Raises UsageError when a run is not finished or the runs did not answer the same items, IntegrityError when samples
    are not what they were.
    """
    from holdfast.evaluate.compare_runs import rank_runs

    names = list({folder.resolve(): str(folder) for folder in reversed(folders)}.values())[::-1]
    first = RunDir(folders[0])
    metric = first.read_config().decide.primary
    refuse_unmeasured(first, first.read_config(), "evaluate", ("decide.primary",))
    samples = {name: _samples(Path(name), deployed) for name in names}
    ranking = rank_runs(samples, metric, alpha)
    document = {
        "metric": metric,
        "alpha": alpha,
        "deployed": deployed,
        "best": ranking.best,
        "runs": ranking.scores,
        "pairs": [
            {**pair.comparison.document(), "first": pair.first, "second": pair.second, "better": pair.better,
             "p_adjusted": pair.p_adjusted}
            for pair in ranking.pairs
        ],
    }  # fmt: skip
    console.result(document, render(document))
    return 0


def render(document: dict[str, Any]) -> str:
    """The ranking as text: best first, then every pair."""
    lines = [f"{document['metric']} on {document['runs'][0]['n']} items, best first (95 % intervals)"]
    lines += [
        f"  {100 * run['score']:5.1f} %  ({100 * run['low']:.1f} to {100 * run['high']:.1f})  {run['run']}"
        for run in document["runs"]
    ]
    lines.append(f"pairs, corrected for their number ({len(document['pairs'])}): Holm p, Bonferroni intervals")
    for pair in document["pairs"]:
        d = pair["difference"]
        verdict = f"{pair['better']} is better" if pair["better"] else "cannot be told apart"
        won = f"{pair['wins']} won, {pair['losses']} lost, p = {pair['p_adjusted']:.2g}"
        lines.append(
            f"  {pair['second']} - {pair['first']}: {100 * d['estimate']:+z.1f} points ({100 * d['low']:+z.1f} to "
            f"{100 * d['high']:+z.1f}), {won}: {verdict}"
        )
    best = document["best"]
    lines.append(f"best: {best}" if best else "best: none of them is better than all others on these items")
    return "\n".join(lines)


def _samples(folder: Path, deployed: bool) -> list[dict[str, Any]]:
    run_dir = RunDir(folder)
    config = run_dir.read_config()
    stage = "verify" if deployed else "evaluate"
    path = run_dir.stage(stage).path
    manifest = read_manifest(path)
    if manifest is None:
        raise UsageError(f"{folder}: stage {stage} is not finished", hint=f"holdfast run -c FILE --run-dir {folder}")
    if deployed:
        refuse_unmeasured(run_dir, config, stage, ("verify.deploy",))
    name = f"samples-{deployed_quantization(config.verify.deploy, path)}.jsonl" if deployed else "samples.jsonl"
    if any(problem.path == name for problem in verify_products(path, manifest)):
        raise IntegrityError(f"{path / name} is not what its manifest says", hint=f"holdfast check {folder}")
    return [row for _, row in read_jsonl(path / name)]
