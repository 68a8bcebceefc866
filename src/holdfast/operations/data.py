"""Look at data before anything is trained: `validate`."""

from pathlib import Path

from pydantic import ValidationError

from holdfast.core.config import RedactConfig
from holdfast.core.console import Console
from holdfast.core.errors import UsageError
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
