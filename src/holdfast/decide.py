"""From measurements to a verdict. `decide` is pure: results, comparison and gates in, Decision out.

| verdict | exit | when (the first that holds; the difference is tuned - baseline of the primary score) |
|---|---|---|
| undecidable | 12 | fewer independent items than minimum_items, or so few that all of them won would give p ≥ alpha |
| discard | 11 | significantly worse (p < alpha, losses > wins), or no better: interval ends below the gain or at 0 |
| undecidable | 12 | cannot tell: the interval includes 0, or the exact test gives p ≥ alpha |
| discard | 11 | no better than giving every item the commonest label (undecidable when close, or with one label only) |
| iterate | 10 | better, but a gate failed |
| keep | 0 | better, and every gate passed |

p is the exact McNemar test, the interval is that of the comparison (paired). "Better" needs both of them: with
few discordant items the interval alone is too narrow.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from holdfast.constant_label import ONE_LABEL, Verdict, judge_constant, only_label
from holdfast.core.config import DecideConfig, RunConfig
from holdfast.core.context import StageContext
from holdfast.core.documents import deployed_quantization
from holdfast.core.errors import IntegrityError
from holdfast.core.manifest import require_product
from holdfast.core.measures import answer_score
from holdfast.gates import GateResult, advice, latency_gate, leak_gate, overfitted, redacted_gate, slice_gate
from holdfast.next_change import FORGOTTEN, ROUNDING, Results, next_changes, percent

EXIT_CODES: dict[Verdict, int] = {"keep": 0, "iterate": 10, "discard": 11, "undecidable": 12}
SCORES = ("valid_json", "label_accuracy", "knowledge", "n")


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
    forgetting: Mapping[str, Any] | None = None,
    more: Sequence[GateResult] = (),
    losses: Sequence[Mapping[str, float]] = (),
    merged: Results | None = None,
) -> Decision:
    """Apply the table above. `deployed` is the rung to be served; `rungs` are all rungs, from F16 to the smallest;
    `forgetting` is forgetting.json, None when the general set was not asked; `more` are further gates,
    `losses` the validation losses (losses.json), `merged` the rung before F16, where it was measured."""
    results = check_gates(tuned, deployed, comparison, gates, parity)
    if forgetting is not None:
        results.append(_forgetting_gate(forgetting, gates))
    results += more
    verdict, why = _judge(comparison, gates, results, tuned)
    reasons = [_describe_difference(baseline, tuned, comparison), why]
    reasons += [_describe_gate(gate) for gate in results if not gate.passed]
    if verdict in ("iterate", "discard"):
        reasons += [sentence] if (sentence := overfitted(losses)) else []
        reasons += next_changes(tuned, deployed, rungs, gates, parity, merged)
        reasons += [FORGOTTEN for gate in results if gate.name == "maximum_forgetting" and not gate.passed]
        reasons += advice(results)
    elif verdict == "undecidable":
        reasons.append(
            ONE_LABEL if only_label(tuned) and comparison["p_value"] < gates.alpha else _more_items(comparison, gates)
        )
    return Decision(verdict, EXIT_CODES[verdict], tuple(reasons), tuple(results))


def check_gates(
    tuned: Results, deployed: Results, comparison: Mapping[str, Any], gates: DecideConfig, parity: Mapping[str, Any]
) -> list[GateResult]:
    """Every gate, passed or not."""
    primary, lost = gates.primary, answer_score(gates.primary)
    same = parity["identical"] / parity["rows"] if parity["rows"] else 0.0
    found = [
        _at_least("minimum_gain", comparison["difference"]["estimate"], gates.minimum_gain),
        _at_least("minimum_score, tuned", tuned[primary], gates.minimum_score),
        _at_least("minimum_score, deployed", deployed[primary], gates.minimum_score),
        _at_least("minimum_valid_json, tuned", tuned["valid_json"], gates.minimum_valid_json),
        _at_least("minimum_valid_json, deployed", deployed["valid_json"], gates.minimum_valid_json),
        _at_most("maximum_deployed_loss", tuned[lost] - deployed[lost], gates.maximum_deployed_loss),
        GateResult("token parity", same, 1.0, same == 1.0 and bool(parity["bos_ok"] and parity["stop_ok"])),
    ]  # fmt: skip
    both = comparison.get("both_valid")
    if both and both["items"]:
        worse = -both["difference"]
        passed = worse <= gates.maximum_label_regression + ROUNDING or both["p_value"] >= gates.alpha
        found.append(GateResult("maximum_label_regression", worse, gates.maximum_label_regression, passed))
    return found


def _forgetting_gate(forgetting: Mapping[str, Any], gates: DecideConfig) -> GateResult:
    """A loss within the limit passes, and one that chance explains."""
    loss, limit = forgetting["loss"], gates.maximum_forgetting
    return GateResult("maximum_forgetting", loss, limit, loss <= limit + ROUNDING or not forgetting["significant"])


def run(context: StageContext) -> None:
    """Stage `decide`: decision.json, decision.md, report.html. A bad verdict is a result, not an error.

    Raises IntegrityError when a file of an earlier stage is missing or lacks the deployed rung, and when the file to be
    deployed is no longer the one that was measured.
    """
    from holdfast.decision_page import render_page
    from holdfast.run_page import read_documents, run_page

    inputs, gates = context.inputs, context.config.decide
    baseline, tuned = _read(inputs["baseline"] / "results.json"), _read(inputs["evaluate"] / "results.json")
    comparison = {k: v for k, v in _read(inputs["evaluate"] / "comparison.json").items() if k != "rows"}
    ladder, parity = _read(inputs["verify"] / "ladder.json"), _read(inputs["verify"] / "parity.json")
    rungs = ladder["rungs"]
    deploy = deployed_quantization(context.config.verify.deploy, inputs["verify"])
    deployed = next((rung for rung in rungs if rung["rung"] == deploy), None)
    if deployed is None:
        raise IntegrityError(
            f"ladder.json has the rungs {', '.join(rung['rung'] for rung in rungs)}, but {deploy} is to be deployed",
            hint="holdfast run -c FILE --from verify",
        )
    require_product(inputs["export"], deployed["file"])
    lost = inputs["evaluate"] / "forgetting.json"
    forgetting = _read(lost) if context.config.evaluate.general_probe else None
    decision = decide(
        baseline, tuned, deployed, comparison, gates, parity=parity, rungs=rungs, forgetting=forgetting,
        more=more_gates(context.config, inputs["evaluate"], _read(inputs["evaluate"] / "slices.json"), deployed),
        losses=_read(inputs["train"] / "losses.json")["valid"],
        merged=next((rung for rung in ladder.get("before", ()) if rung["rung"] == "merged"), None),
    )  # fmt: skip
    document = describe(decision, baseline, tuned, rungs, comparison)
    context.out.write_json("decision.json", document)
    proof = _read(inputs["prepare"] / "report.json").get("split_proof")
    context.out.write_text("decision.md", render_page(context.config.name, document, tuned, deploy, proof))
    context.out.write_text("report.html", run_page(read_documents(context, document)))
    context.console.say(f"  {decision.verdict}: {decision.reasons[1]}")


def more_gates(config: RunConfig, evaluate: Path, slices: Mapping[str, Any], deployed: Results) -> list[GateResult]:
    """Gates beside those of the scores: slices, leak audit, redacted values, latency.

    evaluate: folder of that stage, whose leak_audit.json and redacted.json need not be there; slices: slices.json.
    """
    found = [slice_gate(slices, config.decide)]
    if config.audit.enabled:
        found.append(leak_gate(_read(evaluate / "leak_audit.json"), config.audit))
    if (evaluate / "redacted.json").is_file():
        found.append(redacted_gate(_read(evaluate / "redacted.json")))
    latency = latency_gate(deployed, config.decide)
    return found if latency is None else [*found, latency]


def describe(
    decision: Decision, baseline: Results, tuned: Results, rungs: Sequence[Results], comparison: Mapping[str, Any]
) -> dict[str, Any]:
    """The document decision.json (docs/format.md)."""
    metric = comparison["metric"]
    return {
        **asdict(decision),
        "primary": metric,
        "baseline": _scores(baseline, metric),
        "tuned": _scores(tuned, metric),
        "deployed": {rung["rung"]: _scores(rung, metric) for rung in rungs},
        "items": comparison["items"],
        "independent": independent(comparison),
        **{name: comparison[name] for name in ("p_value", "difference", "wins", "losses", "ties", "sensitivity")},
    }


def _scores(result: Results, metric: str) -> dict[str, Any]:
    return {name: result[name] for name in dict.fromkeys((*SCORES, metric)) if name in result}


def _judge(
    comparison: Mapping[str, Any], gates: DecideConfig, results: Sequence[GateResult], tuned: Results
) -> tuple[Verdict, str]:
    n, p_value, difference = independent(comparison), comparison["p_value"], comparison["difference"]
    repeated = "" if n == comparison["items"] else f" (of {comparison['items']}; the others repeat them)"
    smallest = min(1.0, 2 * 0.5**n)
    low, high, gain = _points(difference["low"]), _points(difference["high"]), f"{100 * gates.minimum_gain:g}"
    if smallest >= gates.alpha:
        return "undecidable", (
            f"{n} items{repeated} are too few: even {n} wins and no loss would give p = {smallest:.2g}, "
            f"and p must be below {gates.alpha:g}; at least {_fewest_items(gates.alpha)} items are needed."
        )
    if n < gates.minimum_items:
        return "undecidable", (
            f"{n} test items{repeated} are too few to rely on: at least {gates.minimum_items} are asked for "
            "(decide.minimum_items)."
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
    if gates.primary == "label_accuracy" and (constant := judge_constant(tuned, gates)):
        return constant
    if failed := sum(not gate.passed for gate in results):
        return "iterate", f"The tuned model is better, but {failed} of {len(results)} gates failed."
    return "keep", f"The tuned model is better and all {len(results)} gates passed."


def independent(comparison: Mapping[str, Any]) -> int:
    """How many items say something of their own: those that repeat each other are one."""
    return int(comparison.get("independent", comparison["items"]))


def _fewest_items(alpha: float) -> int:
    return next(n for n in itertools.count(1) if 2 * 0.5**n < alpha)


def _describe_difference(baseline: Results, tuned: Results, comparison: Mapping[str, Any]) -> str:
    metric, difference = comparison["metric"], comparison["difference"]
    items, own = comparison["items"], independent(comparison)
    said = f"{items} items" if own == items else f"{items} items ({own} independent)"
    return (
        f"{metric} went from {percent(baseline[metric])} to {percent(tuned[metric])} on {said}: "
        f"{_points(difference['estimate'])} points, {100 * difference['confidence']:g} % interval "
        f"{_points(difference['low'])} to {_points(difference['high'])} ({difference['method']}); "
        f"{comparison['wins']} won, {comparison['losses']} lost, {comparison['ties']} unchanged, "
        f"exact McNemar p = {comparison['p_value']:.2g}."
    )


def _describe_gate(gate: GateResult) -> str:
    word = "at most" if gate.name.startswith("maximum") else "at least"
    return f"Gate {gate.name} failed: measured {gate.say(gate.measured)}, {word} {gate.say(gate.limit)} asked for."


def _more_items(comparison: Mapping[str, Any], gates: DecideConfig) -> str:
    limits, n = comparison["sensitivity"], independent(comparison)
    fewest = max(gates.minimum_items, _fewest_items(gates.alpha))
    if n < fewest and (limits["items_needed"] or 0) <= fewest:
        return f"Next: {fewest - n} more test items; with fewer than {fewest} nothing is decided, whatever they say."
    if limits["more_items"] == 0:
        return "Next: more test items; what these show lies just at the limit."
    if limits["more_items"]:
        return (
            f"Next: about {limits['more_items']} more test items would decide ({limits['items_needed']} in all, "
            f"with {percent(limits['power'])} power if the difference stays as it is)."
        )
    return "Next: more test items; too few of these tell the two models apart to say how many."


def _at_least(name: str, measured: float, limit: float) -> GateResult:
    return GateResult(name, measured, limit, measured >= limit - ROUNDING)


def _at_most(name: str, measured: float, limit: float) -> GateResult:
    return GateResult(name, measured, limit, measured <= limit + ROUNDING)


def _points(share: float) -> str:
    return f"{100 * share:+z.1f}"


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"there is no file {path}", hint="holdfast run -c FILE") from None
    return document
