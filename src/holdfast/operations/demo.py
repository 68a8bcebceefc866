"""The main job on bundled data, and a start for one's own."""

import os
import re
import shutil
from pathlib import Path

from holdfast.core.config import load_config
from holdfast.core.console import Console
from holdfast.core.errors import UsageError
from holdfast.core.files import atomic_write, require_folder
from holdfast.operations.import_axolotl import import_axolotl
from holdfast.operations.runs import run_and_report

PACKAGE = Path(__file__).resolve().parents[1]
CONFIG, EXAMPLE = "holdfast.yaml", "triage"
NAME_LENGTH = 63  # core/config.py


def example_folder(name: str) -> Path:
    """Folder of a bundled example: inside the installed package, or in the checkout. Raises UsageError."""
    for root in (PACKAGE / "examples", PACKAGE.parents[1] / "examples"):
        if (root / name / "holdfast.yaml").is_file():
            return root / name
    raise UsageError(f"there is no example {name!r}", hint="holdfast demo --example triage")


def demo(directory: Path | None, example: str, console: Console) -> int:
    """Run the whole story on a bundled example in `directory`/<example>."""
    config = load_config(example_folder(example) / "holdfast.yaml")
    folder = (directory or Path("runs")) / config.name
    console.say(f"holdfast demo: {example} with the bundled model {config.base_model}, in {folder}")
    return run_and_report(config, folder, console)


def init(directory: Path, console: Console, axolotl: Path | None = None, copies: list[str] | None = None) -> int:
    """Copy the triage example as a start, named after its folder, or translate an Axolotl configuration; no existing
    file is overwritten."""
    if axolotl is not None:
        return import_axolotl(directory, axolotl, copies or [], console)
    if copies:
        raise UsageError("--data goes with --axolotl FILE", hint="holdfast init --help")
    source = example_folder(EXAMPLE)
    files = [path for path in sorted(source.iterdir()) if path.is_file()]
    require_folder(directory)
    taken = [path.name for path in files if os.path.lexists(directory / path.name)]
    if taken:
        raise UsageError(f"{directory} already has {', '.join(taken)}; nothing was written", hint="use another folder")
    _copy_all(files, directory)
    names = [path.name for path in files]
    config = directory / CONFIG
    text = f"wrote {', '.join(names)}\nnext: edit {config}, then: holdfast run -c {config}"
    console.result({"directory": str(directory), "files": names}, text)
    return 0


def _copy_all(files: list[Path], directory: Path) -> None:
    """All of them or none: what a full disk cut short would look like the user's own files to the next `init`."""
    directory.mkdir(parents=True, exist_ok=True)
    begun: list[Path] = []
    try:
        for path in files:
            begun.append(directory / path.name)
            if path.name == CONFIG:
                atomic_write(begun[-1], _named_after(directory, path.read_text(encoding="utf-8")).encode())
            else:
                shutil.copyfile(path, begun[-1])
    except BaseException:
        for copy in begun:
            copy.unlink(missing_ok=True)
        raise


def _named_after(directory: Path, text: str) -> str:
    """The configuration with the folder's name: with the example's it would work in `runs/triage`, where the demo does.

    In quotes, because 2026, 1e3 and on are no text in YAML.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", directory.resolve().name.lower()).strip("-._")[:NAME_LENGTH] or "mine"
    name = f"my-{name}" if name == EXAMPLE else name
    return re.sub(r"^name: .*$", f'name: "{name}"', text, count=1, flags=re.MULTILINE)
