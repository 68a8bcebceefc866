"""Which scores a result shows people: those of the contract, or the one of the knowledge base."""

from collections.abc import Mapping
from typing import Any

TITLES = {"valid_json": "valid JSON", "label_accuracy": "right label", "knowledge": "true facts"}


def main_scores(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the scores that say how good the answers are."""
    return ("knowledge",) if "knowledge" in result else ("valid_json", "label_accuracy")


def shown_scores(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The same, and whether answers end by themselves."""
    return (*main_scores(result), "stopped")
