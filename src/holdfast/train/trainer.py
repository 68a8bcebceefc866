"""The only mapping from our configuration onto TRL, PEFT and bitsandbytes."""

import json
import multiprocessing
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from holdfast import models
from holdfast.core.config import TrainConfig
from holdfast.core.console import Bar, Console
from holdfast.core.errors import Interrupted
from holdfast.models import Tokenizer, TrainingTokens

models.go_offline()

import torch  # noqa: E402 (after go_offline: the libraries read those switches when they are imported)
from datasets import Dataset  # noqa: E402
from datasets.utils.logging import disable_progress_bar  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model_state_dict  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch.utils.tensorboard import SummaryWriter  # noqa: E402
from transformers import PrinterCallback  # noqa: E402
from transformers.integrations import TensorBoardCallback  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

from holdfast.compact import compact  # noqa: E402
from holdfast.train import fast_path  # noqa: E402
from holdfast.train.best import StopOrKeep, keep_what_is_best, take_finished  # noqa: E402
from holdfast.train.callbacks import Watch  # noqa: E402
from holdfast.train.checkpoints import is_whole, newest_whole_checkpoint  # noqa: E402
from holdfast.train.guard import LossGuard  # noqa: E402
from holdfast.train.loraplus import use_loraplus  # noqa: E402
from holdfast.train.meter import Meter  # noqa: E402
from holdfast.train.noise import add_noise  # noqa: E402
from holdfast.train.optimizer import NoWaiting  # noqa: E402
from holdfast.train.processes import process_count  # noqa: E402
from holdfast.train.recompute import Policy  # noqa: E402
from holdfast.train.retry import tell, train_with_retry  # noqa: E402
from holdfast.train.stop import StopRequest, stop_on_signal  # noqa: E402
from holdfast.train.summary import learned_nothing, summarize, total_steps  # noqa: E402
from holdfast.train.together import Agreement, Together, distributed_arguments, same_order  # noqa: E402
from holdfast.train.validation import InPieces  # noqa: E402

LOGS = "logs"


@dataclass(frozen=True)
class Job:
    """One training run. `checkpoint` is where to go on from; `policy` what fused layers recompute (default: all)."""

    base: Path
    train: TrainConfig
    sequence_len: int
    seed: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    checkpoint: Path | None
    policy: Policy | None = None
    eval_batch_size: int | None = None  # default: micro_batch_size

    @property
    def fast(self) -> bool:
        """Whether holdfast's own parts lie under the trainer."""
        return self.train.kernels.use != "never"

    @property
    def sharded(self) -> bool:
        """Whether each process holds only a part of the frozen weights."""
        return self.train.distributed == "fsdp" and process_count(self.train) > 1


@dataclass(frozen=True)
class Result:
    """A finished run."""

    model: PeftModel
    log: list[dict[str, Any]]
    summary: dict[str, Any]

    def validation(self) -> dict[str, Any]:
        """How the validation loss went, up to the step whose adapter is kept, and how many epochs that is."""
        kept = [row for row in self.log if row["step"] <= self.summary["kept_step"]]
        losses = [{"epoch": row["epoch"], "loss": row["eval_loss"]} for row in kept if "eval_loss" in row]
        return {"valid": losses, "epochs": kept[-1]["epoch"]}

    def save_adapter(self, folder: Path, base_model: str) -> None:
        """Write the adapter in PEFT layout; the same weights give the same bytes, wherever the base model lies."""
        folder.mkdir(parents=True)
        document = self.model.peft_config["default"].to_dict()
        document |= {"base_model_name_or_path": base_model, "inference_mode": True}
        document["target_modules"] = sorted(document["target_modules"])  # PEFT keeps a set: its order is random
        text = json.dumps(document, indent=2, sort_keys=True, default=str)
        settings, file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
        settings.write_text(text + "\n")
        weights = {name: w.detach().cpu().contiguous() for name, w in get_peft_model_state_dict(self.model).items()}
        save_file(dict(sorted(weights.items())), file, metadata={"format": "pt"})
        file.chmod(settings.stat().st_mode)  # safetensors lets only the owner read it


