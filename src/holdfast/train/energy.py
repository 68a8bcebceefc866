"""What the card has used, from NVIDIA's management library; no card, no library, an old card: nothing is said."""

from collections.abc import Callable

Joules = Callable[[], float]


def open_energy_meter(uuid: str | None) -> Joules | None:
    """A function that reads the joules of a card (its whole board, all processes) since the driver was loaded.

    uuid: the card as CUDA names it, without `GPU-`; None = there is none. Counters exist since Volta:
    nvmlDeviceGetTotalEnergyConsumption, millijoules.
    """
    if uuid is None:
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000


def kilowatt_hours(joules: float) -> float:
    """1 kWh = 3.6 MJ."""
    return joules / 3.6e6
