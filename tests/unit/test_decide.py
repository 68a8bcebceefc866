import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from finished_stage import finish_stage
from holdfast.core.config import DecideConfig, RunConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import IntegrityError
from holdfast.core.rundir import RunDir, StageFolder
from holdfast.decide import EXIT_CODES, Decision, decide, run

PARITY = {"rows": 200, "identical": 200, "bos_ok": True, "stop_ok": True, "differences": []}
CONFUSION = {"high": {"high": 40, "low": 5}, "low": {"high": 5, "invalid": 2, "low": 68}}


def results(accuracy: float, valid: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"valid_json": valid, "label_accuracy": accuracy, "stopped": 1.0, "n": 120, "confusion": CONFUSION, **more}


def rung(name: str, accuracy: float) -> dict[str, Any]:
    return {"rung": name, "file": f"m-{name}.gguf", "valid_json": 1.0, "label_accuracy": accuracy, "n": 120}


def compared(estimate: float, low: float, high: float, p_value: float, **more: Any) -> dict[str, Any]:
    wins, losses = (60, 10) if estimate > 0 else (10, 60) if estimate < 0 else (10, 10)
    return {
        "metric": "label_accuracy", "items": 120, "wins": wins, "losses": losses, "ties": 120 - wins - losses,
        "p_value": p_value, "smallest_p_value": 1e-36,
        "difference": {"estimate": estimate, "low": low, "high": high, "confidence": 0.95, "method": "BCa bootstrap"},
        "sensitivity": {"power": 0.8, "minimum_detectable_effect": 0.1, "items_needed": 300, "more_items": 180}, **more,
    }  # fmt: skip


def forgetting(loss: float, *, significant: bool = True) -> dict[str, Any]:
    return {"baseline": 0.8, "tuned": 0.8 - loss, "n": 48, "loss": loss, "significant": significant}


BETTER = compared(0.4, 0.3, 0.5, 1e-9)


def verdict_of(
    comparison: dict[str, Any] = BETTER, tuned: float = 0.9, deployed: float = 0.9, **gates: Any
) -> Decision:
    rungs = [rung("F16", tuned), rung("Q4_K_M", deployed)]
    return decide(results(0.5), results(tuned), rungs[1], comparison, DecideConfig(**gates), parity=PARITY, rungs=rungs)


@pytest.mark.parametrize(
    ("items", "needed", "gates", "said"),
    [
        (5, 4, {}, "Next: 15 more test items; with fewer than 20 nothing is decided"),
        (5, 12, {"minimum_items": 1}, "Next: about 7 more test items would decide (12 in all"),
        (3, 2, {"minimum_items": 1}, "Next: 3 more test items; with fewer than 6 nothing is decided"),
        (120, 8, {"minimum_items": 500}, "Next: 380 more test items; with fewer than 500 nothing is decided"),
        (120, 700, {"minimum_items": 500}, "Next: about 580 more test items would decide (700 in all"),
        (5, None, {}, "Next: 15 more test items"),
        (40, 40, {}, "Next: more test items; what these show lies just at the limit"),
        (40, None, {}, "Next: more test items; too few of these tell the two models apart"),
    ],
)
def test_what_is_said_of_more_items_is_true(items: int, needed: int | None, gates: dict[str, Any], said: str) -> None:
    more = None if needed is None else max(0, needed - items)
    seen = {"power": 0.8, "minimum_detectable_effect": None, "items_needed": needed, "more_items": more}
    comparison = compared(0.04, -0.02, 0.1, 0.2, items=items, sensitivity=seen)
    decision = verdict_of(comparison, **gates)
    assert decision.verdict == "undecidable" and decision.reasons[-1].startswith(said)


