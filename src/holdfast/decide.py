"""From measurements to a verdict. `decide` is pure: results, comparison and gates in, Decision out.

| verdict | exit | when (the first that holds; the difference is tuned - baseline of the primary score) |
|---|---|---|
| undecidable | 12 | so few items that even winning all of them would give p ≥ alpha |
| discard | 11 | significantly worse (p < alpha, losses > wins), or no better: interval ends below the gain or at 0 |
| undecidable | 12 | cannot tell: the interval includes 0, or the exact test gives p ≥ alpha |
| iterate | 10 | better, but a gate failed |
| keep | 0 | better, and every gate passed |

p is the exact McNemar test, the interval is the paired bootstrap of the comparison. "Better" needs both of them: with
few discordant items the interval alone is too narrow.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from holdfast.core.config import DecideConfig
from holdfast.core.context import StageContext
from holdfast.core.errors import IntegrityError
from holdfast.core.measures import answer_score, untrue_answers

Verdict = Literal["keep", "iterate", "discard", "undecidable"]
Results = Mapping[str, Any]  # results.json, or a rung of ladder.json
EXIT_CODES: dict[Verdict, int] = {"keep": 0, "iterate": 10, "discard": 11, "undecidable": 12}
SCORES = ("valid_json", "label_accuracy", "knowledge", "n")
ROUNDING = 1e-9  # 0.90 - 0.85 is a little more than 0.05
COLLAPSE_SHARE = 0.6  # of all answers have the same label …
COLLAPSE_EXCESS = 0.1  # … and at least this much more often than the references
ENOUGH = 0.9  # share of valid, or self-ended, answers from which the form is learned


@dataclass(frozen=True)
class GateResult:
    """One gate. `measured` and `limit` are shares (0 … 1)."""

    name: str
    measured: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Decision:
    """The verdict with its reasons in whole sentences; the last ones say what to change or to do next."""

    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...]
    gates: tuple[GateResult, ...]


def decide(
    baseline: Results,
    tuned: Results,
    deployed: Results,
    comparison: Mapping[str, Any],
    gates: DecideConfig,
    *,
    parity: Mapping[str, Any],
    rungs: Sequence[Results] = (),
) -> Decision:
    """Apply the table above. `deployed` is the rung to be served; `rungs` are all rungs, from F16 to the smallest."""
    results = check_gates(tuned, deployed, comparison, gates, parity)
    verdict, why = _judge(comparison, gates, results)
    reasons = [_describe_difference(baseline, tuned, comparison), why]
    reasons += [_describe_gate(gate) for gate in results if not gate.passed]
    if verdict in ("iterate", "discard"):
        reasons += next_changes(tuned, deployed, rungs, gates, parity)
    elif verdict == "undecidable":
        reasons.append(_more_items(comparison))
    return Decision(verdict, EXIT_CODES[verdict], tuple(reasons), tuple(results))


def check_gates(
    tuned: Results, deployed: Results, comparison: Mapping[str, Any], gates: DecideConfig, parity: Mapping[str, Any]
) -> list[GateResult]:
    """Every gate, passed or not."""
    primary, lost = gates.primary, answer_score(gates.primary)
    same = parity["identical"] / parity["rows"] if parity["rows"] else 0.0
    return [
        _at_least("minimum_gain", comparison["difference"]["estimate"], gates.minimum_gain),
        _at_least("minimum_score, tuned", tuned[primary], gates.minimum_score),
        _at_least("minimum_score, deployed", deployed[primary], gates.minimum_score),
        _at_least("minimum_valid_json, tuned", tuned["valid_json"], gates.minimum_valid_json),
        _at_least("minimum_valid_json, deployed", deployed["valid_json"], gates.minimum_valid_json),
        _at_most("maximum_deployed_loss", tuned[lost] - deployed[lost], gates.maximum_deployed_loss),
        GateResult("token parity", same, 1.0, same == 1.0 and bool(parity["bos_ok"] and parity["stop_ok"])),
    ]  # fmt: skip


def next_changes(
    tuned: Results, deployed: Results, rungs: Sequence[Results], gates: DecideConfig, parity: Mapping[str, Any]
) -> list[str]:
    """The next change to try, from the pattern of the failure; at least one sentence."""
    changes = []
    valid, accuracy, lost = tuned["valid_json"], tuned["label_accuracy"], answer_score(gates.primary)
    if tuned["stopped"] < ENOUGH:
        changes.append(
            f"Only {_percent(tuned['stopped'])} of the answers end by themselves. Next: check in the token audit of "
            "`prepare` that the end token is trained, and raise evaluate.max_new_tokens if long answers are right."
        )
    if gates.primary == "knowledge":
        changes += untrue_answers(tuned, max(ENOUGH, gates.minimum_score))
    elif valid < max(ENOUGH, gates.minimum_valid_json):
        changes.append(f"Only {_percent(valid)} of the answers are valid JSON. Next: more epochs (train.num_epochs).")
    elif collapse := _collapse(tuned["confusion"]):
        label, share, wanted = collapse
        changes.append(
            f"The labels collapse: {label!r} is {_percent(share)} of the answers and {_percent(wanted)} of the "
            "references. Next: add contrast data, pairs of rows that differ in one fact and in the label."
        )
    elif accuracy < max(ENOUGH, gates.minimum_score):
        confused = _most_confused(tuned["confusion"])
        changes.append(
            f"The form is learned ({_percent(valid)} valid JSON), the labels are weak ({_percent(accuracy)} right"
            f"{confused}). Next: a sharper rubric in instruction and labels, or a larger base model."
        )
    if tuned[lost] - deployed[lost] > gates.maximum_deployed_loss + ROUNDING:
        changes.append(_losing_rung(tuned, rungs, gates))
    if parity["identical"] != parity["rows"] or not (parity["bos_ok"] and parity["stop_ok"]):
        changes.append("Serving does not feed the model the tokens of training. Next: see 08-verify/parity.json.")
    return changes or ["Next: add training rows like the items that were lost (06-evaluate/comparison.json)."]


def run(context: StageContext) -> None:
    """Stage `decide`: decision.json and decision.md. A bad verdict is a result, not an error.

    Raises IntegrityError when a file of an earlier stage is missing or lacks the deployed rung.
    """
    from holdfast.decision_page import render_page

    inputs, gates = context.inputs, context.config.decide
    baseline, tuned = _read(inputs["baseline"] / "results.json"), _read(inputs["evaluate"] / "results.json")
    comparison = {k: v for k, v in _read(inputs["evaluate"] / "comparison.json").items() if k != "rows"}
    ladder, parity = _read(inputs["verify"] / "ladder.json"), _read(inputs["verify"] / "parity.json")
    rungs, deploy = ladder["rungs"], context.config.verify.deploy
    deployed = next((rung for rung in rungs if rung["rung"] == deploy), None)
    if deployed is None:
        raise IntegrityError(
            f"ladder.json has the rungs {', '.join(rung['rung'] for rung in rungs)}, but {deploy} is to be deployed",
            hint="holdfast run -c FILE --from verify",
        )
    decision = decide(baseline, tuned, deployed, comparison, gates, parity=parity, rungs=rungs)
    document = describe(decision, baseline, tuned, rungs, comparison)
    context.out.write_json("decision.json", document)
    proof = _read(inputs["prepare"] / "report.json").get("split_proof")
    context.out.write_text("decision.md", render_page(context.config.name, document, tuned, deploy, proof))
    context.console.say(f"  {decision.verdict}: {decision.reasons[1]}")


def describe(
    decision: Decision, baseline: Results, tuned: Results, rungs: Sequence[Results], comparison: Mapping[str, Any]
) -> dict[str, Any]:
    """The document decision.json (docs/format.md)."""
    return {
        **asdict(decision),
        "primary": comparison["metric"],
        "baseline": _scores(baseline),
        "tuned": _scores(tuned),
        "deployed": {rung["rung"]: _scores(rung) for rung in rungs},
        "items": comparison["items"],
        **{name: comparison[name] for name in ("p_value", "difference", "wins", "losses", "ties")},
    }


def _scores(result: Results) -> dict[str, Any]:
    return {name: result[name] for name in SCORES if name in result}


def _judge(comparison: Mapping[str, Any], gates: DecideConfig, results: Sequence[GateResult]) -> tuple[Verdict, str]:
    n, p_value, difference = comparison["items"], comparison["p_value"], comparison["difference"]
    smallest = min(1.0, 2 * 0.5**n)
    low, high, gain = _points(difference["low"]), _points(difference["high"]), f"{100 * gates.minimum_gain:g}"
    if smallest >= gates.alpha:
        return "undecidable", (
            f"{n} items are too few: even {n} wins and no loss would give p = {smallest:.2g}, "
            f"and p must be below {gates.alpha:g}; at least {_fewest_items(gates.alpha)} items are needed."
        )
    if p_value < gates.alpha and comparison["losses"] > comparison["wins"]:
        return "discard", f"The tuned model is significantly worse (p = {p_value:.2g}, limit {gates.alpha:g})."
    if difference["high"] < gates.minimum_gain - ROUNDING or difference["high"] <= 0:
        return "discard", (
            f"The tuned model is not better enough: the interval ends at {high} points, {gain} are asked for."
        )
    if difference["low"] <= 0:
        return "undecidable", (
            f"It cannot be told: the interval, {low} to {high} points, includes both 0 and the {gain} points asked for."
        )
    if p_value >= gates.alpha:
        return "undecidable", (
            f"It cannot be told: the interval excludes 0, but the exact test gives p = {p_value:.2g}, "
            f"and p must be below {gates.alpha:g}."
        )
    if failed := sum(not gate.passed for gate in results):
        return "iterate", f"The tuned model is better, but {failed} of {len(results)} gates failed."
    return "keep", f"The tuned model is better and all {len(results)} gates passed."


def _fewest_items(alpha: float) -> int:
    return next(n for n in itertools.count(1) if 2 * 0.5**n < alpha)


def _describe_difference(baseline: Results, tuned: Results, comparison: Mapping[str, Any]) -> str:
    metric, difference = comparison["metric"], comparison["difference"]
    return (
        f"{metric} went from {_percent(baseline[metric])} to {_percent(tuned[metric])} on {comparison['items']} items: "
        f"{_points(difference['estimate'])} points, {100 * difference['confidence']:g} % interval "
        f"{_points(difference['low'])} to {_points(difference['high'])} ({difference['method']}); "
        f"{comparison['wins']} won, {comparison['losses']} lost, {comparison['ties']} unchanged, "
        f"exact McNemar p = {comparison['p_value']:.2g}."
    )


def _describe_gate(gate: GateResult) -> str:
    word = "at most" if gate.name.startswith("maximum") else "at least"
    return f"Gate {gate.name} failed: measured {_percent(gate.measured)}, {word} {_percent(gate.limit)} asked for."


def _more_items(comparison: Mapping[str, Any]) -> str:
    limits = comparison["sensitivity"]
    if limits["more_items"]:
        return (
            f"Next: about {limits['more_items']} more test items would decide ({limits['items_needed']} in all, "
            f"with {_percent(limits['power'])} power if the difference stays as it is)."
        )
    return "Next: more test items; too few of these tell the two models apart to say how many."


def _losing_rung(tuned: Results, rungs: Sequence[Results], gates: DecideConfig) -> str:
    """Name the first rung that loses more than it may: F16 means the merge, a later one the quantisation."""
    score = answer_score(gates.primary)
    limit = tuned[score] - gates.maximum_deployed_loss - ROUNDING
    at = next((i for i, rung in enumerate(rungs) if rung[score] < limit), None)
    if at is None:
        return "The deployed file is weaker than the tuned model. Next: holdfast run -c FILE --from verify."
    rung = f"{rungs[at]['rung']} ({_percent(rungs[at][score])})"
    if at == 0:
        remedy = "train with train.adapter=lora" if tuned.get("quantization") == "nf4" else "see 07-export/export.json"
        return (
            f"The model is good only in transformers ({_percent(tuned[score])}); {rung} is the first rung "
            f"that loses, so merging or conversion costs it, not quantising. Next: {remedy}."
        )
    above = rungs[at - 1]
    return (
        f"{above['rung']} still holds {_percent(above[score])}, {rung} is the first rung that loses: "
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
        (n, expected, given) for expected, row in confusion.items() for given, n in row.items() if given != expected
    ]
    if not wrong:
        return ""
    count, expected, given = max(wrong, key=lambda item: item[0])
    return f"; most often {expected!r} is answered as {given!r}, {count} times"


def _at_least(name: str, measured: float, limit: float) -> GateResult:
    return GateResult(name, measured, limit, measured >= limit - ROUNDING)


def _at_most(name: str, measured: float, limit: float) -> GateResult:
    return GateResult(name, measured, limit, measured <= limit + ROUNDING)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"there is no file {path}", hint="holdfast run -c FILE") from None
    return document
