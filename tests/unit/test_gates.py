import json
from typing import Any

import pytest

from holdfast.core.audit_config import AuditConfig
from holdfast.core.canaries import describe_canaries, draw_canaries, planted_rows, read_canaries
from holdfast.core.config import DecideConfig
from holdfast.evaluate.leak_audit import Known, clopper_pearson, describe, describe_audit, exposure, says
from holdfast.evaluate.redacted import find_redacted_values
from holdfast.gates import GateResult, advice, latency_gate, leak_gate, overfitted, redacted_gate, slice_gate
from holdfast.redact.digests import Masked

AUDIT = AuditConfig(enabled=True, candidates=255)
CANARIES = draw_canaries(AUDIT)


def slices(*found: tuple[float, bool]) -> dict[str, Any]:
    return {"slices": [{"difference": d, "regressed": r} for d, r in found]}


def test_a_slice_fails_the_gate_only_when_it_lost_significantly_and_too_much() -> None:
    gates = DecideConfig(maximum_slice_regression=0.1)
    assert slice_gate(slices((-0.5, False), (0.3, False)), gates).passed
    assert slice_gate(slices((-0.1, True)), gates).passed
    failed = slice_gate(slices((-0.2, True), (-0.3, True)), gates)
    assert (failed.passed, failed.measured) == (False, 0.3)
    assert "slices.json" in advice([failed])[0]


def test_latency_is_a_gate_only_with_a_limit_and_is_told_in_seconds() -> None:
    deployed = {"median_first_token_seconds": 0.25}
    assert latency_gate(deployed, DecideConfig()) is None
    assert latency_gate(deployed, DecideConfig(maximum_first_token_seconds=0.25)).passed  # type: ignore[union-attr]
    failed = latency_gate(deployed, DecideConfig(maximum_first_token_seconds=0.2))
    assert failed is not None and not failed.passed
    assert failed.say(failed.measured) == "0.25 s"
    assert GateResult("x", 0.5, 0.5, True).say(0.5) == "50.0 %"
    assert GateResult("x", -0.0, 0.5, True).say(-0.0001) == "0.0 %"  # not "-0.0 %"


def losses(*values: float) -> list[dict[str, float]]:
    return [{"epoch": 0.5 * (n + 1), "loss": value} for n, value in enumerate(values)]


def test_a_validation_loss_that_rises_again_asks_for_fewer_epochs() -> None:
    sentence = overfitted(losses(2.0, 1.0, 1.2, 1.5))
    assert sentence is not None and "lowest after 1 epochs (1)" in sentence and "train.num_epochs=1)" in sentence
    assert overfitted(losses(2.0, 1.0, 1.04)) is None, "within 5 %"
    assert overfitted(losses(2.0, 1.5, 1.0)) is None
    assert overfitted(losses(1.0, 2.0)) is None, "two measurements are no curve"


def test_canaries_come_from_the_seed_alone_and_controls_are_never_planted() -> None:
    assert CANARIES == draw_canaries(AUDIT) != draw_canaries(AuditConfig(seed=1))
    assert len({canary.question for canary in CANARIES}) == len({canary.secret for canary in CANARIES}) == 16
    rows = planted_rows(CANARIES, "Be brief.")
    assert len(rows) == 4 * (0 + 1 + 4 + 16)
    text = "\n".join(row.answer for row in rows)
    for canary in CANARIES:
        assert text.count(canary.secret) == canary.repeats
        assert len(canary.secret) == AUDIT.digits
    assert {row.split for row in rows} == {"train"}
    assert all(row.messages[0].content == "Be brief." for row in rows)


def test_canaries_are_read_back_as_they_were_planted(tmp_path: Any) -> None:
    (tmp_path / "canaries.json").write_text(json.dumps(describe_canaries(AUDIT, CANARIES)))
    assert read_canaries(tmp_path / "canaries.json") == CANARIES


@pytest.mark.parametrize("repeats", [(1, 4), (0,), (0, 1, 1)])
def test_a_ladder_without_a_control_is_refused(repeats: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="control level 0"):
        AuditConfig(repeats=repeats)


def known(found_from: int, *, controls: bool = False) -> list[Known]:
    """A model that knows every canary with at least so many repeats."""
    return [
        Known(c, 1, ("prefix",)) if c.repeats >= found_from or (controls and not c.repeats) else
        Known(c, 128 + place, ()) for place, c in enumerate(CANARIES)
    ]  # fmt: skip


def test_a_model_that_knows_only_what_was_often_repeated_passes() -> None:
    document = describe_audit(AUDIT, known(99), known(16), epochs=3)
    assert (document["control_clean"], document["has_power"]) == (True, True)
    assert leak_gate(document, AUDIT).passed
    assert [level["tuned"]["extracted"] for level in document["levels"]] == [0, 0, 0, 4]
    assert document["levels"][3]["tuned"]["mean_bits"] == document["exposure_cap_bits"] == 8.0
    assert "none of 8 numbers planted at most 1 times" in describe(document)


def test_a_number_planted_once_that_comes_out_fails_the_gate() -> None:
    document = describe_audit(AUDIT, known(99), known(1), epochs=3)
    gate = leak_gate(document, AUDIT)
    assert (gate.passed, gate.measured) == (False, 0.5)
    assert document["finding"].startswith("leak: 4 of 8")


@pytest.mark.parametrize("base_knows", [True, False])
def test_an_audit_whose_controls_are_unclean_is_not_valid(base_knows: bool) -> None:
    base = known(4) if base_knows else known(99)
    tuned = known(16) if base_knows else known(16, controls=True)
    document = describe_audit(AUDIT, base, tuned, epochs=3)
    assert not document["control_clean"]
    assert document["finding"].startswith("not valid")
    assert not leak_gate(document, AuditConfig(enabled=True, maximum_extracted=1)).passed


def test_an_audit_that_finds_nothing_anywhere_says_that_it_has_no_power() -> None:
    document = describe_audit(AUDIT, known(99), known(99), epochs=3)
    assert not document["has_power"]
    assert document["finding"].startswith("no power: even 16 repeats")


def test_an_output_gives_a_number_away_when_it_says_it_or_goes_on_with_it() -> None:
    canary = CANARIES[0]
    half = canary.secret[4:]
    assert says(canary, "question", f"It is {canary.secret}.")
    assert not says(canary, "question", f"It is {half}.")
    assert says(canary, "half", half + ".")
    assert not says(canary, "half", " " + half)


def test_exposure_and_intervals_are_those_of_their_definitions() -> None:
    assert [exposure(rank, AUDIT) for rank in (1, 2, 256)] == [8.0, 7.0, 0.0]
    assert clopper_pearson(0, 4) == pytest.approx((0.0, 0.6024), abs=1e-4)
    assert clopper_pearson(4, 4) == pytest.approx((0.3976, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("output", "hit"),
    [
        ("Call Jane Roe now.", True), ("token=hunter2;", True), ("ssh root@10.1.2.3:22", True), ("(10.1.2.3)", True),
        ("Call Jane.", False), ("hunter 2", False), ("", False),
    ],
)  # fmt: skip
def test_an_answer_with_a_redacted_value_is_counted_by_digest_alone(output: str, hit: bool) -> None:
    masked = Masked({value.encode() for value in ("jane roe", "hunter2", "10.1.2.3")}, str.encode)
    document = find_redacted_values([{"id": "a", "output": output}], masked)
    assert document["answers"] == hit
    assert redacted_gate(document).passed is not hit
    assert "Jane" not in json.dumps(document)
