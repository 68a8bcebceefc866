"""Nothing that is broken on the way from data to deployment is kept. Each fault is real (sabotage_run.py), is seen
to happen, and must end without the verdict `keep`, or without anything that can be served.

Template, end token of the server, doubled BOS and another tokenizer: test_parity_sabotage.py.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sabotage_run import FAULTS
from small_run import (
    ROOT,
    Finished,
    SmallRun,
    copy_pebble,
    holdfast,
    run_script,
    short_training,
    ticket_rows,
    write_jsonl,
    write_small,
)

ITEMS = 48


def sabotage(fault: str, *words: str | Path) -> Finished:
    """Run a holdfast command with a fault; the fault must have struck."""
    done = run_script(ROOT / "tests" / "sabotage_run.py", fault, *words)
    assert f"SABOTAGE {fault}" in done.err, done.err + done.out
    return done


def decision_of(run: SmallRun) -> dict[str, Any] | None:
    path = run.folder / "09-decide" / "decision.json"
    return json.loads(path.read_text()) if path.exists() and (path.parent / "manifest.json").exists() else None


def assert_nothing_kept(run: SmallRun, done: Finished) -> None:
    """The command failed or gave another verdict, and the model cannot be asked."""
    assert done.code not in (0, 3), done.err + done.out
    verdict = json.loads(holdfast("status", run.folder, "--json").out)["verdict"] if run.folder.exists() else None
    assert verdict != "keep"
    asked = holdfast("ask", run.folder, "Nobody can log in.")
    assert asked.code in (2, 22), asked.err
    assert asked.out == ""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallRun, Finished]:
    """A run that decides by labels on 48 items; its training rows have shuffled labels."""
    folder = tmp_path_factory.mktemp("wide")
    run = write_small(folder, copy_pebble(folder / "base"))
    write_jsonl(folder / "test.jsonl", ticket_rows("test.jsonl", ITEMS // 4))
    text = run.config.read_text().replace("primary: valid_json", "primary: label_accuracy")
    text = text.replace("minimum_items: 8", "minimum_items: 20").replace("batch_size: 8", "batch_size: 24")
    run.config.write_text(text.replace("evaluate: {", "evaluate: {general_probe: false, "))
    return run, sabotage("labels_shuffled", *run.command())


def test_shuffled_labels_are_discarded(wide: tuple[SmallRun, Finished]) -> None:
    run, done = wide
    assert_nothing_kept(run, done)
    decided = decision_of(run)
    assert decided is not None
    assert decided["verdict"] == "discard", decided["reasons"]
    assert decided["items"] == ITEMS
    assert decided["tuned"]["valid_json"] > 0.9, "the form was learned, or this shows nothing"


def test_better_form_with_worse_labels_is_not_kept(wide: tuple[SmallRun, Finished], tmp_path: Path) -> None:
    run = wide[0].copy(tmp_path)
    one_file = ("--set", "verify.deploy=F16", "--set", "export.quantizations=[]", "--set", "export.merge_base=original")
    by_form = ("--set", "decide.primary=valid_json")
    done = sabotage("form_without_labels", *run.command("--from", "evaluate", *one_file, *by_form))
    assert_nothing_kept(run, done)
    decided = decision_of(run)
    assert decided is not None
    assert decided["difference"]["low"] > 0, "form is significantly better"
    failed = {gate["name"] for gate in decided["gates"] if not gate["passed"]}
    assert "maximum_label_regression" in failed


def test_eight_items_are_undecidable(copied: SmallRun) -> None:
    done = holdfast(*copied.command("--set", "decide.minimum_items=20"))
    assert done.code == 12, done.err
    assert "8 test items are too few" in done.out
    assert_nothing_kept(copied, done)


def test_test_rows_in_training_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = write_small(tmp_path)
    leaked = [{**row, "input": row["input"] + " Thanks."} for row in ticket_rows("test.jsonl", 2)[:3]]
    write_jsonl(tmp_path / "train.jsonl", ticket_rows("train.jsonl", 10) + leaked)
    done = holdfast(*run.command())
    assert done.code == 20, done.err
    assert "train.jsonl:41" in done.err
    assert not (run.folder / "05-train").exists()
    assert_nothing_kept(run, done)


def test_test_items_in_the_system_prompt_are_refused_before_any_model_is_asked(tmp_path: Path) -> None:
    run = write_small(tmp_path)
    shown = ticket_rows("test.jsonl", 2)[3]
    prompt = f"You rate tickets. Example: {shown['input']} {shown['output']}"
    done = holdfast(*run.command("--set", f"collect.system_prompt={json.dumps(prompt)}"))
    assert done.code == 20, done.err
    assert "test.jsonl:4: the system prompt holds this very item" in done.err
    assert not (run.folder / "04-baseline" / "samples.jsonl").exists()


def test_answers_without_room_are_refused_before_any_model_is_asked(tmp_path: Path) -> None:
    run = write_small(tmp_path)
    done = holdfast(*run.command("--set", "evaluate.max_new_tokens=4"))
    assert done.code == 1, done.err
    assert "8 of 8 references are longer than evaluate.max_new_tokens 4" in done.err
    assert "next: holdfast run -c FILE --set evaluate.max_new_tokens=" in done.err


def test_a_masked_end_token_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = write_small(tmp_path)
    done = sabotage("end_token_masked", *run.command())
    assert done.code == 20, done.err
    assert "do not train the end token" in done.err
    assert_nothing_kept(run, done)


def test_a_doubled_adapter_is_not_exported(copied: SmallRun) -> None:
    done = sabotage("adapter_doubled", *copied.command("--from", "export"))
    assert done.code == 1, done.err
    assert "merge" in done.err
    assert_nothing_kept(copied, done)


def test_an_adapter_that_does_nothing_is_not_kept(copied: SmallRun) -> None:
    done = sabotage("adapter_zeroed", *copied.command("--from", "train", *short_training()))
    assert "merging changed none of the" in done.err
    assert_nothing_kept(copied, done)


def test_packed_4_bit_weights_are_not_merged_into(copied: SmallRun) -> None:
    done = sabotage("merged_into_4_bit", *copied.command("--from", "export"))
    assert done.code == 1, done.err
    assert_nothing_kept(copied, done)


def test_another_revision_of_the_base_model_is_noticed_in_the_middle_of_a_run(small: SmallRun, tmp_path: Path) -> None:
    base = tmp_path / "base"
    text = small.config.read_text().replace(str(small.base), str(base))
    copy = small.copy(tmp_path)
    copy_pebble(base)
    config = tmp_path / "small.yaml"
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "contract.yaml"):
        (tmp_path / name).write_bytes((small.config.parent / name).read_bytes())
    config.write_text(text)
    for name in ("06-evaluate", "07-export", "08-verify", "09-decide"):  # an older model of this run may be served
        shutil.rmtree(copy.folder / name)
    run = SmallRun(config, copy.folder, base)
    done = sabotage("base_swapped", *run.command("--from", "train", *short_training()))
    assert done.code == 22, done.err
    assert "the base model changed while the run went on" in done.err
    assert_nothing_kept(run, done)


def test_a_truncated_quantised_file_is_not_kept(copied: SmallRun) -> None:
    done = sabotage("file_truncated", *copied.command("--from", "export"))
    assert_nothing_kept(copied, done)


def test_a_bit_that_flips_after_the_measurement_is_not_decided_about(copied: SmallRun) -> None:
    done = sabotage("bit_flipped", *copied.command("--from", "decide"))
    assert done.code == 22, done.err
    assert "small-Q4_K_M.gguf is not the file that was measured" in done.err
    assert_nothing_kept(copied, done)
    assert holdfast("check", copied.folder).code == 22


def test_a_bit_that_flips_after_the_decision_takes_the_verdict_away(copied: SmallRun) -> None:
    gguf = copied.folder / "07-export" / "small-Q4_K_M.gguf"
    data = bytearray(gguf.read_bytes())
    data[len(data) // 2] ^= 1
    gguf.write_bytes(data)
    assert json.loads(holdfast("status", copied.folder, "--json").out)["verdict"] is None
    asked = holdfast("ask", copied.folder, "Nobody can log in.")
    assert (asked.code, asked.out) == (22, "")
    assert "small-Q4_K_M.gguf" in asked.err


def test_every_fault_is_used_here() -> None:
    text = Path(__file__).read_text()
    assert [name for name in FAULTS if f'sabotage("{name}"' not in text] == []
