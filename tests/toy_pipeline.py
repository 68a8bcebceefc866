"""Three toy stages under real names, for tests of the pipeline; as a program it can be killed.

python toy_pipeline.py CONFIG RUN_DIR SECONDS_PER_STEP
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast import pipeline
from holdfast.core.config import RunConfig, load_config
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.digest import digest_tree
from holdfast.core.manifest import MANIFEST
from holdfast.core.rundir import RunDir
from holdfast.pipeline import Outcome, Stage

STEPS = 4
FOLDERS = {"collect": "01-collect", "prepare": "02-prepare", "plan": "03-plan"}
WORDS = "one\ntwo\nthree\n"


class Toy:
    """Stages that note what they did in `log`, and the moment at which one of them is to fail."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.log: list[str] = []
        self.fail: Callable[[str, StageContext], None] = lambda step, context: None

    def step(self, name: str, context: StageContext) -> None:
        """One piece of work."""
        self.log.append(name)
        self.fail(name, context)
        time.sleep(self.seconds)

    def collect(self, context: StageContext) -> None:
        """Copies its source, then writes what nobody reads."""
        self.step("collect", context)
        context.out.write_text("examples.jsonl", Path(context.config.collect.sources[0].path).read_text())
        self.step("collect.report", context)
        context.out.write_text("report.json", f"{context.config.collect.system_prompt}\n")

    def prepare(self, context: StageContext) -> None:
        """Resumable, as training is: parts that are there are not made again; then a folder of products."""
        text = (context.inputs["collect"] / "examples.jsonl").read_text()
        for number in range(STEPS):
            if not (context.out.path / f"part-{number}").exists():
                self.step(f"prepare.{number}", context)
                context.out.write_text(f"part-{number}", f"{number} {context.config.seed} {text}")
        with context.out.writing("parts") as folder:
            folder.mkdir()
            for number in range(STEPS):
                (folder / f"{number}").write_text((context.out.path / f"part-{number}").read_text())
        self.step("prepare.last", context)
        context.out.write_text("test.jsonl", str(len(text)))

    def plan(self, context: StageContext) -> None:
        """Reads the folder of products."""
        self.step("plan", context)
        parts = sorted((context.inputs["prepare"] / "parts").iterdir())
        context.out.write_json("plan.json", {"gpu": context.config.plan.gpu, "parts": [p.read_text() for p in parts]})

    def stages(self) -> tuple[Stage, ...]:
        """In the place of `pipeline.STAGES`."""
        return (
            Stage("collect", 1, self.collect, ("collect",), {}, lambda config: [config.collect.sources[0].path]),
            Stage("prepare", 1, self.prepare, ("seed",), {"collect": ("examples.jsonl",)}),
            Stage("plan", 1, self.plan, ("plan.gpu",), {"prepare": ("parts/",)}),
        )


def write_toy_config(folder: Path) -> Path:
    """A source of three lines and a configuration that names it."""
    (folder / "words.txt").write_text(WORDS)
    path = folder / "toy.yaml"
    path.write_text("name: toy\ncollect:\n  sources: [{path: words.txt}]\n")
    return path


def run_toy(
    config: RunConfig, folder: Path, *, until: str | None = None, redo_from: str | None = None
) -> list[Outcome]:
    """Bring the toy run in `folder` up to date."""
    return pipeline.run_pipeline(config, RunDir(folder), Console(quiet=True), until=until, redo_from=redo_from)


def products(folder: Path) -> dict[str, str]:
    """Digests of all products, without what names times and processes."""
    found = digest_tree(folder, skip=("journal.jsonl", ".lock"))
    return {name: digest for name, digest in found.items() if not name.endswith(MANIFEST)}


def changed(config: RunConfig, section: str, **values: Any) -> RunConfig:
    """The configuration with other values in a section, or (`changed(c, "seed", seed=1)`) another value at its top."""
    part = getattr(config, section).model_copy(update=values) if values.keys() - {section} else values[section]
    return config.model_copy(update={section: part})


def actions(config: RunConfig, folder: Path, **options: str) -> list[str]:
    """What bringing the run up to date did to each stage."""
    return [outcome.action for outcome in run_toy(config, folder, **options)]


if __name__ == "__main__":
    vars(pipeline)["STAGES"] = Toy(float(sys.argv[3])).stages()
    vars(pipeline)["describe_environment"] = dict
    loaded = load_config(Path(sys.argv[1]))
    print("ready", flush=True)
    run_toy(loaded, Path(sys.argv[2]))
