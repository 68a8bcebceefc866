"""Stage `train`: a LoRA adapter from train.jsonl, resumable at any moment."""

from pathlib import Path

from holdfast import models
from holdfast.core.context import StageContext
from holdfast.core.documents import read_json
from holdfast.core.records import read_examples
from holdfast.train.checkpoints import newest_whole_checkpoint
from holdfast.train.targets import check_target_modules


def run(context: StageContext) -> None:
    """Train and write adapter/, checkpoints, logs/ (TensorBoard), trainer_log.jsonl, losses.json, training.json and
    training_loss.png."""
    config = context.config
    base = models.find_base_model(config.base_model)
    check_target_modules(base, config.train)
    settings = read_json(context.inputs["plan"] / "settings.json")
    tokenizer = models.load_tokenizer(base)
    rows = {
        split: [models.encode_example(tokenizer, e.messages) for e in read_examples(_file(context, split))]
        for split in ("train", "valid")
    }
    checkpoint = newest_whole_checkpoint(context.out.path)
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
        micro_batch_size=int(settings["micro_batch_size"]),
        gradient_accumulation_steps=int(settings["gradient_accumulation_steps"]),
        checkpoint=checkpoint,
        policy=read_policy(settings["recompute"]) if settings.get("recompute") else None,
    )
    result = fine_tune(
        job, tokenizer, rows["train"], rows["valid"], context.out.path, context.console, context.run_dir.journal
    )
    with context.out.writing("adapter") as folder:
        result.save_adapter(folder, config.base_model)
    context.out.write_jsonl("trainer_log.jsonl", result.log)
    context.out.write_json("training.json", result.summary)
    context.out.write_json("losses.json", result.validation())  # without times: what `decide` reads stays the same
    with context.out.writing("training_loss.png") as picture:
        draw_losses(result.log, picture)


def _file(context: StageContext, split: str) -> Path:
    return context.inputs["prepare"] / f"{split}.jsonl"