@pytest.mark.parametrize(
    ("comparison", "gates", "verdict"),
    [
        (BETTER, {}, "keep"),
        (compared(0.05, 0.01, 0.09, 0.01), {}, "keep"),  # exactly the minimum gain
        (compared(0.04, 0.01, 0.09, 0.01), {}, "iterate"),  # better, but by less than was asked for
        (BETTER, {"minimum_score": 0.95}, "iterate"),
        (BETTER, {"minimum_score": 0.9, "minimum_valid_json": 1.0}, "keep"),
        (compared(-0.3, -0.4, -0.2, 1e-6), {}, "discard"),
        (compared(0.01, -0.02, 0.04, 0.7), {}, "discard"),  # the whole interval is below the minimum gain
        (compared(0.0, 0.0, 0.0, 1.0), {}, "discard"),
        (compared(0.0, 0.0, 0.0, 1.0), {"minimum_gain": 0}, "discard"),
        (compared(-0.03, -0.1, 0.06, 0.5), {}, "undecidable"),
        (compared(0.04, -0.02, 0.1, 0.2), {}, "undecidable"),
        (compared(0.04, 0.01, 0.09, 0.0625), {}, "undecidable"),  # the interval alone is not enough
        (compared(1.0, 1.0, 1.0, 0.0625, items=5, wins=5, losses=0), {}, "undecidable"),
        (compared(1.0, 1.0, 1.0, 0.03125, items=6, wins=6, losses=0), {"minimum_items": 6}, "keep"),
        (compared(1.0, 1.0, 1.0, 0.03125, items=6, wins=6, losses=0), {}, "undecidable"),
        (compared(1.0, 1.0, 1.0, 0.0078, items=8, wins=8, losses=0), {}, "undecidable"),
        (BETTER, {"minimum_items": 121}, "undecidable"),
        (compared(-1.0, -1.0, -1.0, 0.0625, items=5, wins=0, losses=5), {}, "undecidable"),
    ],
)
def test_verdict_table(comparison: dict[str, Any], gates: dict[str, Any], verdict: str) -> None:
    decision = verdict_of(comparison, **gates)
    assert decision.verdict == verdict
    assert decision.exit_code == {"keep": 0, "iterate": 10, "discard": 11, "undecidable": 12}[verdict]


def test_deployed_loss_at_the_limit_passes_and_above_it_fails() -> None:
    assert verdict_of(tuned=0.90, deployed=0.85).verdict == "keep"  # 0.90 - 0.85 > 0.05 in floating point
    failed = verdict_of(tuned=0.90, deployed=0.84)
    assert failed.verdict == "iterate"
    assert any("F16 still holds 90.0 %, Q4_K_M (84.0 %)" in r and "verify.deploy=F16" in r for r in failed.reasons)


def test_loss_in_f16_blames_the_merge() -> None:
    rungs = [rung("F16", 0.7), rung("Q4_K_M", 0.7)]
    for quantization, remedy in (("nf4", "train.adapter=lora"), ("none", "export.json")):
        tuned = results(0.9, quantization=quantization)
        decision = decide(results(0.5), tuned, rungs[1], BETTER, DecideConfig(), parity=PARITY, rungs=rungs)
        assert any("good only in transformers" in r and remedy in r for r in decision.reasons)


def test_where_the_merged_model_was_measured_merge_and_conversion_are_told_apart() -> None:
    rungs, tuned = [rung("F16", 0.7), rung("Q4_K_M", 0.7)], results(0.9, quantization="nf4")
    for share, cause in ((0.7, "merging costs it"), (0.9, "conversion costs it")):
        decision = decide(
            results(0.5), tuned, rungs[1], BETTER, DecideConfig(), parity=PARITY, rungs=rungs, merged=results(share)
        )
        assert [cause in reason for reason in decision.reasons].count(True) == 1
        assert any("export.merge_base" in reason for reason in decision.reasons) == (share == 0.7)


def test_deployed_file_must_reach_the_minimum_score_itself() -> None:
    decision = verdict_of(tuned=0.91, deployed=0.88, minimum_score=0.9)
    assert [gate.name for gate in decision.gates if not gate.passed] == ["minimum_score, deployed"]
    assert decision.verdict == "iterate"


@pytest.mark.parametrize(
    "broken", [{"identical": 199}, {"bos_ok": False}, {"stop_ok": False}, {"rows": 0, "identical": 0}]
)
def test_broken_parity_is_never_kept(broken: dict[str, Any]) -> None:
    parity = {**PARITY, **broken}
    decision = decide(results(0.5), results(0.9), rung("F16", 0.9), BETTER, DecideConfig(), parity=parity)
    assert decision.verdict == "iterate"
    assert decision.gates[-1].name == "token parity" and not decision.gates[-1].passed


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        (results(0.5, confusion={"high": {"high": 60}, "low": {"high": 20, "low": 40}}), "'high' is 66.7 %"),
        (
            results(0.5, confusion={"high": {"high": 80}, "low": {"low": 40}}),
            "sharper rubric",
        ),  # the truth is as lopsided
        (results(0.5), "'high' is answered as 'low', 5 times"),
        (results(0.5, valid=0.6), "more epochs"),
        (results(0.5, valid=0.6, stopped=0.2), "end token"),
        (results(0.95), "items that were lost"),
        (results(0.5, confusion={"b": {"b": 9, "a": 0}, "a": {"b": 0, "a": 9}}), "(50.0 % right). Next"),
        (results(0.95, confusion={}), "items that were lost"),
        (results(0.5, confusion={}), "sharper rubric"),
    ],
)
def test_discard_names_the_next_change_from_the_failure_pattern(tuned: dict[str, Any], words: str) -> None:
    worse = compared(-0.1, -0.2, -0.05, 0.001)
    deployed = rung("F16", tuned["label_accuracy"])
    decision = decide(results(0.6), tuned, deployed, worse, DecideConfig(), parity=PARITY, rungs=[deployed])
    assert decision.verdict == "discard"
    assert any(words in reason for reason in decision.reasons), decision.reasons


