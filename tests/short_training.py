"""Trainings of a second or two: a tiny random model (or pebble) and rows of a few tokens. Used by integration tests."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from holdfast import models
from holdfast.core.config import TrainConfig
from holdfast.core.console import Console
from holdfast.core.digest import digest_file
from holdfast.core.records import Message
from holdfast.models import TrainingTokens
from holdfast.train import trainer as training
from tiny_checkpoint import make_checkpoint

LETTERS = "abcdefghijklmnopqrstuvwx"


def talks(tokenizer: Any, letters: str = LETTERS, answer: str = "{c} {c}") -> list[TrainingTokens]:
    """One conversation for each letter."""
    return [
        models.encode_example(
            tokenizer,
            [Message(role="user", content=f"say {c} twice"), Message(role="assistant", content=answer.format(c=c))],
        )
        for c in letters
    ]


def tiny_base(folder: Path) -> Path:
    """A random qwen2 of two layers."""
    return make_checkpoint(folder, "qwen2", hidden=64, layers=2, tied=True, dtype="F32")


def short_job(base: Path, *, checkpoint: Path | None = None, rows: int = 4, accumulation: int = 1,
              **train: Any) -> training.Job:  # fmt: skip
    """A job with small steps; `train` are keys of the configuration."""
    settings: dict[str, Any] = {
        "adapter": "lora", "lora_r": 4, "max_steps": 6, "learning_rate": 1e-2, "sample_packing": False,
        "gradient_checkpointing": False, "logging_steps": 1, "save_steps": 2, "save_total_limit": 9,
        "lr_scheduler": "constant",
    }  # fmt: skip
    config = TrainConfig.model_validate(settings | train)
    return training.Job(base, config, 64, 7, rows, accumulation, checkpoint)


def train_short(job: training.Job, folder: Path, valid: list[TrainingTokens] | None = None, **named: Any) -> Any:
    """Train on the letters; returns the Result."""
    tokenizer = models.load_tokenizer(job.base)
    return training.fine_tune(job, tokenizer, talks(tokenizer), valid or [], folder, Console(quiet=True), **named)


def resumed(job: training.Job, checkpoint: Path, folder: Path, valid: list[TrainingTokens] | None = None) -> Any:
    """The same training in another folder, from a checkpoint of the first one that is copied into it."""
    there = shutil.copytree(checkpoint, folder / checkpoint.name)
    return train_short(replace(job, checkpoint=there), folder, valid)


def adapter_digest(result: Any, folder: Path) -> str:
    """What two equal trainings share."""
    result.save_adapter(folder / "adapter", "base")
    return digest_file(folder / "adapter" / "adapter_model.safetensors")
