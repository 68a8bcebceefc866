"""The verdict of a run, as long as it is about what lies in the run folder now."""

from holdfast.core.documents import read_json
from holdfast.core.manifest import looks_changed, read_manifest
from holdfast.core.rundir import RunDir
from holdfast.pipeline import STAGES


def current_verdict(run_dir: RunDir) -> str | None:
    """The verdict; None when the run was not decided, when a stage was begun or made anew since, or when the decision
    or the file to be deployed was changed.

    A stage that fails leaves the decision of an earlier run behind: it is about other files, and counts for nothing.
    """
    made: dict[str, str] = {}
    decided = run_dir.stage("decide").path
    for stage in STAGES:
        manifest = read_manifest(run_dir.stage(stage.name).path)
        if manifest is None or any(made.get(name, digest) != digest for name, digest in manifest.materials.items()):
            return None
        made |= {f"{stage.name}/{name}": product.digest for name, product in manifest.products.items()}
    ladder = read_json(run_dir.stage("verify").path / "ladder.json")
    named = run_dir.read_config().verify.deploy
    file = next(
        (r["file"] for r in ladder["rungs"] if r["rung"] == (ladder["deploy"] if named == "auto" else named)), ""
    )
    changed = looks_changed(run_dir.stage("export").path, file), looks_changed(decided, "decision.json")
    return None if any(changed) else str(read_json(decided / "decision.json")["verdict"])
