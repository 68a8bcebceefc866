"""What would be noticed only after hours of work, or never, is refused before it."""

from collections.abc import Collection
from pathlib import Path

from holdfast import models
from holdfast.core.config import RunConfig
from holdfast.core.errors import ModelError, UsageError
from holdfast.core.rundir import STAGE_NAMES, RunDir
from holdfast.core.weight_files import require_whole_weights
from holdfast.export.checkpoint import read_checkpoint
from holdfast.export.vocabulary import read_object, read_vocabulary
from holdfast.plan.weights import require_weights_of_config
from holdfast.redact.digests import DIGESTS_FILE, read_masked

LOOKS_FOR_MASKED = "evaluate"  # the stage that needs the key of what `collect` masked


def refuse_in_vain(wanted: Collection[str], forced: Collection[str], config: RunConfig, *, needs_base: bool) -> None:
    """Before anything is written. wanted: stages in their order; forced: those of `--from`.

    Raises UsageError, ModelError for a base model without whole weights, or whose weights are not those of its
    config.json, or that export could not convert (needs_base: a wanted stage uses it).
    """
    if forced and not set(forced) & set(wanted):
        raise UsageError(f"--from begins after --until {list(wanted)[-1]}: nothing would be done again")
    if needs_base:
        folder = models.find_base_model(config.base_model)
        require_whole_weights(folder)
        if "baseline" in wanted:
            require_weights_of_config(folder)
        if "export" in wanted:
            _require_convertible(folder)


def _require_convertible(folder: Path) -> None:
    read_object(folder / "tokenizer.json")
    try:
        read_vocabulary(folder, read_checkpoint(folder).vocab_size)
    except ModelError as error:
        hint = f"{error.hint or 'use another base model'}; only export needs this: --until evaluate goes without it"
        raise ModelError(error.message, hint=hint) from None


def refuse_without_key(stage: str, wanted: Collection[str], config: RunConfig, run_dir: RunDir) -> None:
    """Before a stage does work that `evaluate` is to judge: KeyFileError when values were masked with a key that is not
    here. `collect` itself has the key or makes it; what is up to date needs none."""
    if stage == STAGE_NAMES[0] or LOOKS_FOR_MASKED not in wanted:
        return
    digests = run_dir.stage(STAGE_NAMES[0]).path / DIGESTS_FILE
    if STAGE_NAMES.index(stage) <= STAGE_NAMES.index(LOOKS_FOR_MASKED) and digests.is_file():
        key_file = config.redact.pseudonym_key_file
        read_masked(digests, Path(key_file) if key_file else None)
