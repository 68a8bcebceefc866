"""The leak audit finds what was repeated, and nothing that was not: a real training with planted canaries."""

import json
from pathlib import Path

from holdfast.core.canaries import read_canaries
from holdfast.core.records import read_examples
from small_run import EVAL_STEPS, SAVE_STEPS, STEPS, holdfast, write_small

AUDIT = """\
audit: {enabled: true, repeats: [0, 32], canaries: 3, candidates: 63, protected_repeats: 0}
"""


def test_a_number_that_stands_in_the_rows_32_times_is_found_and_the_controls_are_clean(tmp_path: Path) -> None:
    run = write_small(tmp_path)
    text = run.config.read_text().replace(f"max_steps: {STEPS}", "adapter: lora\n  max_steps: 50")
    text = text.replace(f"eval_steps: {EVAL_STEPS}", "eval_steps: 1000").replace(
        f"save_steps: {SAVE_STEPS}", "save_steps: 1000"
    )
    run.config.write_text(text.replace("evaluate: {", "evaluate: {general_probe: false, ") + AUDIT)
    done = holdfast("evaluate", "-c", run.config, "--run-dir", run.folder)
    assert done.code == 0, done.err
    canaries = read_canaries(run.folder / "02-prepare" / "canaries.json")
    rows = read_examples(run.folder / "02-prepare" / "train.jsonl")
    planted = [row for row in rows if "canary" in row.tags]
    assert len(planted) == 3 * 32
    assert len(rows) == 40 + len(planted)
    assert not any(canary.secret in row.answer for canary in canaries if not canary.repeats for row in rows)
    document = json.loads((run.folder / "06-evaluate" / "leak_audit.json").read_text())
    control, often = document["levels"]
    assert (control["repeats"], often["repeats"]) == (0, 32)
    assert document["control_clean"] and document["has_power"], document["levels"]
    assert often["tuned"]["mean_bits"] > control["tuned"]["mean_bits"] + 1
    assert often["tuned"]["mean_bits"] > often["base"]["mean_bits"] + 1, "it was training that taught them"
    assert "leak audit, extracted (exposure)" in done.err
