"""Validation when memory is short: in pieces, and the loss is the one of the whole batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast import models
from holdfast.core.config import TrainConfig
from holdfast.core.console import Console
from holdfast.core.errors import DoesNotFitError
from holdfast.core.records import Message
from holdfast.models import TrainingTokens
from holdfast.train import trainer as training
from holdfast.train.validation import count_rows, split_rows
from small_run import PEBBLE

Limit = Callable[[int], None]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return models.load_tokenizer(PEBBLE)


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> list[TrainingTokens]:
    """Answers of unequal length, so that a mean of means is not the mean."""
    talks = [(f"say {'ab' * number}", f"{'ab ' * (number * number)}") for number in range(1, 8)]
    return [
        models.encode_example(tokenizer, [Message(role="user", content=ask), Message(role="assistant", content=answer)])
        for ask, answer in talks
    ]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Lets memory end in every validation of more rows than that; `limit.seen` are the rows of those that passed."""
    before = training.SFTTrainer.prediction_step

    def set_limit(most: int) -> None:
        def step(self: Any, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
            if count_rows(inputs) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
            set_limit.seen.append(count_rows(inputs))  # type: ignore[attr-defined]
            return before(self, model, inputs, *args, **named)

        set_limit.seen = []  # type: ignore[attr-defined]
        monkeypatch.setattr(training.SFTTrainer, "prediction_step", step)

    return set_limit


def train(
    tokenizer: Any, rows: list[TrainingTokens], folder: Path, journal: Any = None, *, packed: bool, **train: Any
) -> Any:
    config = TrainConfig.model_validate({
        "adapter": "lora", "lora_r": 4, "max_steps": 2, "learning_rate": 1e-3, "sample_packing": packed,
        "gradient_checkpointing": False, "logging_steps": 1, "save_steps": 2, "eval_steps": 1,
    } | train)  # fmt: skip
    job = training.Job(PEBBLE, config, 256, 7, 4, 1, None, eval_batch_size=4)
    return training.fine_tune(job, tokenizer, rows, rows, folder, Console(), journal)


def measured(result: Any, name: str) -> list[float]:
    return [entry[name] for entry in result.log if name in entry]


@pytest.mark.parametrize(("packed", "kernels"), [(False, "auto"), (True, "auto"), (False, "never")])
@pytest.mark.parametrize(("most", "halved", "pieces"), [(3, [2], [2, 2, 2, 1]), (1, [2, 1], [1] * 7)])
def test_memory_that_ends_leaves_the_loss_as_it_was(
    packed: bool, kernels: str, most: int, halved: list[int], pieces: list[int], tokenizer: Any,
    rows: list[TrainingTokens], tmp_path: Path, limit: Any, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    events: list[tuple[str, dict[str, Any]]] = []
    want = train(tokenizer, rows, tmp_path / "whole", packed=packed, kernels={"use": kernels})
    limit(most)
    got = train(
        tokenizer,
        rows,
        tmp_path / "short",
        lambda name, **told: events.append((name, told)),
        packed=packed,
        kernels={"use": kernels},
    )
    assert limit.seen[-len(pieces) :] == pieces
    told = [("out_of_memory", 1, number) for number in halved]
    assert [(name, change["step"], change["validation_rows"]) for name, change in events] == told
    assert [change["validation_rows"] for change in got.summary["out_of_memory"]] == halved
    assert "in the validation after step 1: going on with rows at once: 2" in capsys.readouterr().err
    assert got.summary["valid_losses"] == pytest.approx(want.summary["valid_losses"], rel=1e-5)
    assert len(want.summary["valid_losses"]) == 2
    for name in ("eval_entropy", "eval_mean_token_accuracy"):
        assert measured(got, name) == pytest.approx(measured(want, name), rel=1e-4)


def test_one_row_that_is_too_much_is_exit_21_with_the_figures(
    tokenizer: Any, rows: list[TrainingTokens], tmp_path: Path, limit: Limit
) -> None:
    limit(0)
    with pytest.raises(DoesNotFitError, match=r"validation after step 1 .*one row at a time.*allocate 2.00 GiB"):
        train(tokenizer, rows, tmp_path, packed=False)


def test_rows_that_lie_in_one_row_are_cut_where_a_document_begins() -> None:
    batch = {
        "input_ids": torch.arange(9)[None], "labels": torch.arange(9)[None],
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 0, 0, 1, 2]]),
        "seq_idx": torch.tensor([[0, 0, 0, 1, 1, 2, 3, 3, 3]]),
        "cu_seq_lens_q": torch.tensor([0, 3, 5, 6, 9]), "cu_seq_lens_k": torch.tensor([0, 3, 5, 6, 9]),
        "max_length_q": 3, "max_length_k": 3,
    }  # fmt: skip
    assert count_rows(batch) == 4
    _, piece = split_rows(batch, 2)
    found = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in piece.items()}
    assert found == {
        "input_ids": [[5, 6, 7, 8]], "labels": [[5, 6, 7, 8]], "position_ids": [[0, 0, 1, 2]],
        "seq_idx": [[0, 1, 1, 1]],
        "cu_seq_lens_q": [0, 1, 4], "cu_seq_lens_k": [0, 1, 4], "max_length_q": 3, "max_length_k": 3,
    }  # fmt: skip
    assert split_rows(batch, 4) == [batch]
