"""Verbs about evidence: measure on other items, score again, hand tasks to other tools, compare runs."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli_options import Json, Quant, Run, finish


def evaluate_other(
    run_folder: Run,
    data: Annotated[Path, typer.Option("--data", help="Rows, or a task file (YAML), also lm_eval's.")],
    runtime: Annotated[str, typer.Option("--runtime", help="transformers or gguf.")] = "transformers",
    quant: Quant = None,
    samples_out: Annotated[Path | None, typer.Option("--samples-out", help="Samples as lm_eval lays them out.")] = None,
    as_json: Json = False,
) -> None:
    """Measure baseline and tuned model on other items. A file of rows, or a task file."""
    from holdfast.operations.runs import evaluate_other_items as operation

    finish(
        lambda console: operation(run_folder, data, console, runtime=runtime, quant=quant, samples_out=samples_out),
        as_json,
    )


def rescore(
    run_folder: Run,
    contract: Annotated[Path | None, typer.Option("--contract", help="Another contract. Default: the run's.")] = None,
    primary: Annotated[str | None, typer.Option("--primary", help="Decide by this score.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A new folder for the new samples and results.")] = None,
    as_json: Json = False,
) -> None:
    """Score the stored answers again, without asking a model. The exit code is the verdict's."""
    from holdfast.operations.evidence import rescore as operation

    finish(lambda console: operation(run_folder, contract, primary, out, console), as_json)


def export_eval(
    run_folder: Run,
    to: Annotated[Path, typer.Option("--to", help="A new folder.")],
    as_json: Json = False,
) -> None:
    """Write the test items as a task for lm-evaluation-harness."""
    from holdfast.operations.evidence import export_eval as operation

    finish(lambda console: operation(run_folder, to, console), as_json)


def compare(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Two or more run folders.")],
    deployed: Annotated[bool, typer.Option("--deployed", help="The deployed files instead of the adapters.")] = False,
    alpha: Annotated[float, typer.Option("--alpha", help="Chance of a false `better`.", min=1e-6, max=0.5)] = 0.05,
    as_json: Json = False,
) -> None:
    """Rank several runs that answered the same items. Corrected for the number of pairs."""
    from holdfast.operations.compare import compare as operation

    finish(lambda console: operation(run_folders, console, deployed=deployed, alpha=alpha), as_json)


def add_evidence_verbs(app: typer.Typer) -> None:
    """Make them commands of the application."""
    app.command("eval")(evaluate_other)
    app.command("rescore")(rescore)
    app.command("export-eval")(export_eval)
    app.command("compare")(compare)
