"""Training runs on the device that the plan was made for. There is no card here: torch is told that there is one."""

import os

import pytest
import torch

from holdfast import models
from holdfast.core.device import VISIBLE, planned_device
from holdfast.core.errors import StageError
from holdfast.train.stage import refuse_another_device


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA with one card: as long as the variable does not hide it."""
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: os.environ.get(VISIBLE) != "")


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(("gpu", "device"), [("cpu", "cpu"), (" CPU ", "cpu"), ("auto", "cuda"), ("8GB", "cuda")])
def test_a_plan_for_the_processor_hides_the_card_that_is_there(gpu: str, device: str) -> None:
    with planned_device(gpu):
        assert models.device_name() == device
        refuse_another_device(device)
    assert models.device_name() == "cuda", "afterwards all is as it was"


@pytest.mark.usefixtures("card")
def test_another_device_than_the_planned_one_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(StageError, match="planned for cpu .* on cuda here") as caught:
        refuse_another_device("cpu")
    assert "--from plan" in caught.value.hint
    with planned_device("cpu"), pytest.raises(StageError, match="planned for cuda .* on cpu here"):
        refuse_another_device("cuda")


@pytest.mark.parametrize("before", ["0,1", None])
def test_cards_chosen_by_the_user_are_as_before_afterwards(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1")
    if before is None:
        monkeypatch.delenv(VISIBLE)
    with pytest.raises(KeyError), planned_device("cpu"):
        assert os.environ[VISIBLE] == ""
        raise KeyError
    assert os.environ.get(VISIBLE) == before
