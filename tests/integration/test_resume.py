"""An interrupted training that goes on ends with the very bytes of one that was never interrupted."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from holdfast.core.manifest import describe_products, read_manifest, write_manifest
from holdfast.train.checkpoints import MARK, is_whole
from small_run import EVAL_STEPS, SAVE_STEPS, STEPS, SmallRun, holdfast, start, stop, wait_for

FIRST, SECOND = f"checkpoint-{SAVE_STEPS}", f"checkpoint-{2 * SAVE_STEPS}"


def untrained(small: SmallRun, to: Path) -> SmallRun:
    """A copy in which everything before training is done."""
    shutil.copytree(small.folder, to / "run", ignore=shutil.ignore_patterns("05-*", "06-*", "07-*", "08-*", "09-*"))
    return SmallRun(small.config, to / "run", small.base)


def train_until(run: SmallRun, checkpoint: str, number: signal.Signals) -> int:
    """Train, and send a signal as soon as a checkpoint is whole. Returns the exit status."""
    process = start("train", "-c", run.config, "--run-dir", run.folder)
    there = wait_for((run.folder / "05-train" / checkpoint / MARK).exists, process)
    assert there, f"training ended with {process.poll()} before {checkpoint}"
    return stop(process, number)


def finish(run: SmallRun) -> str:
    """Repeat the command; what it said."""
    done = holdfast("train", "-c", run.config, "--run-dir", run.folder)
    assert done.code == 0, done.err
    return done.err


@pytest.fixture(scope="module")
def killed(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A training that SIGKILL ended right after its second checkpoint."""
    run = untrained(small, tmp_path_factory.mktemp("killed"))
    assert train_until(run, SECOND, signal.SIGKILL) == -signal.SIGKILL
    train = run.folder / "05-train"
    assert not (train / "manifest.json").exists()
    assert not (train / "adapter").exists()
    shutil.rmtree(train / f"checkpoint-{3 * SAVE_STEPS}", ignore_errors=True)  # in case the kill came late
    return run


@pytest.fixture
def interrupted(killed: SmallRun, tmp_path: Path) -> SmallRun:
    return killed.copy(tmp_path)


def test_after_sigkill_it_goes_on_from_the_newest_checkpoint_and_ends_with_the_same_bytes(
    small: SmallRun, interrupted: SmallRun
) -> None:
    assert f"resuming from {SECOND}" in finish(interrupted)
    assert interrupted.adapter_digest() == small.adapter_digest()
    assert interrupted.events()[-2]["event"] == "end"


def test_a_half_written_newest_checkpoint_is_thrown_away(small: SmallRun, interrupted: SmallRun) -> None:
    newest = interrupted.folder / "05-train" / SECOND
    (newest / MARK).unlink()
    os.truncate(newest / "optimizer.pt", 1000)
    assert f"resuming from {FIRST}" in finish(interrupted)
    assert interrupted.adapter_digest() == small.adapter_digest()


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "optimizer.pt", "rng_state.pth", MARK])
def test_a_damaged_newest_checkpoint_is_not_trusted(file: str, interrupted: SmallRun) -> None:
    path = interrupted.folder / "05-train" / SECOND / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert not is_whole(path.parent)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(small: SmallRun, interrupted: SmallRun) -> None:
    path = interrupted.folder / "05-train" / SECOND / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert f"resuming from {FIRST}" in finish(interrupted)
    assert interrupted.adapter_digest() == small.adapter_digest()


def test_without_any_whole_checkpoint_training_starts_over(small: SmallRun, interrupted: SmallRun) -> None:
    for name in (FIRST, SECOND):
        (interrupted.folder / "05-train" / name / "trainer_state.json").unlink()
    assert "resuming" not in finish(interrupted)
    assert interrupted.adapter_digest() == small.adapter_digest()


def test_sigterm_saves_a_checkpoint_exits_130_and_the_same_command_goes_on(small: SmallRun, tmp_path: Path) -> None:
    run = untrained(small, tmp_path)
    assert train_until(run, FIRST, signal.SIGTERM) == 130
    saved = [path for path in (run.folder / "05-train").glob("checkpoint-*") if is_whole(path)]
    steps = max(int(path.name.split("-")[1]) for path in saved)
    assert SAVE_STEPS < steps < STEPS, "a checkpoint of the step in which the signal came"
    assert not (run.folder / "05-train" / "manifest.json").exists()
    assert f"resuming from checkpoint-{steps}" in finish(run)
    assert run.adapter_digest() == small.adapter_digest()


def plan_again(run: SmallRun, document: str, **changes: object) -> None:
    """As a new plan would write it at a moment with less free memory."""
    plan = run.folder / "03-plan"
    changed = json.loads((plan / document).read_text()) | changes
    (plan / document).write_text(json.dumps(changed))
    manifest = read_manifest(plan)
    assert manifest is not None
    write_manifest(plan, manifest.model_copy(update={"products": describe_products(plan)}))


def losses(run: SmallRun, name: str) -> list[float]:
    rows = (json.loads(line) for line in (run.folder / "05-train" / "trainer_log.jsonl").read_text().splitlines())
    return [row[name] for row in rows if name in row]


def test_a_new_plan_with_other_settings_does_not_train_again(copied: SmallRun) -> None:
    plan_again(copied, "settings.json", micro_batch_size=1, gradient_accumulation_steps=2)
    assert "5/9 train: up to date" in finish(copied)
    plan_again(copied, "device.json", dtype="bfloat16")
    done = holdfast("train", "-c", copied.config, "--run-dir", copied.folder, "--dry-run")
    assert "train      run: its configuration or materials changed" in done.out


def test_an_interrupted_training_goes_on_with_the_settings_of_a_new_plan(
    small: SmallRun, interrupted: SmallRun
) -> None:
    plan_again(interrupted, "settings.json", micro_batch_size=1, gradient_accumulation_steps=2)
    assert f"resuming from {SECOND}" in finish(interrupted)
    for name in ("loss", "eval_loss"):
        assert losses(interrupted, name) == pytest.approx(losses(small, name), rel=1e-3)
    settings = json.loads((interrupted.folder / "05-train" / "settings.json").read_text())
    assert (settings["micro_batch_size"], settings["gradient_accumulation_steps"]) == (1, 2)
    assert settings["eval_batch_size"] == 2
    assert interrupted.adapter_digest() != small.adapter_digest(), "other sums, the last bits differ"


def test_evaluating_in_between_does_not_change_training(small: SmallRun, tmp_path: Path) -> None:
    run = untrained(small, tmp_path)
    done = holdfast("train", "-c", run.config, "--run-dir", run.folder, "--set", "train.eval_steps=1000")
    assert done.code == 0, done.err
    assert run.adapter_digest() == small.adapter_digest()
    log = (small.folder / "05-train" / "trainer_log.jsonl").read_text()
    assert log.count("eval_loss") == STEPS // EVAL_STEPS
