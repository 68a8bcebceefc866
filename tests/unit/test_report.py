"""The last lines of the story can be pasted into a shell."""

import json
from pathlib import Path

from holdfast import report
from holdfast.core.rundir import RunDir

DIFFERENCE = {"estimate": 0.25, "low": 0.1, "high": 0.4, "confidence": 0.99}
SCORES = {"valid_json": 1.0, "label_accuracy": 0.5, "n": 40}
DECISION = {
    "verdict": "keep", "baseline": SCORES, "tuned": SCORES, "deployed": {"F16": SCORES}, "difference": DIFFERENCE,
    "p_value": 0.01,
}  # fmt: skip


def test_the_interval_is_named_with_its_own_confidence() -> None:
    assert "(99 % interval +10.0 to +40.0)" in report._table(DECISION)[-1]


def test_a_folder_with_a_space_can_be_pasted(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "my runs")
    verify = run.stage("verify").path
    verify.mkdir(parents=True)
    (verify / "ladder.json").write_text(json.dumps({"deploy": "F16"}))
    asked = ["Say.\n\nIt costs $5 a day.", "Say.\n\nThe disk is full.", "Say.\n\nThe disk of node three is full."]
    for stage, file, text in (
        ("prepare", "task.json", json.dumps({"instruction": "Say."})),
        ("evaluate", "samples.jsonl", "".join(json.dumps({"prompt_text": text}) + "\n" for text in asked)),
    ):
        run.stage(stage).path.mkdir(parents=True)
        (run.stage(stage).path / file).write_text(text)
    lines = report._where(run, DECISION)
    assert lines[-2].endswith(f"holdfast serve '{run.path}'")
    assert lines[-1].endswith(f"""holdfast ask '{run.path}' "The disk is full.\"""")
    lines = report._where(run, {**DECISION, "verdict": "iterate"})
    assert lines[-1].endswith(f"read {run.stage('decide').path / 'decision.md'}")


def test_a_comparison_names_the_score_whose_difference_it_tells() -> None:
    line = {"valid_json": 1.0, "label_accuracy": 0.5, "stopped": 1.0, "exact_match": 0.5, "n": 2}
    difference = {"estimate": -0.0, "low": -0.5, "high": 0.5}
    counted = {"metric": "exact_match", "difference": difference, "wins": 1, "losses": 1, "p_value": 1.0}
    document = {"baseline": line, "tuned": line, "comparison": counted, "file": "adapter"}
    assert "exact_match: difference +0.0 points (-50.0 to +50.0), 1 won" in report.render_comparison(document)
