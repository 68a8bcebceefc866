"""Why a run is refused: what does not fit, how much is missing, and what would help."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.plan.constants import GIB
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import Demand, Place
from holdfast.plan.phases import demands
from holdfast.plan.remedies import Remedy, find_remedies
from holdfast.plan.shape import ModelShape
from holdfast.plan.target import Limit, Target, card_room


def describe_problem(
    shape: ModelShape,
    config: RunConfig,
    lengths: Lengths,
    target: Target,
    failed: Demand,
    limits: Mapping[Place, Limit],
) -> dict[str, Any]:
    """`problem` of plan.json: what does not fit, by how much, the remedies, and the next command."""
    limit = limits[failed.place]

    def demand_of(changed: RunConfig) -> list[Demand]:
        rows = lengths.shortened(changed.sequence_len)
        return demands(shape, changed, rows, 1, target.device, card=card_room(limits))

    remedies = find_remedies(config, failed, limit.usable, demand_of)
    largest = sorted(failed.components.items(), key=lambda item: -item[1])[:3]
    where = {"gpu": f"on {target.name}", "ram": "of RAM", "disk": "of disk"}[failed.place]
    lines = [
        f"{failed.phase} does not fit: it needs {failed.total / GIB:.2f} GiB {where}, "
        f"{limit.usable / GIB:.2f} GiB may be used ({limit.available / GIB:.2f} available "
        f"less {config.plan.memory_headroom:.0%} headroom)",
        "  largest: " + ", ".join(f"{name} {size / GIB:.2f}" for name, size in largest),
        *(f"  remedy: {_remedy_text(remedy)}" for remedy in remedies),
    ]
    if not any(remedy.enough for remedy in remedies):
        lines.append(f"  remedy: {_last_resort(failed)}")
    return {
        "phase": failed.phase,
        "place": failed.place,
        "needed": failed.total,
        "usable": limit.usable,
        "available": limit.available,
        "largest": dict(largest),
        "remedies": [asdict(remedy) for remedy in remedies],
        "message": "\n".join(lines),
        "next": _next(remedies, failed),
    }


def _remedy_text(remedy: Remedy) -> str:
    return f"{remedy.change} saves {remedy.saves / GIB:.2f} GiB" + ("" if remedy.enough else ", not enough")


def _last_resort(failed: Demand) -> str:
    if failed.place == "disk":
        return "free disk space, or another disk (--run-dir)"
    what = "a card with more memory" if failed.place == "gpu" else "more RAM (close other programs)"
    return f"{what}, or a smaller base model (base_model)"


def _next(remedies: list[Remedy], failed: Demand) -> str:
    enough = [remedy for remedy in remedies if remedy.enough]
    if enough:
        return "holdfast plan -c FILE " + " ".join(f"--set {setting}" for setting in enough[0].settings)
    if failed.place == "disk":
        return "holdfast plan -c FILE --run-dir DIR (on another disk)"
    return "holdfast plan -c FILE --set base_model=SMALLER"
