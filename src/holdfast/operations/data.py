"""Look at data before anything is trained: `validate` and `preview`."""

from pathlib import Path
from typing import Any

from rich.text import Text

from holdfast import models
from holdfast.core.config import load_config
from holdfast.core.console import Console
from holdfast.core.errors import ContractError, UsageError
from holdfast.core.records import Example, read_examples
from holdfast.core.rundir import RunDir
from holdfast.pipeline import run_pipeline


def validate(data: Path, contract_file: Path | None, console: Console) -> int:
    """Read a file and check it against a contract; nothing is written. Raises ContractError with all findings."""
    from holdfast.dataset.contract import read_contract
    from holdfast.dataset.duplicates import find_conflicts
    from holdfast.dataset.validate import validate_examples, violations_error
    from holdfast.sources.readers import defects_error, read_file

    if not data.is_file():
        raise UsageError(f"there is no file {data}")
    reading = read_file(data, data.name)
    rows = len(reading.examples) + len(reading.defects)
    if reading.defects:
        raise defects_error(reading.defects, rows)
    violations = find_conflicts(reading.examples)
    if contract_file is not None:
        violations += validate_examples(reading.examples, read_contract(contract_file))
    if violations:
        raise violations_error(violations, rows)
    if not rows:
        raise ContractError(f"{data} holds no rows")
    text = f"{data}: {rows} rows, format {reading.format}: all keep " + (
        f"the contract {contract_file}" if contract_file else "the format (no --contract was given)"
    )
    document = {"data": str(data), "rows": rows, "format": reading.format, "violations": [], "exit_code": 0}
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
