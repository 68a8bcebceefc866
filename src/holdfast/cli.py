"""The command line: one short function per verb, no logic, no machine-learning import."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from holdfast import __version__
from holdfast.cli_evidence import add_evidence_verbs
from holdfast.cli_options import Config, DryRun, Json, Nproc, Override, Quant, Run, RunFolder, finish
from holdfast.core.errors import Interrupted

app = typer.Typer(
    name="holdfast",
    help="Turn what your team knows into a small model on your own hardware, and prove that it is better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: half the start, and readable on a serial console
)


def _version(show: bool) -> None:
    if show:
        sys.stdout.write(f"holdfast {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version.")] = False,
) -> None:
    pass


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Option("--dir", help="Where runs go. Default: runs.")] = None,
    example: Annotated[str, typer.Option("--example", help="Which bundled example.")] = "triage",
    as_json: Json = False,
) -> None:
    """The main job on bundled data, on CPU or GPU."""
    from holdfast.operations.demo import demo as operation

    finish(lambda console: operation(directory, example, console), as_json)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, made when it is not there.")],
    axolotl: Annotated[Path | None, typer.Option("--axolotl", help="Translate this Axolotl configuration.")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="NAME=PATH: where its data set lies here.")] = None,
    as_json: Json = False,
) -> None:
    """Write a run to start from. An example with contract and data, or a translated Axolotl configuration."""
    from holdfast.operations.demo import init as operation

    finish(lambda console: operation(directory, console, axolotl, data or []), as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say whether this machine can do the main job."""
    from holdfast.operations.machine import doctor as operation

    finish(operation, as_json)


@app.command("config-schema")
def config_schema(as_json: Json = False) -> None:
    """Print the JSON Schema of the configuration."""
    from holdfast.operations.machine import config_schema as operation

    finish(operation, as_json)


@app.command()
def run(
    config: Config,
    run_dir: RunFolder = None,
    until: Annotated[str | None, typer.Option("--until", help="Stop after this stage.")] = None,
    redo_from: Annotated[str | None, typer.Option("--from", help="Redo from this stage on.")] = None,
    overrides: Override = None,
    nproc: Nproc = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring a run up to date. Stages: collect, prepare, plan, baseline, train, evaluate, export, verify, decide."""
    from holdfast.operations.runs import run as operation

    finish(
        lambda console: operation(
            config, run_dir, _with_nproc(overrides, nproc), console, until=until, redo_from=redo_from, dry_run=dry_run
        ),
        as_json,
    )


def _with_nproc(overrides: list[str] | None, nproc: int | None) -> list[str]:
    return [*(overrides or []), *([] if nproc is None else [f"train.nproc={nproc}"])]


def _stage_command(stage: str) -> None:
    def command(
        config: Config, run_dir: RunFolder = None, overrides: Override = None, nproc: Nproc = None,
        dry_run: DryRun = False, as_json: Json = False,
    ) -> None:  # fmt: skip
        from holdfast.operations.runs import run as operation

        changes = _with_nproc(overrides, nproc)
        finish(lambda console: operation(config, run_dir, changes, console, until=stage, dry_run=dry_run), as_json)

    app.command(stage, help=f"Bring a run up to date up to and including stage {stage}.")(command)


for _stage in ("prepare", "train", "evaluate", "export", "verify", "decide"):
    _stage_command(_stage)


@app.command()
def validate(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="A file, a folder, or a glob in quotes.")] = None,
    contract: Annotated[Path | None, typer.Option("--contract", help="The contract (YAML).")] = None,
    form: Annotated[str | None, typer.Option("--format", help="What the rows are, for example messages.")] = None,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="Options of its sources, its contract.")] = None,
    as_json: Json = False,
) -> None:
    """Check data without training anything. With -c alone: all sources of a configuration."""
    from holdfast.operations.data import validate as operation

    finish(lambda console: operation(data, contract, form, console, config), as_json)


@app.command()
def preview(
    config: Config,
    count: Annotated[int, typer.Option("-n", help="How many rows.", min=1)] = 3,
    split: Annotated[str, typer.Option("--split", help="train, valid or test.")] = "train",
    longest: Annotated[bool, typer.Option("--longest", help="The longest rows instead of the first.")] = False,
    run_dir: RunFolder = None,
    overrides: Override = None,
    as_json: Json = False,
) -> None:
    """Show tokens and loss mask of rows. In colour and in brackets, with the lengths of all rows."""
    from holdfast.operations.preview import preview as operation

    finish(lambda console: operation(config, run_dir, overrides or [], console, count, split, longest), as_json)


@app.command()
def plan(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="The run's configuration.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="A model folder; config.json is enough.")] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="8GB, 16GB, 24GB, 80GB, apple-64GB, cpu-32GB, cpu.")] = None,
    nproc: Nproc = None,
    table: Annotated[bool, typer.Option("--table", help="The same run on many machines.")] = False,
    advise: Annotated[bool, typer.Option("--advise", help="Fine-tune, retrieve or prompt? Asks, then says.")] = False,
    answers: Annotated[Path | None, typer.Option("--answers", help="Answers to --advise (YAML).")] = None,
    run_dir: RunFolder = None,
    overrides: Override = None,
    as_json: Json = False,
) -> None:
    """Say what fits before anything runs. Exit 21: it does not fit."""
    from holdfast.operations import planning

    if advise or answers is not None:
        finish(lambda console: planning.advise(config, answers, run_dir, console), as_json)
    changes = _with_nproc(overrides, nproc)
    if table:
        finish(lambda console: planning.table(config, model, changes, console), as_json)
    finish(lambda console: planning.plan(config, model, gpu, changes, console, run_dir), as_json)


add_evidence_verbs(app)


@app.command()
def status(run_folder: Run, as_json: Json = False) -> None:
    """Which stages are finished, and the verdict."""
    from holdfast.operations.runs import status as operation

    finish(lambda console: operation(run_folder, console), as_json)


@app.command()
def check(
    run_folder: Run,
    read_data: Annotated[bool, typer.Option("--read-data", help="Also the files outside the run.")] = False,
    as_json: Json = False,
) -> None:
    """Compare every product with its manifest. Exit 22: something changed."""
    from holdfast.operations.runs import check as operation

    finish(lambda console: operation(run_folder, console, read_data=read_data), as_json)


@app.command()
def serve(
    run_folder: Run,
    host: Annotated[str | None, typer.Option("--host", help="Default: serve.host (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0 = any free one.", min=0, max=65535)] = None,
    api_key_file: Annotated[Path | None, typer.Option("--api-key-file", help="A file holding the key.")] = None,
    quant: Quant = None,
    as_json: Json = False,
) -> None:
    """Serve the deployed model, OpenAI-compatible. Until Ctrl-C; greedy, as measured, where a request does not say."""
    from holdfast.operations.runs import serve as operation

    finish(
        lambda console: operation(run_folder, console, host=host, port=port, api_key_file=api_key_file, quant=quant),
        as_json,
    )


@app.command()
def ask(
    run_folder: Run,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The question or ticket.")],
    quant: Quant = None,
    as_json: Json = False,
) -> None:
    """One answer of the deployed model."""
    from holdfast.operations.runs import ask as operation

    finish(lambda console: operation(run_folder, text, console, quant=quant), as_json)


@app.command()
def fetch(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face id.")],
    to: Annotated[Path, typer.Option("--to", help="A new folder.")],
    as_json: Json = False,
) -> None:
    """Download a model: the only verb that may use the network."""
    from holdfast.operations.machine import fetch as operation

    finish(lambda console: operation(model, to, console), as_json)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def main() -> None:
    """Entry point of the `holdfast` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()
