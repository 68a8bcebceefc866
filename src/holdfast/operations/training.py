"""What `run` says of training with several processes: how they start, and that their number belongs to the run."""

from pathlib import Path

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.errors import HoldfastError
from holdfast.core.manifest import MANIFEST
from holdfast.core.rundir import RunDir
from holdfast.train.processes import launch_lines, process_count


def started_as(folder: Path, config: RunConfig) -> list[str]:
    """The command of each process (of each machine); none when one process trains."""
    return launch_lines(folder.absolute(), config.train) if process_count(config.train) > 1 else []


def warn_of_other_processes(folder: Path, config: RunConfig, console: Console) -> None:
    """A finished training that another number of processes made is made again: say so, it may take hours."""
    run_dir = RunDir(folder)
    if not (run_dir.stage("train").path / MANIFEST).is_file():
        return
    try:
        before = run_dir.read_config().train
    except HoldfastError:
        return
    if process_count(before) != process_count(config.train):
        console.warn(
            f"this run was trained by {process_count(before)} process(es), now it is {process_count(config.train)}: "
            f"training is made again. To keep it: --nproc {before.nproc}, or train.nproc in the file"
        )
