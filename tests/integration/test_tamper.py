"""One changed byte in any product: `check` names the file, `run` rebuilds its stage, `serve` refuses it."""

import json
import os
from pathlib import Path

import pytest

from holdfast.core.manifest import read_manifest
from holdfast.pipeline import STAGES
from small_run import SmallRun, holdfast

NAMES = [stage.name for stage in STAGES]
KINDS = {
    "collect": ["examples.jsonl", "collect.json", "redaction.json", "redacted.bin"],
    "prepare": ["train.jsonl", "valid.jsonl", "test.jsonl", "split.lock", "task.json", "lengths.json",
                "repeats.json", "report.json", "report.html"],
    "plan": ["plan.json", "settings.json", "device.json", "evaluate.json"],
    "baseline": ["samples.jsonl", "results.json", "timing.json", "general.jsonl"],
    "train": ["settings.json", "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "trainer_log.jsonl",
              "training.json", "training_loss.png", "checkpoint-12/optimizer.pt"],
    "evaluate": ["samples.jsonl", "results.json", "comparison.json", "forgetting.json", "slices.json"],
    "export": ["merged/model-00001-of-00002.safetensors", "small-F16.gguf", "small-Q4_K_M.gguf", "Modelfile",
               "README.md", "export.json", "SHA256SUMS"],
    "verify": ["ladder.json", "parity.json", "samples-F16.jsonl", "samples-Q4_K_M.jsonl"],
    "decide": ["decision.json", "decision.md", "report.html"],
}  # fmt: skip
# stage → a product to damage. What is measured anew with the same result is not used again, whatever time it took.
REBUILT = {
    "collect": "examples.jsonl", "prepare": "test.jsonl", "plan": "settings.json", "baseline": "samples.jsonl",
    "train": "adapter/adapter_model.safetensors", "evaluate": "comparison.json", "export": "small-Q4_K_M.gguf",
    "decide": "decision.json",
}  # fmt: skip


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def stage_folder(run: SmallRun, stage: str) -> Path:
    return run.folder / f"{NAMES.index(stage) + 1:02d}-{stage}"


def test_one_flipped_byte_in_every_kind_of_product_is_named_by_check(copied: SmallRun) -> None:
    files = [stage_folder(copied, stage) / name for stage, names in KINDS.items() for name in names]
    before = holdfast("check", copied.folder, "--json")
    assert before.code == 0, before.err
    for path in files:
        flip(path)
    done = holdfast("check", copied.folder)
    assert done.code == 22, done.err
    assert f"{len(files)} files are not what the manifests say" in done.err
    for path in files:
        assert f"{path}: changed" in done.err
    assert "next: holdfast run -c FILE" in done.err


def test_every_kind_of_product_is_tried_above(small: SmallRun) -> None:
    for stage in NAMES:
        manifest = read_manifest(stage_folder(small, stage))
        assert manifest is not None
        assert set(KINDS[stage]) <= set(manifest.products), stage
        kinds = {Path(name).suffix for name in KINDS[stage]}
        own = [name for name in manifest.products if not name.startswith(("checkpoint-", "logs/", "merged/"))]
        assert {Path(name).suffix for name in own} <= kinds, stage


def test_a_missing_and_an_added_file_are_named_by_check(copied: SmallRun) -> None:
    (stage_folder(copied, "verify") / "parity.json").unlink()
    (stage_folder(copied, "export") / "more.gguf").write_bytes(b"GGUF")
    done = holdfast("check", copied.folder)
    assert done.code == 22, done.err
    assert "08-verify/parity.json: missing" in done.err
    assert "07-export/more.gguf: unexpected" in done.err


def test_a_damaged_manifest_is_named_by_check_and_its_stage_rebuilt(copied: SmallRun) -> None:
    manifest = stage_folder(copied, "collect") / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    done = holdfast("check", copied.folder)
    assert done.code == 22, done.err
    assert str(manifest) in done.err
    done = holdfast(*copied.command("--json"))
    assert done.code == 0, done.err
    actions = json.loads(done.out)["stages"]
    assert [stage for stage, action in actions.items() if action != "skipped"] == ["collect"]
    assert holdfast("check", copied.folder).code == 0


@pytest.mark.parametrize("stage", list(REBUILT))
def test_run_rebuilds_the_damaged_stage_and_none_after_it(stage: str, copied: SmallRun) -> None:
    name = REBUILT[stage]
    folder = stage_folder(copied, stage)
    before = read_manifest(folder)
    flip(folder / name)
    done = holdfast(*copied.command("--json"))
    assert done.code == 0, done.err
    ran = [found for found, action in json.loads(done.out)["stages"].items() if action != "skipped"]
    assert f"{stage}: {name} is changed" in done.err
    after = read_manifest(folder)
    assert before is not None and after is not None
    assert after.products[name] == before.products[name], "the same product once more"
    assert ran == [stage], "what comes out the same is not used again"
    assert holdfast("check", copied.folder).code == 0


def test_an_older_adapter_put_back_with_its_own_manifest_is_still_noticed(copied: SmallRun, tmp_path: Path) -> None:
    """Every file of the stage is what its manifest says; only the stages after it know better."""
    run = copied
    done = holdfast("train", "-c", run.config, "--run-dir", run.folder, "--set", "train.learning_rate=5e-3")
    assert done.code == 0, done.err
    done = holdfast("check", run.folder)
    assert done.code == 22, done.err
    assert "06-evaluate: was made from another train/adapter/adapter_model.safetensors" in done.err


@pytest.mark.parametrize("verb", ["serve", "ask"])
def test_a_tampered_gguf_is_not_served(verb: str, copied: SmallRun) -> None:
    gguf = stage_folder(copied, "export") / "small-Q4_K_M.gguf"
    flip(gguf)
    done = holdfast(verb, copied.folder, *(["--port", "0"] if verb == "serve" else ["Nobody can log in."]))
    assert done.code == 22, done.err
    assert f"{gguf} is not the file that was measured" in done.err
    assert done.out == ""


def test_a_verdict_written_by_hand_is_not_believed(copied: SmallRun) -> None:
    decision = stage_folder(copied, "decide") / "decision.json"
    decision.write_text(decision.read_text().replace('"iterate"', '"keep"') + " ")
    done = holdfast("serve", copied.folder, "--port", "0")
    assert done.code == 22, done.err
    assert "decision.json is not what the stage wrote" in done.err


def test_a_tampered_adapter_is_not_measured(copied: SmallRun) -> None:
    flip(stage_folder(copied, "train") / "adapter" / "adapter_model.safetensors")
    done = holdfast("eval", copied.folder, "--data", copied.config.parent / "test.jsonl")
    assert done.code == 22, done.err
    assert "adapter/adapter_model.safetensors: changed" in done.err
