"""For what a plan is made: the card that is there, a card that is not, or the processor; and how much may be used."""

import re
from dataclasses import dataclass
from typing import Literal

from holdfast.core.config import PlanConfig
from holdfast.core.errors import ConfigError
from holdfast.plan.constants import GIB
from holdfast.plan.hardware import Hardware
from holdfast.plan.memory import Place

NAMED_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:GB|GiB|G)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """Where training is planned. `hypothetical`: a card of that size is only imagined."""

    device: Literal["gpu", "ram"]
    name: str
    gpu_bytes: int | None
    hypothetical: bool


@dataclass(frozen=True)
class Limit:
    """What a place has. `usable` is `available` less `plan.memory_headroom`; bytes."""

    total: int
    available: int
    usable: int
    checked: bool


def choose_target(plan: PlanConfig, hardware: Hardware) -> Target:
    """`auto` = the first card, or the processor when there is none. Raises ConfigError for a word that is no size."""
    wanted = plan.gpu.strip()
    if wanted.lower() == "cpu":
        return Target("ram", "CPU", None, False)
    if wanted.lower() == "auto":
        if not hardware.gpus:
            return Target("ram", "CPU", None, False)
        return Target("gpu", hardware.gpus[0].name, hardware.gpus[0].total_bytes, False)
    size = NAMED_SIZE.fullmatch(wanted)
    if size is None or float(size.group(1)) == 0:
        hint = "holdfast plan --gpu 8GB (or 16GB, 24GB, 80GB, cpu, auto)"
        raise ConfigError(f"plan.gpu is {plan.gpu!r}: expected auto, cpu or a size such as 8GB", hint=hint)
    return Target("gpu", f"a card of {size.group(1)} GiB", int(float(size.group(1)) * GIB), True)


def limits_of(target: Target, plan: PlanConfig, hardware: Hardware) -> dict[Place, Limit]:
    """The limit of each place. RAM and disk of this machine are shown but not checked for a card that is elsewhere."""

    def limit(total: int, available: int, *, checked: bool) -> Limit:
        return Limit(total, available, int(available * (1 - plan.memory_headroom)), checked)

    here = not target.hypothetical
    found: dict[Place, Limit] = {
        "ram": limit(hardware.ram_total_bytes, hardware.ram_available_bytes, checked=here),
        "disk": limit(hardware.disk_free_bytes, hardware.disk_free_bytes, checked=here),
    }
    if target.gpu_bytes is not None:
        free = target.gpu_bytes if target.hypothetical else hardware.gpus[0].free_bytes
        found["gpu"] = limit(target.gpu_bytes, free, checked=True)
    return found


def real_device(plan: PlanConfig, hardware: Hardware) -> Literal["cuda", "cpu"]:
    """The device that training will find on this machine: what settings.json must name."""
    return "cuda" if hardware.gpus and plan.gpu.strip().lower() != "cpu" else "cpu"