def fine_tune(
    job: Job,
    tokenizer: Tokenizer,
    train_rows: list[TrainingTokens],
    valid_rows: list[TrainingTokens],
    folder: Path,
    console: Console,
    journal: Callable[..., None] | None = None,
    together: Together | None = None,
) -> Result:
    """Train an adapter; checkpoints and TensorBoard events go to `folder`, events worth keeping to `journal`.

    together: this process is one of several, with its share of the batch in `job`; the first one alone writes.

    Raises StageError when the loss breaks, DoesNotFitError when memory ends even with one row at a time, Interrupted
    after a signal (a checkpoint was saved then).
    """
    job.train.refuse_without_validation(len(valid_rows))
    disable_progress_bar()
    warnings.filterwarnings(
        "ignore", message=".*(flash.attention|gradient_checkpointing|broadcast_buffers).*", category=Warning
    )
    started = time.monotonic()
    base = models.load_model(job.base, quantization=job.train.quantization, together=False)
    base.config.use_cache = False
    main = together is None or together.main
    with stop_on_signal() as request, SummaryWriter(str(folder / LOGS)) if main else nullcontext() as writer:
        trainer = build_trainer(job, base, tokenizer, train_rows, valid_rows, folder, writer)
        for note in trainer.holdfast_path.notes if job.fast and main else ():
            console.say(f"  {note}")
        stop = request if together is None else StopRequest()
        with console.progress("training", total_steps(trainer)) as bar:
            guard = LossGuard(trainer, train_rows, folder)
            _add_callbacks(trainer, job, guard, bar, request, stop, together)

            def forget() -> None:
                guard.forget()
                if job.fast:
                    trainer.holdfast_path.forget()

            changes: list[dict[str, Any]] = []
            validation = InPieces(trainer, report := partial(tell, console, journal), alone=together is None)
            try:
                if not take_finished(trainer, job.checkpoint, job.train.early_stopping_patience):
                    changes = train_with_retry(
                        trainer, folder, job.checkpoint, forget=forget, check=guard.check_weights, report=report,
                        alone=together is None,
                    )  # fmt: skip
                guard.check_weights()
            finally:  # a checkpoint that a full disk cut off would keep the disk full
                if together is None:
                    newest_whole_checkpoint(folder)
    _stop_if_asked(stop, folder / f"checkpoint-{trainer.state.global_step}", console)
    if main and (nothing := learned_nothing(trainer)):
        console.warn(nothing)
    kept = keep_what_is_best(trainer, job.train, folder, console) if main else trainer.state.global_step
    summary = summarize(trainer, train_rows, time.monotonic() - started, resumed=job.checkpoint is not None)
    summary |= {"kept_step": kept, "out_of_memory": [*changes, *validation.changes]}
    return Result(trainer.model, trainer.state.log_history, summary)


def _add_callbacks(
    trainer: Any,
    job: Job,
    guard: LossGuard,
    bar: Bar,
    request: StopRequest,
    stop: StopRequest,
    together: Together | None,
) -> None:
    """request: a signal came to this process; stop: all processes have agreed on it."""
    meter = Meter(job.train.nproc)
    trainer.add_callback(meter)
    trainer.add_callback(StopOrKeep(job.train))
    if together is not None:
        trainer.add_callback(Agreement(together, request, stop, guard, same_order(trainer, job.seed)))
    if together is None or together.main:
        trainer.add_callback(Watch(bar, stop, guard, meter, job.train))


