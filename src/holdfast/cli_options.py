"""Options that several verbs share, and how each verb ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from holdfast.core.console import Console
from holdfast.core.errors import guard

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
Config = Annotated[Path, typer.Option("-c", "--config", help="The run's configuration (YAML).")]
RunFolder = Annotated[Path | None, typer.Option("--run-dir", help="Where the run lies. Default: runs/<name>.")]
Override = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: train.learning_rate=1e-4")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Nproc = Annotated[int | None, typer.Option("--nproc", help="Train with so many processes (train.nproc).", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; do nothing.")]
Quant = Annotated[str | None, typer.Option("--quant", help="Which GGUF file. Default: verify.deploy.")]


def finish(command: Callable[[Console], int], as_json: bool) -> NoReturn:
    """Run a verb under the one error handler and exit with its code."""
    console = Console(as_json=as_json)
    raise typer.Exit(guard(lambda: command(console), as_json=as_json, answered=lambda: console.answered))
