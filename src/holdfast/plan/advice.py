"""Fine-tune, retrieve or prompt? Eight questions and a table of rules: the first rule that applies decides.

The gate is that of the fifth source document, section 1: behaviour belongs in weights, facts that change do not, and
what a prompt can do needs no training. Pure functions; tests/unit/plan/test_advice.py walks through every combination.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from holdfast.core.section import Section

Recommendation = Literal[
    "fine-tune", "fine-tune and retrieve", "retrieve", "prompt", "redesign", "other model", "prepare"
]


class Answers(Section):
    """What the operator says. Every key is needed."""

    source_changes: Literal["at once", "later", "never"]
    """When the source material changes, the answers must change: at once, later (after another training), or it never
    changes."""
    prompt: Literal["works", "mostly", "drifts", "not tried"]
    """A careful prompt with a few examples: works, works mostly, drifts again and again, or has not been tried."""
    narrow: bool
    """Is the task one sentence with one form of answer?"""
    able: Literal["yes", "no", "unknown"]
    """Can the base model do a single case when it is helped as much as possible?"""
    experts_agree: bool
    """Would two of your experts give the same answer to the same input?"""
    examples: Literal["hundreds", "dozens", "none"]
    """How many examples have been read and found right?"""
    held_out: bool
    """Are there other items on which base model and tuned model can be compared?"""
    owner: bool
    """Is there somebody who keeps data, base model and adapter, and retires them?"""


class Rule(NamedTuple):
    """When `applies`, this is recommended, because of `reason`; `then` is what to do next."""

    recommendation: Recommendation
    applies: Callable[[Answers], bool]
    reason: str
    then: str


def _ready(a: Answers) -> bool:
    return (
        a.narrow and a.experts_agree and a.able == "yes" and a.prompt == "drifts" and a.examples != "none"
        and a.held_out and a.owner
    )  # fmt: skip


RULES = (
    Rule("redesign", lambda a: not a.narrow, "the task is not one sentence with one form of answer: training "
         "data would teach several things at once", "cut out one narrow part and answer the questions for it"),
    Rule("redesign", lambda a: not a.experts_agree, "two experts would not agree on the answers: training repeats that "
         "disagreement", "write the rule down that decides between them (a contract), then correct the examples"),
    Rule("fine-tune and retrieve", lambda a: a.source_changes == "at once" and _ready(a),
         "the form of the answer is stable and drifts with prompts, but the facts in it change: the form belongs in "
         "weights, the facts do not", "train on examples whose input holds the retrieved facts"),
    Rule("retrieve", lambda a: a.source_changes == "at once", "answers must follow the source material at once: "
         "weights would be stale, and sure of themselves", "give the model the current documents with each question"),
    Rule("prompt", lambda a: a.prompt in ("works", "mostly"), "a prompt does it (almost): no training is cheaper and "
         "none is easier to change", "keep the prompt, measure it on a held-out set, come back when it drifts"),
    Rule("prompt", lambda a: a.prompt == "not tried", "nobody has tried a careful prompt with a few examples",
         "try that first: it takes an hour and is the baseline anyway"),
    Rule("other model", lambda a: a.able == "no", "the base model cannot do a single case with all the help there is: "
         "an adapter nudges behaviour, it does not add ability", "a larger or a newer base model, or a smaller task"),
    Rule("prepare", lambda a: a.able == "unknown", "it is not known whether the base model can do it at all",
         "take five cases and help as much as you can in the prompt"),
    Rule("prepare", lambda a: a.examples == "none", "there are no examples that somebody has read",
         "write or collect some dozens, read each, run holdfast validate"),
    Rule("prepare", lambda a: not a.held_out, "nothing could show that the tuned model is better",
         "keep items apart that training never sees (prepare.test_set_size)"),
    Rule("prepare", lambda a: not a.owner, "an adapter that nobody keeps becomes a risk",
         "name who keeps data, base model and adapter, and when it is retired"),
    Rule("fine-tune", lambda a: True, "a narrow, stable behaviour that prompts do not hold, with examples and "
         "a way to measure it", "holdfast run -c FILE"),
)  # fmt: skip


def advise(answers: Answers) -> dict[str, Any]:
    """The recommendation, as kept in advice.json: the first rule that applies, and what else speaks against it."""
    found = [rule for rule in RULES if rule.applies(answers)]
    first = found[0]
    others = [rule for rule in found[1:] if rule.recommendation not in ("fine-tune", first.recommendation)]
    remarks = []
    if first.recommendation.startswith("fine-tune") and answers.examples == "dozens":
        remarks.append("dozens of examples show whether it works at all; a model for production needs edge cases and "
                       "contrasts too")  # fmt: skip
    if first.recommendation.startswith("fine-tune") and answers.source_changes == "later":
        remarks.append("what changes later needs another training and another decision each time")
    return {
        "version": 1,
        "recommendation": first.recommendation,
        "train": first.recommendation.startswith("fine-tune"),
        "reason": first.reason,
        "next": first.then,
        "also": [{"recommendation": rule.recommendation, "reason": rule.reason} for rule in others],
        "remarks": remarks,
        "answers": answers.model_dump(mode="json"),
    }


def questions() -> list[tuple[str, str, tuple[str, ...]]]:
    """(key, question, possible answers) in order, from the fields of Answers."""
    found = []
    for name, field in Answers.model_fields.items():
        choices = get_args(field.annotation) or ("yes", "no")
        found.append((name, " ".join((field.description or "").split()), choices))
    return found


def describe_advice(advice: dict[str, Any]) -> str:
    """The recommendation as text."""
    lines = [f"{advice['recommendation'].upper()}: {advice['reason']}.", f"next: {advice['next']}"]
    lines += [f"also: {row['reason']} ({row['recommendation']})" for row in advice["also"]]
    return "\n".join([*lines, *(f"note: {remark}" for remark in advice["remarks"])])
