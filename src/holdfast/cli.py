"""The command line: one short function per verb, no logic, no machine-learning import."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from holdfast import __version__
from holdfast.core.console import Console
from holdfast.core.errors import Interrupted, guard

app = typer.Typer(
    name="holdfast",
    help="Turn what your team knows into a small model on your own hardware, and prove that it is better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
Config = Annotated[Path, typer.Option("-c", "--config", help="The run's configuration (YAML).")]
RunFolder = Annotated[Path | None, typer.Option("--run-dir", help="Where the run lies. Default: runs/<name>.")]
Override = Annotated[list[str] | None, typer.Option("--set", help="Override a key: --set train.learning_rate=1e-4")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Nproc = Annotated[int | None, typer.Option("--nproc", help="Train with so many processes (train.nproc).", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run and why.")]
Quant = Annotated[str | None, typer.Option("--quant", help="Which GGUF file. Default: verify.deploy.")]


def _finish(command: Callable[[Console], int], as_json: bool) -> NoReturn:
    console = Console(as_json=as_json)
    raise typer.Exit(guard(lambda: command(console), as_json=as_json))


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

    _finish(lambda console: operation(directory, example, console), as_json)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, made when it is not there.")],
    as_json: Json = False,
) -> None:
    """Write an example configuration, contract and data to start from."""
    from holdfast.operations.demo import init as operation

    _finish(lambda console: operation(directory, console), as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say whether this machine can do the main job."""
    from holdfast.operations.machine import doctor as operation

    _finish(operation, as_json)


@app.command("config-schema")
def config_schema(as_json: Json = False) -> None:
    """Print the JSON Schema of the configuration."""
    from holdfast.operations.machine import config_schema as operation

    _finish(operation, as_json)


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
    """Bring a run up to date: collect, prepare, plan, baseline, train, evaluate, export, verify, decide."""
    from holdfast.operations.runs import run as operation

    _finish(
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
        _finish(lambda console: operation(config, run_dir, changes, console, until=stage, dry_run=dry_run), as_json)

    app.command(stage, help=f"Bring a run up to date up to and including stage {stage}.")(command)


for _stage in ("prepare", "train", "evaluate", "export", "verify", "decide"):
    _stage_command(_stage)


@app.command()
def validate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A file, a folder, or a glob in quotes.")],
    contract: Annotated[Path | None, typer.Option("--contract", help="The contract (YAML).")] = None,
    form: Annotated[str | None, typer.Option("--format", help="What the rows are, for example messages.")] = None,
    as_json: Json = False,
) -> None:
    """Check data without training anything."""
    from holdfast.operations.data import validate as operation

    _finish(lambda console: operation(data, contract, form, console), as_json)


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
    """Show tokens and loss mask of rows, in colour and in brackets, and the lengths of all rows."""
    from holdfast.operations.preview import preview as operation

    _finish(lambda console: operation(config, run_dir, overrides or [], console, count, split, longest), as_json)


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
        _finish(lambda console: planning.advise(config, answers, run_dir, console), as_json)
    changes = _with_nproc(overrides, nproc)
    operation = planning.table if table else planning.plan
    _finish(lambda console: operation(config, model, gpu, changes, console), as_json)


@app.command("eval")
def evaluate_other(
    run_folder: Run,
    data: Annotated[Path, typer.Option("--data", help="Rows, or a task file (YAML), also lm_eval's.")],
    runtime: Annotated[str, typer.Option("--runtime", help="transformers or gguf.")] = "transformers",
    quant: Quant = None,
    samples_out: Annotated[Path | None, typer.Option("--samples-out", help="Samples as lm_eval lays them out.")] = None,
    as_json: Json = False,
) -> None:
    """Baseline and tuned model on another file of items, or on a task file."""
    from holdfast.operations.runs import evaluate_other_items as operation

    _finish(
        lambda console: operation(run_folder, data, console, runtime=runtime, quant=quant, samples_out=samples_out),
        as_json,
    )


@app.command()
def rescore(
    run_folder: Run,
    contract: Annotated[Path | None, typer.Option("--contract", help="Another contract. Default: the run's.")] = None,
    primary: Annotated[str | None, typer.Option("--primary", help="Decide by this score.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A new folder for the new samples and results.")] = None,
    as_json: Json = False,
) -> None:
    """Score the stored answers again, without asking a model. The exit code is the verdict's."""
    from holdfast.operations.evidence import rescore as operation

    _finish(lambda console: operation(run_folder, contract, primary, out, console), as_json)


@app.command("export-eval")
def export_eval(
    run_folder: Run,
    to: Annotated[Path, typer.Option("--to", help="A new folder.")],
    as_json: Json = False,
) -> None:
    """Write the test items as a task for lm-evaluation-harness."""
    from holdfast.operations.evidence import export_eval as operation

    _finish(lambda console: operation(run_folder, to, console), as_json)


@app.command()
def compare(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Two or more run folders.")],
    deployed: Annotated[bool, typer.Option("--deployed", help="The deployed files instead of the adapters.")] = False,
    alpha: Annotated[float, typer.Option("--alpha", help="Chance of a false `better`.", min=1e-6, max=0.5)] = 0.05,
    as_json: Json = False,
) -> None:
    """Rank several runs on the items that all of them answered, corrected for the number of pairs."""
    from holdfast.operations.compare import compare as operation

    _finish(lambda console: operation(run_folders, console, deployed=deployed, alpha=alpha), as_json)


@app.command()
def status(run_folder: Run, as_json: Json = False) -> None:
    """Which stages are finished, and the verdict."""
    from holdfast.operations.runs import status as operation

    _finish(lambda console: operation(run_folder, console), as_json)


@app.command()
def check(
    run_folder: Run,
    read_data: Annotated[bool, typer.Option("--read-data", help="Also the files outside the run.")] = False,
    as_json: Json = False,
) -> None:
    """Compare every product with its manifest. Exit 22: something changed."""
    from holdfast.operations.runs import check as operation

    _finish(lambda console: operation(run_folder, console, read_data=read_data), as_json)


@app.command()
def serve(
    run_folder: Run,
    host: Annotated[str | None, typer.Option("--host", help="Default: serve.host (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0 = any free one.", min=0, max=65535)] = None,
    api_key_file: Annotated[Path | None, typer.Option("--api-key-file", help="A file holding the key.")] = None,
    quant: Quant = None,
    as_json: Json = False,
) -> None:
    """Serve the deployed model (OpenAI-compatible) until Ctrl-C."""
    from holdfast.operations.runs import serve as operation

    _finish(
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

    _finish(lambda console: operation(run_folder, text, console, quant=quant), as_json)


@app.command()
def fetch(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face id.")],
    to: Annotated[Path, typer.Option("--to", help="A new folder.")],
    as_json: Json = False,
) -> None:
    """Download a model: the only verb that may use the network."""
    from holdfast.operations.machine import fetch as operation

    _finish(lambda console: operation(model, to, console), as_json)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def main() -> None:
    """Entry point of the `holdfast` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()