def build_trainer(
    job: Job,
    base: Any,
    tokenizer: Tokenizer,
    train_rows: list[TrainingTokens],
    valid_rows: list[TrainingTokens],
    folder: Path,
    writer: SummaryWriter | None,
) -> Any:
    """A TRL trainer over rows that we tokenised ourselves, so that what was audited is what is trained."""
    trainer: Any = SFTTrainer(
        model=base,
        args=build_arguments(job, folder, bool(valid_rows)),
        train_dataset=build_dataset(train_rows),
        eval_dataset=build_dataset(valid_rows) if valid_rows else None,
        processing_class=tokenizer,
        peft_config=build_adapter(job.train),
        callbacks=[TensorBoardCallback(writer)] if writer is not None else [],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.create_model_card = lambda *given, **named: None  # TRL's says "fine-tuned from None"; export writes ours
    for parameter in trainer.model.parameters():
        # TRL makes adapter weights of a quantised base bf16, but a resumed run has them in fp32: unequal runs.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if job.train.neftune_noise_alpha is not None:
        add_noise(trainer.model, job.train.neftune_noise_alpha)
    if job.train.loraplus_lr_ratio is not None:
        use_loraplus(trainer, job.train.loraplus_lr_ratio)
    if job.fast:
        trainer.add_callback(NoWaiting())
        trainer.holdfast_path = fast_path.put_under(trainer.model, job.train, job.policy, sharded=job.sharded)
    if job.sharded:
        fast_path.shard_weights(trainer.holdfast_path if job.fast else None, None)
    if torch.cuda.is_available() and job.train.quantization != "none":
        compact(trainer.model)
    return trainer


def build_dataset(rows: list[TrainingTokens]) -> Dataset:
    """Rows with `input_ids` and `labels`, in memory; TRL takes such rows as they are."""
    return Dataset.from_list([row._asdict() for row in rows])


def build_adapter(train: TrainConfig) -> LoraConfig:
    """LoRA as PEFT wants it."""
    targets: str | list[str] = "all-linear" if train.lora_target_linear else list(train.lora_target_modules)
    return LoraConfig(
        r=train.lora_r,
        lora_alpha=train.lora_alpha,
        lora_dropout=train.lora_dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
        use_rslora=train.use_rslora,
        use_dora=train.use_dora,
    )


def build_arguments(job: Job, folder: Path, evaluating: bool) -> SFTConfig:
    """The trainer's arguments. On the CPU everything is fp32: exact resume needs it and bf16 is slower there."""
    train, cuda = job.train, torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=job.micro_batch_size,
        per_device_eval_batch_size=job.eval_batch_size or job.micro_batch_size,
        gradient_accumulation_steps=job.gradient_accumulation_steps,
        num_train_epochs=train.num_epochs,
        max_steps=train.max_steps if train.max_steps > 0 else -1,  # the trainer takes one step for 0
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.lr_scheduler,
        warmup_steps=train.warmup_ratio,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim=train.optimizer,
        max_length=job.sequence_len,
        packing=train.sample_packing,
        packing_strategy="bfd",
        eval_packing=False,
        gradient_checkpointing=train.gradient_checkpointing and not (job.fast and fast_path.can_fuse(train)),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=train.logging_steps,
        logging_nan_inf_filter=False,  # it hides what Watch looks for, and waits for the card in every step
        save_strategy="steps",
        save_steps=train.save_steps,
        save_total_limit=None,  # Watch removes old ones itself, after the newest is known to be whole
        eval_strategy="steps" if evaluating else "no",
        eval_steps=train.eval_steps,
        report_to="none",
        **distributed_arguments(),
        use_cpu=not cuda,
        bf16=cuda,
        dataloader_pin_memory=cuda,
        dataloader_num_workers=_loader_workers(job, cuda=cuda),
        disable_tqdm=True,
        seed=job.seed,
        data_seed=job.seed,
    )
    # With several cards in sight and one process transformers would copy the model to each (DataParallel), which TRL
    # refuses: one process trains on one card, `--nproc` on several.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _loader_workers(job: Job, *, cuda: bool) -> int:
    """One makes the next batch while the card computes; none where it would import torch anew for each evaluation."""
    return 1 if cuda and job.fast and multiprocessing.get_start_method() == "fork" else 0


def _stop_if_asked(request: StopRequest, last: Path, console: Console) -> None:
    """Also after the last step: what comes next may take long, and the same command finds the training finished."""
    if request.requested:
        if is_whole(last):  # nothing is removed: another process may not have marked it yet
            console.say(f"  saved {last.name} before stopping")
        raise Interrupted
