"""Memory that ends, a loss that breaks, a checkpoint that rots: what training does then. Faults are injected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast import models
from holdfast.core.config import TrainConfig
from holdfast.core.console import Console
from holdfast.core.errors import DoesNotFitError, StageError
from holdfast.core.records import Message
from holdfast.models import TrainingTokens
from holdfast.train import trainer as training
from holdfast.train.checkpoints import MARK, is_whole, keep_newest, mark_complete, newest_whole_checkpoint
from holdfast.train.guard import rows_of
from small_run import PEBBLE

LETTERS = "abcdefghijklmnopqrstuvwx"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return models.load_tokenizer(PEBBLE)


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> list[TrainingTokens]:
    return [
        models.encode_example(
            tokenizer, [Message(role="user", content=f"say {c} twice"), Message(role="assistant", content=f"{c} {c}")]
        )
        for c in LETTERS
    ]


def job(**train: Any) -> training.Job:
    settings: dict[str, Any] = {
        "adapter": "lora", "lora_r": 4, "max_steps": 4, "learning_rate": 1e-3, "sample_packing": False,
        "gradient_checkpointing": False, "logging_steps": 1, "save_steps": 1, "lr_scheduler": "constant",
    }  # fmt: skip
    config = TrainConfig.model_validate(settings | train)
    return training.Job(PEBBLE, config, 64, 7, 4, 1, None)


def break_step(monkeypatch: pytest.MonkeyPatch, action: Callable[[int, dict[str, Any], Any], Any]) -> None:
    """`action(step, inputs, loss)` gives the loss that the trainer sees, or raises."""
    before = training.SFTTrainer.training_step

    def step(self: Any, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        loss = before(self, model, dict(inputs), *args, **named)
        return action(self.state.global_step + 1, inputs, loss)

    monkeypatch.setattr(training.SFTTrainer, "training_step", step)


def fine_tune(job: training.Job, tokenizer: Any, rows: list[TrainingTokens], folder: Path, journal: Any = None) -> Any:
    return training.fine_tune(job, tokenizer, rows, [], folder, Console(), journal)


def test_out_of_memory_goes_on_with_half_the_rows_and_the_same_batches(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Any, rows: list[TrainingTokens], tmp_path: Path
) -> None:
    want = fine_tune(job(), tokenizer, rows, tmp_path / "plain")
    events = []

    def starve(step: int, inputs: Any, loss: Any) -> Any:
        if step == 3 and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return loss

    break_step(monkeypatch, starve)
    got = fine_tune(job(), tokenizer, rows, tmp_path / "starved", lambda event, **named: events.append((event, named)))
    assert (got.summary["micro_batch_size"], got.summary["gradient_accumulation_steps"]) == (2, 2)
    assert got.summary["steps"] == want.summary["steps"] == 4
    assert [(event, named["step"]) for event, named in events] == [("out_of_memory", 3)]
    assert got.summary["out_of_memory"][0]["why"] == "CUDA out of memory. Tried to allocate 2.00 GiB."
    losses = [[entry["loss"] for entry in result.log if "loss" in entry][-2:] for result in (want, got)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3), "the same rows in the same steps"
    assert got.summary["last_loss"] < got.summary["first_loss"]


@pytest.mark.parametrize(("failing", "updates"), [(1, 5), (4, 6)])  # checkpoints are after 2 and 4
def test_out_of_memory_in_the_middle_of_an_update_goes_on_from_whole_weights(
    failing: int,
    updates: int,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: Any,
    rows: list[TrainingTokens],
    tmp_path: Path,
) -> None:
    def starve(step: int, inputs: Any, loss: Any) -> Any:
        if step == failing and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    def half(self: Any, closure: Any = None) -> Any:
        calls.append(1)
        if len(calls) != failing:
            return update(self, closure)
        for parameter in self.param_groups[0]["params"][::2]:
            parameter.data += 1
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        break_step(patch, starve)
        want = fine_tune(job(save_steps=2), tokenizer, rows, tmp_path / "before")
    calls: list[int] = []
    update = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", half)
    got = fine_tune(job(save_steps=2), tokenizer, rows, tmp_path / "within")
    assert got.summary["out_of_memory"][0]["step"] == failing
    assert len(calls) == updates
    weights = [dict(result.model.named_parameters()) for result in (want, got)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=2e-3) for name in weights[0] if "lora" in name)


def test_out_of_memory_with_one_row_is_exit_21_with_the_figures(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Any, rows: list[TrainingTokens], tmp_path: Path
) -> None:
    def starve(step: int, inputs: Any, loss: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    break_step(monkeypatch, starve)
    with pytest.raises(DoesNotFitError, match=r"step 1 with one row at a time.*Tried to allocate 2.00 GiB") as caught:
        fine_tune(job(), tokenizer, rows, tmp_path)
    assert caught.value.exit_code == 21


@pytest.mark.parametrize("packed", [False, True])
def test_a_loss_that_is_no_number_names_step_rows_and_the_last_good_checkpoint(
    packed: bool, monkeypatch: pytest.MonkeyPatch, tokenizer: Any, rows: list[TrainingTokens], tmp_path: Path
) -> None:
    seen: list[int] = []

    def poison(step: int, inputs: Any, loss: Any) -> Any:
        if step == 3:
            seen.extend(rows_of(inputs, rows))
            return loss * float("nan")
        return loss

    break_step(monkeypatch, poison)
    with pytest.raises(StageError, match="the loss is nan at step 3") as caught:
        fine_tune(job(sample_packing=packed, max_steps=4 if not packed else 3), tokenizer, rows, tmp_path)
    assert seen
    assert "train.jsonl lines " + ", ".join(str(line) for line in seen[:20]) in caught.value.message
    assert "last good checkpoint: checkpoint-2" in caught.value.message
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


@pytest.mark.parametrize("validated", [False, True])
def test_a_last_step_that_breaks_the_weights_is_no_result_and_no_checkpoint(
    validated: bool, monkeypatch: pytest.MonkeyPatch, tokenizer: Any, rows: list[TrainingTokens], tmp_path: Path
) -> None:
    class Broken(torch.optim.AdamW):
        steps = 0

        def step(self, closure: Any = None) -> Any:
            Broken.steps += 1
            super().step(closure)
            if Broken.steps == 3:
                self.param_groups[0]["params"][0].data[0, 0] = float("nan")

    monkeypatch.setattr(training.SFTTrainer, "get_optimizer_cls_and_kwargs", lambda *_: (Broken, {"lr": 1e-3}))
    wanted = job(max_steps=3, eval_steps=3)
    with pytest.raises(StageError, match=r"1 of \d+ adapter tensors hold NaN or Inf after step 3; rows") as caught:
        training.fine_tune(wanted, tokenizer, rows, rows[:4] if validated else [], tmp_path, Console())
    assert "last good checkpoint: checkpoint-2" in caught.value.message
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_a_loss_that_jumps_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Any, rows: list[TrainingTokens], tmp_path: Path
) -> None:
    break_step(monkeypatch, lambda step, inputs, loss: loss * (1 if step != 25 else 50))
    with pytest.raises(StageError, match="the loss jumped to .* at step 25"):
        fine_tune(job(max_steps=30, save_steps=100), tokenizer, rows, tmp_path)


def checkpoints(folder: Path, *steps: int) -> None:
    for step in steps:
        (folder / f"checkpoint-{step}").mkdir()
        (folder / f"checkpoint-{step}" / "weights").write_text(str(step))
        mark_complete(folder / f"checkpoint-{step}")


def test_old_checkpoints_go_only_when_the_newest_is_whole(tmp_path: Path) -> None:
    checkpoints(tmp_path, 1, 2, 3)
    (tmp_path / "checkpoint-3" / "weights").write_text("rot")
    keep_newest(tmp_path, 1)
    assert (tmp_path / "checkpoint-1").exists()
    checkpoints(tmp_path, 4)
    keep_newest(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-4"]


def test_a_rotten_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    checkpoints(tmp_path, 9, 10)
    (tmp_path / "checkpoint-10" / "weights").write_text("rot")
    assert not is_whole(tmp_path / "checkpoint-10")
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    assert (tmp_path / "checkpoint-9" / MARK).exists()
