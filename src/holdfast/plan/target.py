"""For what a plan is made: the card that is there, a card that is not, a processor; and how much may be used."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from holdfast.core.config import PlanConfig, TrainConfig
from holdfast.core.device import means_cpu
from holdfast.core.errors import ConfigError
from holdfast.plan.constants import GIB
from holdfast.plan.hardware import Hardware
from holdfast.plan.memory import Place

NAMED_SIZE = re.compile(r"(?:(apple|cpu)-)?(\d+(?:\.\d+)?)\s*(?:GB|GiB|G)", re.IGNORECASE)
# GB. Several times what is sold: a larger size is a slip of the hand, and its plan would say that anything fits.
LARGEST_CARD, LARGEST_MACHINE = 1024, 65536


@dataclass(frozen=True)
class Target:
    """Where training is planned. `hypothetical`: a card (or a machine) of that size is only imagined.

    ram_bytes: memory of an imagined machine without a card that training uses; `apple`: it is one of Apple's.
    """

    device: Literal["gpu", "ram"]
    name: str
    gpu_bytes: int | None
    hypothetical: bool
    ram_bytes: int | None = None
    apple: bool = False


@dataclass(frozen=True)
class Limit:
    """What a place has. `usable` is `available` less `plan.memory_headroom`; bytes."""

    total: int
    available: int
    usable: int
    checked: bool


def choose_target(plan: PlanConfig, hardware: Hardware) -> Target:
    """`auto` = the first card, or the processor when there is none. Raises ConfigError for a word that is no size, and
    for a size that nothing has."""
    wanted = plan.gpu.strip()
    if wanted.lower() == "cpu":
        return Target("ram", "CPU", None, False)
    if wanted.lower() == "auto":
        if not hardware.gpus:
            return Target("ram", "CPU", None, False)
        return Target("gpu", hardware.gpus[0].name, hardware.gpus[0].total_bytes, False)
    size = NAMED_SIZE.fullmatch(wanted)
    most = LARGEST_MACHINE if size and size.group(1) else LARGEST_CARD
    if size is None or not 0 < float(size.group(2)) <= most:
        hint = "holdfast plan --gpu 8GB (or 16GB, 24GB, 80GB, apple-64GB, cpu-32GB, cpu, auto)"
        what = f"above 0 and up to {LARGEST_CARD:,} GB (apple-… and cpu-…: up to {LARGEST_MACHINE:,} GB)"
        raise ConfigError(f"plan.gpu is {plan.gpu!r}: expected auto, cpu or a size such as 8GB, {what}", hint=hint)
    found = int(float(size.group(2)) * GIB)
    if size.group(1) is None:
        return Target("gpu", f"a card of {size.group(2)} GiB", found, True)
    apple = size.group(1).lower() == "apple"
    name = f"the processor of an Apple machine of {size.group(2)} GiB" if apple else f"a CPU with {size.group(2)} GiB"
    return Target("ram", name, None, True, found, apple)


def check_cards(train: TrainConfig, target: Target, hardware: Hardware) -> None:
    """Raises ConfigError when there are fewer cards than processes."""
    if target.device == "gpu" and not target.hypothetical and train.nproc > len(hardware.gpus):
        cards = "1 card is there" if len(hardware.gpus) == 1 else f"{len(hardware.gpus)} cards are there"
        raise ConfigError(
            f"train.nproc is {train.nproc}, but {cards}: each process needs one",
            hint=f"holdfast plan -c FILE --set train.nproc={len(hardware.gpus)}",
        )


def limits_of(target: Target, plan: PlanConfig, hardware: Hardware, cards: int = 1) -> dict[Place, Limit]:
    """The limit of each place. RAM and disk of this machine are shown but not checked for a card that is elsewhere.

    cards: how many of those that are there train together; the one with the least free memory decides.
    """

    def limit(total: int, available: int, *, checked: bool) -> Limit:
        return Limit(total, available, int(available * (1 - plan.memory_headroom)), checked)

    here = not target.hypothetical
    found: dict[Place, Limit] = {
        "ram": limit(hardware.ram_total_bytes, hardware.ram_available_bytes, checked=here),
        "disk": limit(hardware.disk_free_bytes, hardware.disk_free_bytes, checked=here),
    }
    if target.ram_bytes is not None:
        found["ram"] = limit(target.ram_bytes, target.ram_bytes, checked=True)
    if target.gpu_bytes is not None:
        free = target.gpu_bytes if target.hypothetical else min(gpu.free_bytes for gpu in hardware.gpus[:cards])
        found["gpu"] = limit(target.gpu_bytes, free, checked=True)
    return found


def card_room(limits: Mapping[Place, Limit]) -> int | None:
    """Bytes of the card that may be used; None where there is no card."""
    return limits["gpu"].usable if "gpu" in limits else None


def real_device(plan: PlanConfig, hardware: Hardware) -> Literal["cuda", "cpu"]:
    """The device that training will find on this machine: what settings.json must name."""
    return "cuda" if hardware.gpus and not means_cpu(plan.gpu) else "cpu"
