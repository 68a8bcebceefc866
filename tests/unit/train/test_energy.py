"""The energy meter with a management library that is only imagined."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.train.energy import kilowatt_hours, open_energy_meter


class FakeError(Exception):
    """What the library raises."""


def fake_nvml(readings: list[int], *, fails: str = "") -> Any:
    """A module with the three functions that are called; `fails` names the one that the card does not know."""
    asked: list[str] = []

    def call(name: str, answer: Any) -> Any:
        if name == fails:
            raise FakeError(name)
        return answer() if callable(answer) else answer

    return SimpleNamespace(
        NVMLError=FakeError, asked=asked,
        nvmlInit=lambda: call("init", None),
        nvmlDeviceGetHandleByUUID=lambda uuid: call("handle", lambda: asked.append(uuid) or "card"),
        nvmlDeviceGetTotalEnergyConsumption=lambda card: call("energy", lambda: readings.pop(0)),
    )  # fmt: skip


def test_joules_are_read_of_the_card_that_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml([0, 5_000, 9_500])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    joules = open_energy_meter("1234-ab")
    assert joules is not None
    assert nvml.asked == ["GPU-1234-ab"]
    assert [joules(), joules()] == [5.0, 9.5]
    assert kilowatt_hours(3.6e6) == 1


@pytest.mark.parametrize("missing", ["init", "handle", "energy"])
def test_a_card_that_does_not_count_gives_no_meter(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([1], fails=missing))
    assert open_energy_meter("1234-ab") is None


def test_without_the_library_or_a_card_there_is_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # import fails
    assert open_energy_meter("1234-ab") is None
    assert open_energy_meter(None) is None
