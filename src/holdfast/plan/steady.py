"""A plan that stays: what is free on a machine differs from hour to hour, and other settings mean to train again."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.plan.constants import GIB
from holdfast.plan.hardware import Gpu, Hardware

Plan = dict[str, Any]
TRAINING = ("load", "train")


def steady_plan(
    make: Callable[[Hardware], Plan], hardware: Hardware, former: Mapping[str, Any] | None, *, trained: bool = False
) -> Plan:
    """The plan for this machine; `former` is plan.json of the last time (None: there is none).

    Settings of the last time are kept as long as they follow from what was free then, and what is free now still holds
    what they need. trained: training with this configuration is finished, so that it need not fit again. make:
    hardware → plan.
    """
    now, then = make(hardware), _hardware_of(former)
    if former is None or then is None or _machine(then) != _machine(hardware) or _chosen(now) == _chosen(former):
        return now
    kept = make(then)
    if _chosen(kept) != _chosen(former):  # something else than the free memory changed
        return now
    done = TRAINING if trained else ()
    lacking = [p for p in kept["phases"] if p["checked"] and p["phase"] not in done and _lacks(p, now["limits"])]
    if not lacking:
        kept["remarks"].append("settings are those of the last plan: what is free now holds what is still to be done")
        return kept
    now["remarks"].append(_less_free(hardware, then))
    return now | ({"settings": kept["settings"]} if trained else {})


def _chosen(plan: Mapping[str, Any]) -> str:
    """What was chosen, and the memory of the phases that it was chosen for. (Without JSON a tuple is not a list.)"""
    phases = [[p["phase"], p["components"]] for p in plan["phases"] if p["phase"] in (*TRAINING, "evaluate")]
    return json.dumps([plan["settings"], plan["evaluation"], phases], sort_keys=True)


def _machine(hardware: Hardware) -> tuple[Any, ...]:
    return tuple((gpu.name, gpu.total_bytes) for gpu in hardware.gpus), hardware.ram_total_bytes, hardware.cores


def _lacks(phase: Mapping[str, Any], limits: Mapping[str, Any]) -> bool:
    return bool(phase["needed"] > limits[phase["place"]]["usable"])


def _less_free(now: Hardware, then: Hardware) -> str:
    where = "the card" if now.gpus else "RAM"
    free = [min((gpu.free_bytes for gpu in found.gpus), default=found.ram_available_bytes) for found in (now, then)]
    return f"{free[0] / GIB:.2f} GiB of {where} are free; {free[1] / GIB:.2f} were when this run was planned before"


def _hardware_of(plan: Mapping[str, Any] | None) -> Hardware | None:
    """Hardware as it stands in plan.json; None where nothing fitted, or another version wrote it otherwise."""
    try:
        if plan is None or not plan["fits"] or not _chosen(plan):
            return None
        found = dict(plan["hardware"])
        gpus, remarks = (tuple(found.pop(name)) for name in ("gpus", "remarks"))
        return Hardware(gpus=tuple(Gpu(**gpu) for gpu in gpus), remarks=remarks, **found)
    except (KeyError, TypeError, ValueError):
        return None
