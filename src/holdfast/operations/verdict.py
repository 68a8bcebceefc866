"""The verdict of a run, as long as it is about what lies in the run folder now."""

from holdfast.core.digest import digest_file
from holdfast.core.documents import deployed_quantization, read_json
from holdfast.core.errors import IntegrityError
from holdfast.core.manifest import looks_changed, read_manifest
from holdfast.core.rundir import RunDir
from holdfast.pipeline import STAGES


def current_verdict(run_dir: RunDir) -> str | None:
    """The verdict; None when the run was not decided, when a stage was begun or made anew since, or when the file to be
    deployed was changed.

    A stage that fails leaves the decision of an earlier run behind: it is about other files, and counts for nothing.
    Raises IntegrityError when decision.json is not what the stage wrote.
    """
    made: dict[str, str] = {}
    for stage in STAGES:
        manifest = read_manifest(run_dir.stage(stage.name).path)
        if manifest is None or any(made.get(name, digest) != digest for name, digest in manifest.materials.items()):
            return None
        made |= {f"{stage.name}/{name}": product.digest for name, product in manifest.products.items()}
    decision = run_dir.stage("decide").path / "decision.json"
    verdict = str(read_json(decision)["verdict"])
    if digest_file(decision) != made["decide/decision.json"]:
        raise IntegrityError(f"{decision} is not what stage decide wrote", hint=f"holdfast check {run_dir.path}")
    config = run_dir.read_config()
    deployed = deployed_quantization(config.verify.deploy, run_dir.stage("verify").path)
    changed = looks_changed(run_dir.stage("export").path, f"{config.name}-{deployed}.gguf")
    return None if changed else verdict
