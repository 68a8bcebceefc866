"""What did training cost? A fixed general set, in our own words, answered by the base and by the tuned model.

`general.jsonl` beside this file: reading given facts, choosing a label, following a form, common knowledge. An answer
is right when it contains one of the accepted texts as whole words. Beside the score it is counted how often the tuned
model still gives the base model's own answer. A narrow task may forget on purpose; the gate `maximum_forgetting` says
how much is allowed.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.records import Example, Message
from holdfast.evaluate.compare import compare_samples
from holdfast.evaluate.tasks import normalise

FILE = Path(__file__).with_name("general.jsonl")


class GeneralItem(NamedTuple):
    """One question of the general set; `accept` are the texts of which an answer must contain one."""

    id: str
    kind: str
    prompt: str
    accept: tuple[str, ...]

    def example(self, system_prompt: str) -> Example:
        """As an example: asked with the run's system prompt, as every other question would be."""
        system = [Message(role="system", content=system_prompt)] if system_prompt else []
        turns = (*system, Message(role="user", content=self.prompt), Message(role="assistant", content=self.accept[0]))
        return Example(messages=turns, source=f"{FILE.name}:{self.id}", tags={"kind": self.kind})


def read_general_items() -> list[GeneralItem]:
    """The bundled general set."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [GeneralItem(row["id"], row["kind"], row["prompt"], tuple(row["accept"])) for row in rows]


def is_right(item: GeneralItem, output: str) -> int:
    """1 when the answer contains an accepted text as whole words, apart from case and white space."""
    text = normalise(output)
    return int(any(re.search(rf"(?<!\w){re.escape(normalise(accepted))}(?!\w)", text) for accepted in item.accept))


def score_general(items: Sequence[GeneralItem], outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of general.jsonl, one for each item."""
    return [
        {
            "id": item.id, "source": f"{FILE.name}:{item.id}", "kind": item.kind, "prompt_text": item.prompt,
            "expected": item.accept[0], "output": output, "scores": {"general": is_right(item, output)},
        }
        for item, output in zip(items, outputs, strict=True)
    ]  # fmt: skip


def measure_forgetting(
    baseline: Sequence[Mapping[str, Any]], tuned: Sequence[Mapping[str, Any]], alpha: float
) -> dict[str, Any]:
    """The document forgetting.json: both shares, the loss in points with its exact test, unchanged answers, by kind.

    Raises IntegrityError when the two models did not answer the same items.
    """
    comparison = compare_samples(baseline, tuned, "general", alpha)
    before = {row["id"]: row for row in baseline}
    unchanged = sum(normalise(row["output"]) == normalise(before[row["id"]]["output"]) for row in tuned)
    return {
        "baseline": _share(baseline),
        "tuned": _share(tuned),
        "n": len(tuned),
        "loss": -comparison.difference.estimate,
        "p_value": comparison.p_value,
        "significant": comparison.p_value < alpha,
        "unchanged_answers": unchanged / len(tuned),
        "by_kind": {
            kind: {"n": count, "baseline": _share(_of(baseline, kind)), "tuned": _share(_of(tuned, kind))}
            for kind, count in sorted(Counter(row["kind"] for row in tuned).items())
        },
    }


def describe(document: Mapping[str, Any]) -> str:
    """One line for people."""
    return (
        f"general set: {100 * document['baseline']:.1f} % before, {100 * document['tuned']:.1f} % after "
        f"({document['n']} items, p = {document['p_value']:.2g}); "
        f"{100 * document['unchanged_answers']:.0f} % of the answers unchanged"
    )


def _of(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def _share(rows: Sequence[Mapping[str, Any]]) -> float:
    return sum(int(row["scores"]["general"]) for row in rows) / len(rows)
