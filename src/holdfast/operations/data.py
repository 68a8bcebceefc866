"""Look at data before anything is trained: `validate` and `preview`."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.text import Text

from holdfast import models
from holdfast.core.config import RedactConfig, load_config
from holdfast.core.console import Console
from holdfast.core.errors import UsageError
from holdfast.core.records import Example, read_examples
from holdfast.core.rundir import RunDir
from holdfast.pipeline import run_pipeline
from holdfast.redact.redactor import Redactor


def validate(data: Path, contract_file: Path | None, form: str | None, console: Console) -> int:
    """Read a file, folder or glob and check it against a contract; nothing is written.

    form: what the rows are; None = look at them. Raises ContractError with all findings, UsageError.
    """
    from holdfast.core.config import Source
    from holdfast.dataset.contract import read_contract
    from holdfast.dataset.duplicates import find_conflicts
    from holdfast.dataset.validate import validate_examples, violations_error
    from holdfast.sources.defects import SourceReport, describe_files
    from holdfast.sources.readers import read_whole

    try:
        source = Source.model_validate({"path": str(data), "format": form or "auto"})
    except ValidationError as error:
        raise UsageError(f"--format {form}: {error.errors()[0]['msg']}", hint="holdfast validate --help") from None
    report = SourceReport()
    examples = read_whole(source, data.name, report)
    redactor = Redactor(RedactConfig(scanner=False))
    for example in examples:
        redactor.count_example(example)
    violations = find_conflicts(examples)
    if contract_file is not None:
        violations += validate_examples(examples, read_contract(contract_file))
    if violations:
        raise violations_error(violations, report.rows)
    formats = sorted({file.format for file in report.files})
    for line in describe_files(report):
        console.say(line)
    text = f"{data}: {report.rows} rows, format {', '.join(formats)}: all keep " + (
        f"the contract {contract_file}" if contract_file else "the format (no --contract was given)"
    )
    console.say(redactor.describe(would=True))
    document = {
        "data": str(data),
        "rows": report.rows,
        "would_mask": dict(redactor.by_type),
        "format": ", ".join(formats),
        "files": [
            {"name": file.name, "format": file.format, "detected": file.detected, "reason": file.reason,
             "rows": file.rows, "ignored_keys": dict(file.ignored), "notes": file.notes}
            for file in report.files
        ],
        "violations": [],
        "exit_code": 0,
    }  # fmt: skip
    console.result(document, text)
    return 0


def preview(config_file: Path, run_dir: Path | None, overrides: list[str], count: int, console: Console) -> int:
    """Show what is trained: tokens of some training rows, trained ones green and underlined, the rest dim."""
    config = load_config(config_file, overrides)
    folder = run_dir or Path("runs") / config.name
    run_pipeline(config, RunDir(folder), console, until="prepare")
    examples = read_examples(RunDir(folder).stage("prepare").path / "train.jsonl")[:count]
    tokenizer = models.load_tokenizer(models.find_base_model(config.base_model))
    rows: list[dict[str, Any]] = []
    for example in examples:
        tokens = models.encode_example(tokenizer, example.messages)
        pieces = [str(tokenizer.decode([token])) for token in tokens.input_ids]
        trained = [label != models.NOT_TRAINED for label in tokens.labels]
        rows.append({"source": example.source, "tokens": pieces, "trained": trained})
        if not console.as_json:
            console.rich.print(_header(example, trained))
            console.rich.print(_coloured(pieces, trained))
    counts = [f"{sum(row['trained'])} of {len(row['tokens'])}" for row in rows]
    console.result({"rows": rows}, f"trained tokens per row: {', '.join(counts)}")
    return 0


def _header(example: Example, trained: list[bool]) -> Text:
    return Text(f"\n{example.source}: {sum(trained)} of {len(trained)} tokens are trained", style="bold")


def _coloured(pieces: list[str], trained: list[bool]) -> Text:
    text = Text()
    for piece, learns in zip(pieces, trained, strict=True):
        text.append(piece, style="green underline" if learns else "dim")
    return text
