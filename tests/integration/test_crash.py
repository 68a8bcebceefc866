"""SIGKILL at any moment: the same command finishes with the same adapter and the same verdict."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from kill_demo import Kill, Result, kill_after, unfinished_stage
from small_run import SmallRun, holdfast, start, stop, wait_for

SEED = random.SystemRandom().randrange(10**6)


def whole(small: SmallRun) -> Result:
    """What the undisturbed run ended with."""
    return Result(0, small.adapter_digest(), small.verdict())


def finish(run: SmallRun) -> Result:
    """The same command to its end."""
    done = holdfast(*run.command())
    assert done.code == 0, done.err
    return Result(done.code, run.adapter_digest(), run.verdict())


def whole_seconds(small: SmallRun) -> float:
    """How long the undisturbed run took, from its journal's whole seconds."""
    times = [time.mktime(time.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ")) for event in small.events()]
    return max(5.0, times[-1] - times[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_a_run_killed_at_a_random_moment_ends_as_if_it_had_not_been(
    number: int, small: SmallRun, tmp_path: Path
) -> None:
    generator = random.Random(SEED + number)
    run = SmallRun(small.config, tmp_path / "run", small.base)
    third = whole_seconds(small) / 3
    kill: Kill | None = None
    for attempt in range(5):  # a run that was faster than the clock was not killed, and does not count
        moment = 0.5 + generator.uniform(number * third, (number + 1) * third) * 0.7**attempt
        kill = kill_after(lambda values: start(*run.command(), **values), run.folder, moment)
        if kill is not None:
            break
        shutil.rmtree(run.folder)
    assert kill is not None, f"seed {SEED}: no kill hit"
    print(f"seed {SEED + number}: {kill}")
    assert kill.status == -signal.SIGKILL
    assert kill.orphans == 0, "the llama.cpp server died with its parent"
    assert not (run.folder / "09-decide" / "manifest.json").exists()
    assert finish(run) == whole(small)
    assert holdfast("check", run.folder).code == 0


@pytest.mark.slow
def test_a_kill_inside_every_stage_in_turn_loses_nothing(small: SmallRun, tmp_path: Path) -> None:
    generator = random.Random(SEED)
    run = SmallRun(small.config, tmp_path / "run", small.base)
    hit = []
    for stage in ("collect", "prepare", "baseline", "train", "evaluate", "export", "verify"):
        process = start(*run.command())
        begun = wait_for(lambda stage=stage: unfinished_stage(run.folder) == stage, process)  # type: ignore[misc]
        assert begun, f"{stage} was not seen to begin; exit {process.poll()}"
        time.sleep(generator.uniform(0, 0.5) if stage != "collect" else 0)
        assert stop(process, signal.SIGKILL) == -signal.SIGKILL, f"seed {SEED}"
        if unfinished_stage(run.folder) is not None:
            hit.append(stage)
    assert len(hit) >= 4, f"seed {SEED}: only {hit} were unfinished when the kill came"
    assert finish(run) == whole(small)
    assert holdfast("check", run.folder).code == 0
