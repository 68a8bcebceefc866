"""Stage `train`: a LoRA adapter from train.jsonl, resumable at any moment."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import models
from holdfast.core.context import StageContext
from holdfast.core.documents import read_json
from holdfast.core.errors import StageError
from holdfast.core.records import read_examples
from holdfast.train.checkpoints import newest_whole_checkpoint
from holdfast.train.processes import Share, process_count, train_together
from holdfast.train.targets import check_target_modules

if TYPE_CHECKING:
    from holdfast.train.together import Together

FILE = "settings.json"


def run(context: StageContext) -> None:
    """Train and write settings.json, adapter/, checkpoints, logs/ (TensorBoard), trainer_log.jsonl, losses.json,
    training.json and training_loss.png."""
    config = context.config
    check_target_modules(models.find_base_model(config.base_model), config.train)
    checkpoint = newest_whole_checkpoint(context.out.path)
    settings = take_settings(context, resumed=checkpoint is not None)
    share = Share(int(settings["micro_batch_size"]), int(settings["gradient_accumulation_steps"]))
    if process_count(config.train) == 1:
        train_here(context, checkpoint, share)
        return

    def find() -> Path | None:
        return newest_whole_checkpoint(context.out.path)

    train_together(
        context.run_dir.path, config.train, share, find, context.console.say, context.run_dir.journal
    )  # fmt: skip


def take_settings(context: StageContext, *, resumed: bool) -> dict[str, Any]:
    """Those of the plan, kept as settings.json: a later plan may choose others.

    The validation loss is a mean over batches, so that `eval_batch_size` stays what it was when training began: losses
    of two batch sizes cannot be compared, and the best checkpoint and early stopping follow from them. What does not
    fit at once is taken in pieces (validation.py).
    """
    settings = dict(read_json(context.inputs["plan"] / "settings.json"))
    whole = int(settings["micro_batch_size"]) * int(settings["processes"])  # as one process would take it
    settings["eval_batch_size"] = min(context.config.train.micro_batch_size, whole)
    before = context.out.path / FILE
    if resumed and before.is_file():
        settings["eval_batch_size"] = int(read_json(before).get("eval_batch_size", settings["eval_batch_size"]))
    context.out.write_json(FILE, settings)
    return settings


def train_here(
    context: StageContext, checkpoint: Path | None, share: Share, together: "Together | None" = None
) -> None:
    """Train in this process, alone or together with others, with its share of the batch."""
    config = context.config
    base = models.find_base_model(config.base_model)
    settings = read_json(context.out.path / FILE)
    refuse_another_device(settings["device"])
    tokenizer = models.load_tokenizer(base)
    rows = {
        split: [models.encode_example(tokenizer, e.messages) for e in read_examples(_file(context, split))]
        for split in ("train", "valid")
    }
    if checkpoint is not None:
        context.console.say(f"  resuming from {checkpoint.name}")

    from holdfast.train.loss_picture import draw_losses
    from holdfast.train.recompute import read_policy
    from holdfast.train.trainer import Job, fine_tune

    job = Job(
        base=base,
        train=config.train,
        sequence_len=config.sequence_len,
        seed=config.seed,
        micro_batch_size=share.micro_batch_size,
        gradient_accumulation_steps=share.gradient_accumulation_steps,
        checkpoint=checkpoint,
        policy=read_policy(settings["recompute"]) if settings.get("recompute") else None,
        eval_batch_size=int(settings["eval_batch_size"]),
    )
    result = fine_tune(
        job, tokenizer, rows["train"], rows["valid"], context.out.path, context.console, context.run_dir.journal,
        together,
    )  # fmt: skip
    if together is not None and not together.main:
        return
    with context.out.writing("adapter") as folder:
        result.save_adapter(folder, config.base_model)
    context.out.write_jsonl("trainer_log.jsonl", result.log)
    context.out.write_json("training.json", result.summary)
    context.out.write_json("losses.json", result.validation())  # without times: what `decide` reads stays the same
    with context.out.writing("training_loss.png") as picture:
        draw_losses(result.log, picture)


def refuse_another_device(planned: str) -> None:
    """Raise StageError when torch finds another device here than the one that the batch was planned for."""
    found = models.device_name()
    if found != planned:
        raise StageError(
            f"the run was planned for {planned} (03-plan/settings.json), but torch would train on {found} here",
            hint="holdfast run -c FILE --from plan plans for this machine; plan.gpu: cpu keeps it to the CPU",
        )


def _file(context: StageContext, split: str) -> Path:
    return context.inputs["prepare"] / f"{split}.jsonl"
