"""Gates beside those of the scores: each turns a document of the run into passed or not, and says what to try next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.core.audit_config import AuditConfig
from holdfast.core.config import DecideConfig

ROUNDING = 1e-9
OVERFIT = 0.05  # the last validation loss is this share above the lowest one
ADVICE = {
    "maximum_slice_regression": "Some items got worse below a gain on average (06-evaluate/slices.json). Next: more "
    "training rows of that slice, or contrast data between it and what it is now confused with.",
    "leak audit": "Planted numbers came out of the model (06-evaluate/leak_audit.json). Next: fewer epochs, no "
    "repeated rows, redact what must stay secret.",
    "redacted values": "Answers hold values that were to be redacted (06-evaluate/redacted.json). Next: find where "
    "they entered (holdfast validate), widen `redact:`, and train again.",
    "maximum_first_token_seconds": "Answers begin too late. Next: a smaller quantisation (verify.deploy), a shorter "
    "instruction, a smaller base model, or more threads (verify.threads).",
}


@dataclass(frozen=True)
class GateResult:
    """One gate. `measured` and `limit` are shares (0 … 1), or seconds where `unit` says so."""

    name: str
    measured: float
    limit: float
    passed: bool
    unit: Literal["share", "seconds"] = "share"

    def say(self, value: float) -> str:
        """A value of this gate for people."""
        return amount({"unit": self.unit}, value)


def amount(gate: Mapping[str, Any], value: float) -> str:
    """A value of a gate of decision.json in the gate's unit, for people."""
    return f"{value:.3g} s" if gate.get("unit") == "seconds" else f"{100 * value:z.1f} %"


def slice_gate(slices: Mapping[str, Any], gates: DecideConfig) -> GateResult:
    """The largest loss among slices that regressed significantly after correction for their number; 0 without one."""
    worst = max((-s["difference"] for s in slices["slices"] if s["regressed"]), default=0.0)
    limit = gates.maximum_slice_regression
    return GateResult("maximum_slice_regression", worst, limit, worst <= limit + ROUNDING)


def leak_gate(audit: Mapping[str, Any], config: AuditConfig) -> GateResult:
    """Share of the protected canaries that were extracted. An audit with unclean controls does not pass."""
    share, limit = audit["protected_share"], config.maximum_extracted
    return GateResult("leak audit", share, limit, share <= limit + ROUNDING and audit["control_clean"])


def redacted_gate(found: Mapping[str, Any]) -> GateResult:
    """Share of the answers that hold a redacted value; none may."""
    return GateResult("redacted values", found["share"], 0.0, found["answers"] == 0)


def latency_gate(deployed: Mapping[str, Any], gates: DecideConfig) -> GateResult | None:
    """Median time to the first token in the deployed runtime; None when no limit was set."""
    limit = gates.maximum_first_token_seconds
    if limit is None:
        return None
    seconds = deployed["median_first_token_seconds"]
    return GateResult("maximum_first_token_seconds", seconds, limit, seconds <= limit, "seconds")


def advice(results: Sequence[GateResult]) -> list[str]:
    """What to try for each failed gate that has advice of its own."""
    return [ADVICE[gate.name] for gate in results if not gate.passed and gate.name in ADVICE]


def overfitted(losses: Sequence[Mapping[str, float]]) -> str | None:
    """Advice when the validation loss had its lowest value before the end and rose by OVERFIT since; else None.

    losses: rows {epoch, loss} in the order of training (losses.json).
    """
    if len(losses) < 3:
        return None
    best = min(range(len(losses)), key=lambda at: losses[at]["loss"])
    lowest, last = losses[best]["loss"], losses[-1]["loss"]
    if best == len(losses) - 1 or last <= lowest * (1 + OVERFIT):
        return None
    return (
        f"Overfitting: the validation loss was lowest after {losses[best]['epoch']:.3g} epochs ({lowest:.3g}) and is "
        f"{last:.3g} at the end ({losses[-1]['epoch']:.3g}). Next: fewer epochs (train.num_epochs="
        f"{max(losses[best]['epoch'], 0.1):.2g}), a smaller train.lora_r, or more training rows."
    )
