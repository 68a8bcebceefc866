"""Values that a stage was made with against those that run.yaml names now.

run.yaml is written when a run begins: after one that stopped early it names values that no later stage has seen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.core.errors import UsageError
from holdfast.core.manifest import read_manifest
from holdfast.core.rundir import RunDir

SERVED = ("name", "verify.deploy", "verify.n_ctx", "verify.threads", "evaluate.max_new_tokens")
_ABSENT = object()


def refuse_unmeasured(run: RunDir, config: RunConfig, stage: str, keys: Sequence[str]) -> None:
    """Raise UsageError when the finished `stage` was made with another value of one of `keys` (`verify.n_ctx`).

    Keys that its manifest does not know, and a stage that is not finished, are not judged.
    """
    folder = run.stage(stage).path
    manifest = read_manifest(folder)
    if manifest is None:
        return
    now = config.model_dump(mode="json")
    pairs = [(key, _value(manifest.config, key), _value(now, key)) for key in keys]
    other = [
        f"run.yaml says {key} {new}, but {folder.name} was made with {made}"
        for key, made, new in pairs
        if made is not _ABSENT and made != new
    ]
    if other:
        raise UsageError(
            f"{run.path}: {'; '.join(other)}: what was measured is not what would be used",
            hint="holdfast run -c FILE measures with the values of FILE, or takes the measured ones back",
        )


def _value(document: Mapping[str, Any], key: str) -> Any:
    """A key of the configuration: under its own name (a stage may use one key alone), else inside its section."""
    if key in document:
        return document[key]
    section, _, rest = key.partition(".")
    inner = document.get(section)
    return inner.get(rest, _ABSENT) if rest and isinstance(inner, Mapping) else _ABSENT
