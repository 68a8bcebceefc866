"""Look at data before anything is trained: `validate`."""

from pathlib import Path

from holdfast.core.console import Console
from holdfast.core.errors import ContractError, UsageError


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
