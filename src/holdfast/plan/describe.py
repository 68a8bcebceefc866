"""A plan as plain text: verdict first, then phases, components, remarks. GiB with two decimals."""

from collections.abc import Mapping
from typing import Any

from holdfast.plan.constants import GIB
from holdfast.plan.expected import describe_expected


def describe(plan: Mapping[str, Any]) -> str:
    """The text that `holdfast plan` prints for a document of `make_plan`."""
    lines = [*_verdict(plan), "", _row("phase", "place", "needed", "usable", "margin", "GiB; largest components")]
    for phase in plan["phases"]:
        largest = sorted(phase["components"].items(), key=lambda item: -item[1])[:4]
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in largest)
        mark = (
            "" if phase["fits"] else "  << does not fit" if phase["checked"] else "  << more than there is, not judged"
        )
        needed, usable, margin = (_gib(phase[key]) for key in ("needed", "usable", "margin"))
        lines.append(_row(phase["phase"], phase["place"], needed, usable, margin, parts + mark))
    lines += ["", *describe_expected(plan["expected"])]
    lines += [f"note: {remark}" for remark in plan["remarks"]]
    guesses = sum(row["kind"] == "estimate" for row in plan["constants"])
    lines.append(f"note: {guesses} of {len(plan['constants'])} constants are estimates (plan.json names them)")
    return "\n".join(lines)


def _verdict(plan: Mapping[str, Any]) -> list[str]:
    model, target, settings = plan["base_model"], plan["target"], plan["settings"]
    name = f"{model['name']} ({model['family']}, {model['parameters'] / 1e9:.2f} B parameters) on {target['name']}"
    if not plan["fits"]:
        return [f"DOES NOT FIT: {name}", *plan["problem"]["message"].splitlines(), f"next: {plan['problem']['next']}"]
    batch = f"micro_batch_size {settings['micro_batch_size']} x {settings['gradient_accumulation_steps']}"
    batch += f" x {settings['processes']} processes" if settings["processes"] > 1 else ""
    here = (target["device"] == "gpu") == (settings["device"] == "cuda")
    return [f"FITS: {name}, {batch}" + (f", {settings['device']} {settings['dtype']}" if here else "")]


def _row(phase: str, place: str, needed: str, usable: str, margin: str, rest: str) -> str:
    return f"{phase:<9} {place:<5} {needed:>8} {usable:>8} {margin:>8}  {rest}"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"
