"""The next change to try, told from the pattern of a failure."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.core.config import DecideConfig
from holdfast.core.measures import answer_score, untrue_answers

Results = Mapping[str, Any]  # results.json, or a rung of ladder.json
ROUNDING = 1e-9  # 0.90 - 0.85 is a little more than 0.05
COLLAPSE_SHARE = 0.6  # of all answers have the same label …
COLLAPSE_EXCESS = 0.1  # … and at least this much more often than the references
FORGOTTEN = (
    "Training cost general abilities (06-evaluate/forgetting.json). Next: fewer epochs, a smaller train.lora_r, or "
    "general rows beside the task's; for a narrow task raise decide.maximum_forgetting."
)
ENOUGH = 0.9  # share of valid, or self-ended, answers from which the form is learned


def next_changes(
    tuned: Results, deployed: Results, rungs: Sequence[Results], gates: DecideConfig, parity: Mapping[str, Any],
    merged: Results | None = None,
) -> list[str]:  # fmt: skip
    """The next change to try, from the pattern of the failure; at least one sentence."""
    changes = []
    valid, accuracy, score = tuned["valid_json"], tuned["label_accuracy"], answer_score(gates.primary)
    if tuned["stopped"] < ENOUGH:
        changes.append(
            f"Only {percent(tuned['stopped'])} of the answers end by themselves. Next: check in the token audit of "
            "`prepare` that the end token is trained, and raise evaluate.max_new_tokens if long answers are right."
        )
    if gates.primary == "knowledge":
        changes += untrue_answers(tuned, max(ENOUGH, gates.minimum_score))
    elif valid < max(ENOUGH, gates.minimum_valid_json):
        changes.append(f"Only {percent(valid)} of the answers are valid JSON. Next: more epochs (train.num_epochs).")
    elif collapse := _collapse(tuned["confusion"]):
        label, share, wanted = collapse
        changes.append(
            f"The labels collapse: {label!r} is {percent(share)} of the answers and {percent(wanted)} of the "
            "references. Next: add contrast data, pairs of rows that differ in one fact and in the label."
        )
    elif score != "label_accuracy" and tuned[score] < max(ENOUGH, gates.minimum_score):
        changes.append(
            f"Only {percent(tuned[score])} of the answers pass {score!r}. Next: read the lost items "
            "(06-evaluate/comparison.json), then add training rows like them or more epochs (train.num_epochs)."
        )
    elif score == "label_accuracy" and accuracy < max(ENOUGH, gates.minimum_score):
        confused = _most_confused(tuned["confusion"])
        changes.append(
            f"The form is learned ({percent(valid)} valid JSON), the labels are weak ({percent(accuracy)} right"
            f"{confused}). Next: a sharper rubric in instruction and labels, or a larger base model."
        )
    if tuned[score] - deployed[score] > gates.maximum_deployed_loss + ROUNDING:
        changes.append(_losing_rung(tuned, rungs, gates, merged))
    if parity["identical"] != parity["rows"] or not (parity["bos_ok"] and parity["stop_ok"]):
        changes.append("Serving does not feed the model the tokens of training. Next: see 08-verify/parity.json.")
    return changes or ["Next: add training rows like the items that were lost (06-evaluate/comparison.json)."]


def _losing_rung(tuned: Results, rungs: Sequence[Results], gates: DecideConfig, merged: Results | None) -> str:
    """Name the first rung that loses more than it may: merged or F16 means merge or conversion, else quantisation."""
    score = answer_score(gates.primary)
    limit = tuned[score] - gates.maximum_deployed_loss - ROUNDING
    at = next((i for i, rung in enumerate(rungs) if rung[score] < limit), None)
    if at is None:
        return "The deployed file is weaker than the tuned model. Next: holdfast run -c FILE --from verify."
    rung = f"{rungs[at]['rung']} ({percent(rungs[at][score])})"
    if at == 0 and merged is not None and merged[score] < limit:
        more = ", or train with train.adapter=lora" if tuned.get("quantization") == "nf4" else ""
        return (
            f"Base + adapter has {percent(tuned[score])}, merged to 16 bits {percent(merged[score])}, still in "
            "transformers: merging costs it, neither conversion nor quantising. Next: the other export.merge_base "
            f"(07-export/export.json names the one that was taken){more}."
        )
    if at == 0 and merged is not None:
        return (
            f"Merged to 16 bits the model still holds {percent(merged[score])} in transformers, {rung} is the first "
            "rung that loses: conversion costs it. Next: see `kl_to_above` in 08-verify/ladder.json and parity.json."
        )
    if at == 0:
        remedy = "train with train.adapter=lora" if tuned.get("quantization") == "nf4" else "see 07-export/export.json"
        return (
            f"The model is good only in transformers ({percent(tuned[score])}); {rung} is the first rung "
            f"that loses, so merging or conversion costs it, not quantising. Next: {remedy}."
        )
    above = rungs[at - 1]
    return (
        f"{above['rung']} still holds {percent(above[score])}, {rung} is the first rung that loses: "
        f"quantising costs it. Next: deploy a finer one (verify.deploy={above['rung']})."
    )


def _collapse(confusion: Mapping[str, Mapping[str, int]]) -> tuple[str, float, float] | None:
    """(label, its share of the answers, its share of the references) when one label swallows the others."""
    total = sum(sum(given.values()) for given in confusion.values())
    for label in confusion:
        share = sum(given.get(label, 0) for given in confusion.values()) / total
        wanted = sum(confusion[label].values()) / total
        if share >= COLLAPSE_SHARE and share >= wanted + COLLAPSE_EXCESS:
            return label, share, wanted
    return None


def _most_confused(confusion: Mapping[str, Mapping[str, int]]) -> str:
    wrong = [
        (n, expected, given)
        for expected, row in confusion.items()
        for given, n in row.items()
        if n and given != expected
    ]
    if not wrong:
        return ""
    count, expected, given = max(wrong, key=lambda item: item[0])
    return f"; most often {expected!r} is answered as {given!r}, {count} times"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
