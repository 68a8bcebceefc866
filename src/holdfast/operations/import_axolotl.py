"""`init DIR --axolotl FILE`: start from an Axolotl configuration, and see what became of every key."""

from pathlib import Path
from typing import Any

import yaml

from holdfast.core.config import load_config
from holdfast.core.console import Console
from holdfast.core.errors import ConfigError, UsageError
from holdfast.core.files import atomic_write
from holdfast.core.yamlfile import load_yaml
from holdfast.operations.axolotl import Line, Translation, translate

CONFIG = "holdfast.yaml"
REMOTE = ("http://", "https://", "s3://", "gs://", "gcs://", "az://", "hf://")


def import_axolotl(directory: Path, file: Path, copies: list[str], console: Console) -> int:
    """Write DIR/holdfast.yaml; an existing one is never overwritten.

    copies: `NAME=PATH` for data sets that lie elsewhere. Raises ConfigError when a key asks for what cannot be done;
    nothing is written then.
    """
    target = directory / CONFIG
    if target.exists():
        raise UsageError(f"{target} is already there; nothing was written", hint="use another folder")
    document, lines = load_yaml(file)
    if not isinstance(document, dict):
        raise ConfigError(f"{file}:1: expected `key: value` lines, found {type(document).__name__}")
    local = _read_copies(copies)
    translation = translate(document, lambda name: _find(name, local, file.resolve().parent))
    if translation.refused:
        problems = [
            f"{file}:{_line(lines, refused.key)}: {refused.key}: {refused.why}" for refused in translation.refused
        ]
        raise ConfigError(
            f"{len(problems)} of {len(document)} keys cannot be translated:\n  " + "\n  ".join(problems),
            hint="take them out of the file, or give a local copy with --data NAME=PATH",
        )
    text = render(translation, file.name)
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    atomic_write(target, text.encode())
    try:
        load_config(target)
    except ConfigError as error:  # a value that Axolotl takes and holdfast does not
        target.unlink()
        if made:
            directory.rmdir()
        raise ConfigError(f"what {file} would become is not valid; nothing was written: {error.message}") from None
    console.result(
        {"config": str(target), "keys": [line._asdict() for line in translation.lines]},
        f"{describe(translation.lines)}\n\nwrote {target}\nnext: say what a right answer is (prepare.contract), then "
        f"holdfast plan -c {target}",
    )
    return 0


def render(translation: Translation, source: str) -> str:
    """The new file, with what training does differently as comments on top."""
    changed = [line for line in translation.lines if line.action in ("changed", "unknown")]
    head = [f"# Made from {source} by holdfast init --axolotl."]
    head += [f"# {line.key}: {line.becomes or 'left out'}: {line.why}" for line in changed]
    body = yaml.safe_dump(translation.config, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(" ".join(line.split()) for line in head) + "\n" + body


def describe(lines: list[Line]) -> str:
    """All keys as a table, what matters most first."""
    order = ("changed", "unknown", "added", "translated", "same", "ignored")
    rows = sorted(lines, key=lambda line: order.index(line.action))
    width = min(32, max(len(line.key) for line in rows))
    shown = [
        f"{row.action:<10} {row.key:<{width}}  {row.becomes}" + (f"  ({row.why})" if row.why else "") for row in rows
    ]
    counts = ", ".join(f"{sum(line.action == name for line in lines)} {name}" for name in order)
    return "\n".join([*(line.rstrip() for line in shown), "", counts])


def _read_copies(copies: list[str]) -> dict[str, Path]:
    found = {}
    for text in copies:
        name, equals, path = text.partition("=")
        if not equals or not Path(path).expanduser().exists():
            raise UsageError(f"--data {text}: expected NAME=PATH with a path that exists")
        found[name] = Path(path).expanduser().resolve()
    return found


def _find(name: str, local: dict[str, Path], folder: Path) -> str | None:
    """The path of a data set: given with --data, beside the configuration, or below the current folder."""
    if name in local:
        return str(local[name])
    if name.startswith(REMOTE):
        return None
    found: list[Any] = [root / name for root in (folder, Path.cwd()) if (root / name).exists()]
    return str(found[0].resolve()) if found else None


def _line(lines: dict[Any, int], key: str) -> int:
    """The line of a key, or of the list that an entry such as `datasets[1]` is in."""
    first = key.split("[")[0]
    return lines.get((first,), 1)
