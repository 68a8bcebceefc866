"""A signal in the middle of a step: the state after the step before is saved, and the same training goes on from it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from holdfast import models
from holdfast.core.console import Console
from holdfast.core.errors import Interrupted
from holdfast.train import trainer as training
from holdfast.train.checkpoints import is_whole, newest_whole_checkpoint
from holdfast.train.stop import StopRequest
from short_training import adapter_digest, resumed, short_job, talks, tiny_base, train_short

NOISY = {"lora_dropout": 0.2, "neftune_noise_alpha": 5}  # what is drawn after the stop must be what was drawn


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "model")


def send_in(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> list[int]:
    """Send a signal in the first micro-batch of a step; the list counts micro-batches after it."""
    after: list[int] = []
    before = training.SFTTrainer.training_step

    def training_step(self: Any, *args: Any, **named: Any) -> Any:
        loss = before(self, *args, **named)
        if after:
            after.append(self.state.global_step)
        if self.state.global_step == step - 1 and not after:
            after.append(self.state.global_step)
            os.kill(os.getpid(), number)
        return loss

    monkeypatch.setattr(training.SFTTrainer, "training_step", training_step)
    return after


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_long_step_saves_the_step_before_and_loses_nothing(
    number: signal.Signals, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = short_job(base, rows=2, accumulation=4, max_steps=4, save_steps=100, **NOISY)
    whole = train_short(job, tmp_path / "whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        after = send_in(patch, 3, number)
        with pytest.raises(Interrupted):
            train_short(job, tmp_path / "stopped")
    assert len(after) == 1, "no further micro-batch"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert newest_whole_checkpoint(tmp_path / "stopped") == tmp_path / "stopped" / "checkpoint-2"
    again = resumed(job, tmp_path / "stopped" / "checkpoint-2", tmp_path / "again")
    assert adapter_digest(again, tmp_path / "again") == adapter_digest(whole, tmp_path / "whole")


def test_a_signal_at_the_end_of_a_step_saves_that_step(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_in(monkeypatch, 3, signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_short(short_job(base, max_steps=6, save_steps=100), tmp_path)
    assert is_whole(tmp_path / "checkpoint-3")


def test_a_signal_before_the_first_step_ends_stops_without_a_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_in(monkeypatch, 1, signal.SIGINT)
    with pytest.raises(Interrupted):
        train_short(short_job(base, rows=2, accumulation=4, max_steps=4), tmp_path)
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_a_signal_in_the_last_validation_stops_too_and_the_same_command_finds_the_training_finished(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes next may take long: whoever asked for the stop is not made to wait for it."""
    job = short_job(base, max_steps=2, eval_steps=1, save_steps=100)
    valid = talks(models.load_tokenizer(base))[:4]
    whole = train_short(job, tmp_path / "whole", valid)
    before = training.SFTTrainer.prediction_step
    sent: list[int] = []

    def prediction_step(self: Any, *args: Any, **named: Any) -> Any:
        if self.state.global_step == 2 and not sent:
            sent.append(os.getpid())
            os.kill(os.getpid(), signal.SIGTERM)
        return before(self, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training.SFTTrainer, "prediction_step", prediction_step)
        with pytest.raises(Interrupted):
            train_short(job, tmp_path / "stopped", valid)
    assert sent
    again = resumed(job, tmp_path / "stopped" / "checkpoint-2", tmp_path / "again", valid)
    assert adapter_digest(again, tmp_path / "again") == adapter_digest(whole, tmp_path / "whole")


def test_a_stop_removes_no_checkpoint_that_another_process_has_not_marked_yet(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    request = StopRequest()
    training._stop_if_asked(request, tmp_path / "checkpoint-3", Console(quiet=True))
    request.requested = True
    with pytest.raises(Interrupted):
        training._stop_if_asked(request, tmp_path / "checkpoint-3", Console(quiet=True))
    assert (tmp_path / "checkpoint-3").is_dir()