def test_undecidable_says_how_many_items_would_decide() -> None:
    assert any("180 more test items" in r for r in verdict_of(compared(0.04, -0.02, 0.1, 0.2)).reasons)
    few = verdict_of(compared(1.0, 1.0, 1.0, 0.0625, items=5, wins=5, losses=0))
    assert any("5 items are too few" in r and "at least 6" in r for r in few.reasons)


def test_reasons_are_sentences_with_figures() -> None:
    reasons = verdict_of().reasons
    assert all(reason.endswith(".") and reason[0] in reason[0].upper() + "l" for reason in reasons)
    assert "from 50.0 % to 90.0 %" in reasons[0] and "+30.0 to +50.0" in reasons[0] and "p = 1e-09" in reasons[0]


@settings(max_examples=200)
@given(
    st.integers(1, 300), st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1),
    st.floats(0, 1),
)  # fmt: skip
def test_keep_always_means_evidence(
    items: int, cuts: tuple[float, float, float], p_value: float, tuned: float, deployed: float, gain: float
) -> None:
    low, estimate, high = sorted(cuts)
    comparison = compared(estimate, low, high, p_value, items=items)
    decision = verdict_of(comparison, tuned=tuned, deployed=deployed, minimum_gain=gain)
    assert decision.exit_code == EXIT_CODES[decision.verdict]
    if decision.verdict == "keep":
        assert items >= 20 and low > 0 and p_value < 0.05 and estimate >= gain - 1e-9
        assert all(gate.passed for gate in decision.gates)
    if decision.verdict in ("iterate", "discard"):
        assert "Next:" in " ".join(decision.reasons)


def with_labels(right: int, wrong: int) -> dict[str, Any]:
    """60 items of each of two labels; in each `right` and `wrong` ones, the rest is invalid."""
    table = {"high": {"high": right, "low": wrong}, "low": {"low": right, "high": wrong}}
    for row in table.values():
        row["invalid"] = 60 - right - wrong
    return results(right / 60, confusion=table)


@pytest.mark.parametrize(
    ("right", "wrong", "verdict"), [(30, 30, "discard"), (32, 28, "discard"), (50, 10, "keep"), (20, 0, "discard")]
)
def test_form_without_labels_is_not_kept(right: int, wrong: int, verdict: str) -> None:
    tuned = with_labels(right, wrong)
    line = rung("Q4_K_M", tuned["label_accuracy"])
    decision = decide(results(0.0), tuned, line, BETTER, DecideConfig(), parity=PARITY)
    assert decision.verdict == verdict
    assert ("Form is learned, labels are not" in decision.reasons[1]) == (verdict != "keep")


@pytest.mark.parametrize(
    ("difference", "p_value", "verdict"), [(-0.4, 1e-5, "iterate"), (-0.4, 0.3, "keep"), (-0.02, 0.01, "keep")]
)
def test_better_form_does_not_hide_worse_labels(difference: float, p_value: float, verdict: str) -> None:
    both = {"items": 60, "wins": 0, "losses": 24, "p_value": p_value, "difference": difference}
    assert verdict_of(BETTER | {"both_valid": both}).verdict == verdict


@pytest.mark.parametrize(
    ("loss", "significant", "verdict"), [(0.1, True, "keep"), (0.11, True, "iterate"), (0.11, False, "keep")]
)
def test_forgetting_more_than_allowed_is_not_kept(loss: float, significant: bool, verdict: str) -> None:
    line = rung("Q4_K_M", 0.9)
    decision = decide(
        results(0.5), results(0.9), line, BETTER, DecideConfig(), parity=PARITY,
        forgetting=forgetting(loss, significant=significant),
    )  # fmt: skip
    assert decision.verdict == verdict
    assert ("Training cost general abilities" in " ".join(decision.reasons)) == (verdict == "iterate")


