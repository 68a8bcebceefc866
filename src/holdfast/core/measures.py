"""Which scores a result shows people: those of the contract, or the one of the knowledge base."""

from collections.abc import Mapping
from typing import Any

TITLES = {"valid_json": "valid JSON", "label_accuracy": "right label", "knowledge": "true facts"}


def main_scores(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the scores that say how good the answers are, those of the contract's own scorers last.

    result: results.json, a rung of ladder.json, or a model's scores in decision.json.
    """
    own = [name for name in result.get("intervals", result) if name not in (*TITLES, "stopped", "n")]
    return ("knowledge",) if "knowledge" in result else ("valid_json", "label_accuracy", *own)


def shown_scores(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The same, and whether answers end by themselves."""
    return (*main_scores(result), "stopped")


def answer_score(primary: str) -> str:
    """The score that says whether an answer is right: the one that decides, or that of the labels when form does."""
    return "label_accuracy" if primary == "valid_json" else primary


def untrue_answers(tuned: Mapping[str, Any], enough: float) -> list[str]:
    """What answers get wrong most often, and the next change, when fewer than `enough` are true to the knowledge base.

    tuned: results.json. Empty when they are.
    """
    share = tuned["knowledge"]
    if share >= enough:
        return []
    counts = sorted(tuned["problems"].items(), key=lambda item: -item[1])[:3]
    listed = ", ".join(f"{check} ({count} items)" for check, count in counts) or "nothing was recorded"
    return [
        f"Only {100 * share:.1f} % of the answers are true to the knowledge base; most often wrong: {listed}. "
        "Next: more rows about these facts (sample_nodes, alerts, topology of the source), or more epochs."
    ]
