"""What a stage is given: its configuration, where to write, where to read, and how to talk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.rundir import RunDir, StageFolder


@dataclass(frozen=True)
class StageContext:
    """Handed to every stage's `run`. `inputs` maps the name of an earlier stage to its folder (read only)."""

    config: RunConfig
    out: StageFolder
    inputs: Mapping[str, Path]
    console: Console
    run_dir: RunDir