def make_context(folder: Path, **sections: Any) -> StageContext:
    documents: dict[str, dict[str, Any]] = {
        "baseline": {"results.json": results(0.5)},
        "evaluate": {"results.json": results(0.9), "comparison.json": {**BETTER, "rows": [{"id": "a"}]},
                     "forgetting.json": forgetting(0.05), "slices.json": {"slices": []}},
        "train": {"losses.json": {"valid": [], "epochs": 3}},
        "verify": {"ladder.json": {"rungs": [rung("F16", 0.9), rung("Q4_K_M", 0.88)], "deploy": "Q4_K_M"},
                   "parity.json": PARITY},
        "prepare": {"report.json": {"split_proof": {
            "largest": {"similarity": 0.41}, "method": "exact", "threshold": 0.8}}},
    }  # fmt: skip
    for stage, files in documents.items():
        (folder / stage).mkdir()
        for name, document in files.items():
            (folder / stage / name).write_text(json.dumps(document))
    (folder / "export").mkdir()
    for name in ("F16", "Q4_K_M"):
        (folder / "export" / f"m-{name}.gguf").write_text(name)
    finish_stage(folder / "export", "export", {})
    config = RunConfig.model_validate({"name": "triage", "collect": {"sources": [{"path": "a"}]}, **sections})
    inputs = {stage: folder / stage for stage in (*documents, "export")}
    return StageContext(config, StageFolder(folder / "out"), inputs, Console(quiet=True), RunDir(folder))


def test_stage_writes_the_decision_and_a_page(tmp_path: Path) -> None:
    run(make_context(tmp_path))
    document = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert (document["verdict"], document["exit_code"], document["items"]) == ("keep", 0, 120)
    assert document["deployed"]["Q4_K_M"] == {"valid_json": 1.0, "label_accuracy": 0.88, "n": 120}
    assert document["tuned"] == {"valid_json": 1.0, "label_accuracy": 0.9, "n": 120}
    assert document["difference"]["low"] == 0.3 and "rows" not in document
    page = (tmp_path / "out" / "decision.md").read_text()
    assert page.startswith("# triage: keep\n")
    assert "| Q4_K_M, deployed | 100.0 % | 88.0 % | 120 |" in page
    assert "120 independent items find a difference of 10.0 points or more with 80.0 % power" in page
    assert "300 are needed: 180 more." in page
    assert "| low | 5 | 68 | 2 |" in page and "similarity across splits is 0.41" in page


