"""What would be noticed only after hours of work, or never, is refused before it."""

from collections.abc import Collection, Sequence
from pathlib import Path

from holdfast import models
from holdfast.core.config import RunConfig
from holdfast.core.errors import IntegrityError, ModelError, UsageError
from holdfast.core.manifest import Mismatch
from holdfast.core.rundir import STAGE_NAMES, RunDir
from holdfast.core.weight_files import require_whole_weights
from holdfast.evaluate.scorers import require_score
from holdfast.evaluate.tasks import read_task
from holdfast.evaluate.verify import check_context
from holdfast.export.checkpoint import read_checkpoint
from holdfast.export.vocabulary import read_object, read_vocabulary
from holdfast.plan.weights import require_weights_of_config
from holdfast.redact.digests import DIGESTS_FILE, read_masked
from holdfast.rehearsal import rehearse

REHEARSED_BEFORE = ("baseline", "train")
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
        hint = error.hint or "use another base model"
        more = "; only export needs this: holdfast evaluate -c FILE goes without it"
        raise ModelError(error.message, hint=hint + more) from None


def refuse_before(stage: str, wanted: Collection[str], config: RunConfig, run_dir: RunDir) -> None:
    """Before the folder of a stage is made empty. Raises what `refuse_without_key` raises, ConfigError when answers do
    not get the score `decide.primary`: finished answers must not go for a word that is spelled wrong; ModelError when
    the server would not read what training writes, StageError when a test prompt does not fit its context."""
    refuse_without_key(stage, wanted, config, run_dir)
    if stage in REHEARSED_BEFORE and "verify" in wanted:
        items = run_dir.stage("prepare").path / "test.jsonl"
        check_context(config, [rehearse(models.find_base_model(config.base_model), items)])
    task = run_dir.stage("prepare").path / "task.json"
    if stage == "evaluate" and task.is_file():
        require_score(read_task(task), config.decide.primary)


def refuse_without_key(stage: str, wanted: Collection[str], config: RunConfig, run_dir: RunDir) -> None:
    """Before a stage does work that `evaluate` is to judge: KeyFileError when values were masked with a key that is not
    here. `collect` itself has the key or makes it; what is up to date needs none."""
    if stage == STAGE_NAMES[0] or LOOKS_FOR_MASKED not in wanted:
        return
    digests = run_dir.stage(STAGE_NAMES[0]).path / DIGESTS_FILE
    if STAGE_NAMES.index(stage) <= STAGE_NAMES.index(LOOKS_FOR_MASKED) and digests.is_file():
        key_file = config.redact.pseudonym_key_file
        read_masked(digests, Path(key_file) if key_file else None)


def refuse_added_files(folder: Path, problems: Sequence[Mismatch]) -> None:
    """IntegrityError when every product of a finished stage is whole and files were added to them: to make the stage
    again would cost its hours for nothing, and remove files that holdfast did not write."""
    if not problems or any(mismatch.problem != "unexpected" for mismatch in problems):
        return
    names = ", ".join(mismatch.path for mismatch in problems[:3]) + (", …" if len(problems) > 3 else "")
    raise IntegrityError(
        f"{folder} holds {len(problems)} file{'s' if len(problems) > 1 else ''} that the stage did not make: {names}; "
        "its own products are whole",
        hint="move what was added somewhere else and repeat the command; "
        f"holdfast run -c FILE --from {folder.name[3:]} removes it and does the stage again",
    )
