"""Is the proof of a decision still there? What is served was measured against a baseline: both must be what they were.

Read are the manifests of all stages that the decision rests on, and the files that it was made from (answers, results,
ladder: small). Not read again are files that neither decide nor are served: rows, adapter, merged model. `check` does.
"""

from collections.abc import Iterator

from holdfast.core.digest import digest_file
from holdfast.core.errors import IntegrityError
from holdfast.core.manifest import Manifest, read_manifest
from holdfast.core.rundir import STAGE_NAMES, RunDir


def require_proven(run: RunDir) -> None:
    """Raise IntegrityError when a stage that the decision rests on is gone, was begun again or made anew since, or when
    a file that decided is not what it was."""
    manifests: dict[str, Manifest] = {}
    wanted = ["decide"]
    while wanted:
        name = wanted.pop()
        manifest = read_manifest(run.stage(name).path)
        if manifest is None:
            raise IntegrityError(
                f"the decision of {run.path} rests on stage {name}, but {run.stage(name).path.name} is not finished: "
                "it was removed or begun again, so nothing shows now that the model is better",
                hint=_next(run),
            )
        manifests[name] = manifest
        wanted += {stage for stage, _, _ in _used(manifest)} - manifests.keys() - set(wanted)
    for name, manifest in manifests.items():
        for stage, path, digest in _used(manifest):
            product = manifests[stage].products.get(path)
            if product is None or product.digest != digest:
                raise IntegrityError(
                    f"the decision of {run.path} is about other files: {name} was made from another {stage}/{path} "
                    "than the one that is there now",
                    hint=_next(run),
                )
    for stage, path, digest in _used(manifests["decide"]):
        file = run.stage(stage).path / path
        if not file.is_file() or digest_file(file) != digest:
            raise IntegrityError(
                f"{file} is {'not what it was when' if file.is_file() else 'gone, from which'} {run.path} was decided",
                hint=_next(run),
            )


def _used(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """(stage, path of the product, digest) of the materials that earlier stages made."""
    for name, digest in manifest.materials.items():
        stage, _, path = name.partition("/")
        if stage in STAGE_NAMES:
            yield stage, path, digest


def _next(run: RunDir) -> str:
    owner = run.owner()
    return (
        f"process {owner} works in this run now; holdfast status {run.path} shows when it has decided"
        if owner is not None
        else f"holdfast status {run.path} shows what is missing; holdfast run -c FILE makes it again"
    )