def test_the_page_says_that_no_limit_of_similarity_was_set(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    report = tmp_path / "prepare" / "report.json"
    report.write_text(report.read_text().replace("0.8", "null"))
    run(context)
    assert "0.41 (exact; no limit was set)" in (tmp_path / "out" / "decision.md").read_text()


def test_stage_does_not_raise_for_a_bad_verdict(tmp_path: Path) -> None:
    run(make_context(tmp_path, decide={"minimum_score": 1.0}))
    assert json.loads((tmp_path / "out" / "decision.json").read_text())["exit_code"] == 10


def test_a_file_that_changed_since_it_was_measured_is_not_decided_about(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    (tmp_path / "export" / "m-Q4_K_M.gguf").write_text("q4_k_m")
    with pytest.raises(IntegrityError, match=r"m-Q4_K_M\.gguf is not the file that was measured"):
        run(context)
    assert not (tmp_path / "out" / "decision.json").exists()


def test_items_that_repeat_each_other_are_too_few_however_many_they_are() -> None:
    decision = verdict_of(BETTER | {"independent": 12})
    assert decision.verdict == "undecidable"
    assert any("12 test items (of 120; the others repeat them) are too few" in r for r in decision.reasons)
    assert "on 120 items (12 independent)" in decision.reasons[0]


def test_test_items_of_one_label_only_decide_nothing() -> None:
    one = results(1.0, confusion={"high": {"high": 120}})
    decision = decide(results(0.5), one, rung("F16", 1.0), BETTER, DecideConfig(), parity=PARITY)
    assert decision.verdict == "undecidable"
    assert any("All 120 test items have the label 'high'" in r for r in decision.reasons)
    assert "test items of the other labels" in decision.reasons[-1]
    by_form = DecideConfig(primary="valid_json")
    assert decide(results(0.5), one, rung("F16", 1.0), BETTER, by_form, parity=PARITY).verdict == "keep"


def test_missing_rung_and_missing_file_are_integrity_errors(tmp_path: Path) -> None:
    context = make_context(tmp_path, verify={"deploy": "Q8_0"})
    with pytest.raises(IntegrityError, match="F16, Q4_K_M, but Q8_0"):
        run(context)
    (tmp_path / "verify" / "parity.json").unlink()
    with pytest.raises(IntegrityError, match=r"no file .*parity\.json"):
        run(context)


def test_a_slice_that_got_worse_is_not_kept(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    slices = {"slices": [{"difference": -0.4, "regressed": True}, {"difference": -0.9, "regressed": False}]}
    (tmp_path / "evaluate" / "slices.json").write_text(json.dumps(slices))
    run(context)
    document = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert document["verdict"] == "iterate"
    assert "Gate maximum_slice_regression failed: measured 40.0 %" in " ".join(document["reasons"])


def test_a_rising_validation_loss_and_a_slow_answer_are_told_in_the_reasons(tmp_path: Path) -> None:
    context = make_context(tmp_path, decide={"maximum_first_token_seconds": 0.1})
    losses = [{"epoch": epoch, "loss": loss} for epoch, loss in ((1, 2.0), (2, 1.0), (3, 1.6))]
    (tmp_path / "train" / "losses.json").write_text(json.dumps({"valid": losses, "epochs": 3}))
    ladder = json.loads((tmp_path / "verify" / "ladder.json").read_text())
    ladder["rungs"] = [line | {"median_first_token_seconds": 0.5} for line in ladder["rungs"]]
    (tmp_path / "verify" / "ladder.json").write_text(json.dumps(ladder))
    run(context)
    document = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert document["verdict"] == "iterate"
    reasons = " ".join(document["reasons"])
    assert "Gate maximum_first_token_seconds failed: measured 0.5 s, at most 0.1 s" in reasons
    assert "lowest after 2 epochs" in reasons
    assert "| maximum_first_token_seconds | 0.5 s | 0.1 s | **no** |" in (tmp_path / "out" / "decision.md").read_text()


def test_a_score_of_the_contract_may_decide() -> None:
    before, after = results(0.5) | {"close": 0.2}, results(0.5) | {"close": 0.9}
    line = rung("Q4_K_M", 0.5) | {"close": 0.7}
    gates = DecideConfig(primary="close")
    decision = decide(before, after, line, {**BETTER, "metric": "close"}, gates, parity=PARITY, rungs=[line])
    assert decision.verdict == "iterate"
    lost = next(gate for gate in decision.gates if gate.name == "maximum_deployed_loss")
    assert (round(lost.measured, 6), lost.passed) == (0.2, False)
    assert (
        decide(before, after, line | {"close": 0.9}, {**BETTER, "metric": "close"}, gates, parity=PARITY).verdict
        == "keep"
    )


def test_a_run_with_a_knowledge_base_is_decided_by_it() -> None:
    gates = DecideConfig(primary="knowledge", minimum_gain=0.3, minimum_score=0.7)
    tuned = {**results(0.1), "knowledge": 0.9, "problems": {"places": 12}, "confusion": {}}
    deployed = {**rung("Q8_0", 0.0), "knowledge": 0.88}
    baseline = {**results(0.0), "knowledge": 0.0, "problems": {"sections": 120}, "confusion": {}}
    better = compared(0.9, 0.84, 0.95, 1e-20, metric="knowledge")
    decision = decide(baseline, tuned, deployed, better, gates, parity=PARITY, rungs=[deployed])
    assert decision.verdict == "keep"
    assert decision.reasons[0].startswith("knowledge went from 0.0 % to 90.0 %")


def test_weak_knowledge_names_what_is_wrong_most_often() -> None:
    gates = DecideConfig(primary="knowledge", minimum_gain=0.3, minimum_score=0.7)
    tuned = {**results(0.1), "knowledge": 0.5, "problems": {"figures": 3, "places": 60}, "confusion": {}}
    deployed = {**rung("Q8_0", 0.0), "knowledge": 0.4}
    baseline = {**results(0.0), "knowledge": 0.0, "confusion": {}}
    better = compared(0.5, 0.4, 0.6, 1e-9, metric="knowledge")
    decision = decide(baseline, tuned, deployed, better, gates, parity=PARITY, rungs=[deployed])
    assert decision.verdict == "iterate"
    text = " ".join(decision.reasons)
    assert "most often wrong: places (60 items), figures (3 items)" in text
    assert "Q8_0 (40.0 %)" in text


@pytest.mark.parametrize("alpha", [0.0, 1e-30, 0.9, 1.0])
def test_a_limit_that_the_bootstrap_cannot_reach_or_that_says_nothing_is_refused(alpha: float) -> None:
    with pytest.raises(ValidationError, match="alpha"):
        DecideConfig(alpha=alpha)
