"""Look at data before anything is trained: `validate`. Rows are read one at a time; nothing is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from holdfast.core.config import RedactConfig, RunConfig, Source, load_config
from holdfast.core.console import Console
from holdfast.core.errors import UsageError
from holdfast.core.records import Example
from holdfast.redact.redactor import Redactor

if TYPE_CHECKING:
    from holdfast.dataset.contract import DatasetContract
    from holdfast.dataset.validate import Violation
    from holdfast.sources.defects import SourceReport

EVERY = 1000  # rows between two remarks on how far it is


@dataclass
class Findings:
    """What is known of the rows so far. The first violations are kept, all are counted."""

    contract: "DatasetContract | None"
    redactor: Redactor
    rows: int = 0
    shown: "list[Violation]" = field(default_factory=list)
    violations: int = 0
    broken: int = 0


def validate(
    data: Path | None, contract_file: Path | None, form: str | None, console: Console, config_file: Path | None = None
) -> int:
    """Read a file, folder or glob and check it against a contract; nothing is written.

    form: what the rows are; None = look at them. config_file: where to take the options of the source, the contract and
    the redaction from; without `data` all its sources are read. Raises ContractError with all findings, UsageError.
    """
    from holdfast.dataset.contract import read_contract
    from holdfast.sources.defects import SourceReport, describe_files

    config = load_config(config_file) if config_file is not None else None
    sources = _sources(data, form, config)
    if contract_file is None and config is not None and config.prepare.contract:
        contract_file = Path(config.prepare.contract)
    contract = read_contract(contract_file) if contract_file else None
    redact = config.redact if config is not None else RedactConfig()
    found = Findings(contract, Redactor(redact.model_copy(update={"scanner": False})))
    reports = [SourceReport() for _ in sources]
    _check(sources, reports, found, console)
    for report in reports:
        for line in describe_files(report):
            console.say(line)
    console.say(found.redactor.describe(would=True))
    files = [file for report in reports for file in report.files]
    formats = ", ".join(sorted({file.format for file in files}))
    name = str(data or config_file)
    text = f"{name}: {found.rows} rows, format {formats}: all keep " + (
        f"the contract {contract_file}" if contract_file else "the format (no --contract was given)"
    )
    document = {
        "data": name,
        "rows": found.rows,
        "would_mask": dict(found.redactor.by_type),
        "format": formats,
        "files": [
            {"name": file.name, "format": file.format, "detected": file.detected, "reason": file.reason,
             "rows": file.rows, "ignored_keys": dict(file.ignored), "notes": file.notes}
            for file in files
        ],
        "violations": [],
        "exit_code": 0,
    }  # fmt: skip
    console.result(document, text)
    return 0


def _sources(data: Path | None, form: str | None, config: RunConfig | None) -> list[Source]:
    """What is to be read, with the options that the configuration gives it."""
    from holdfast.sources.files import source_files

    if data is None:
        if config is None:
            raise UsageError(
                "there is nothing to validate", hint="holdfast validate DATA, or holdfast validate -c FILE"
            )
        return list(config.collect.sources)
    values: dict[str, Any] = {"path": str(data), "format": form or "auto"}
    for source in config.collect.sources if config is not None else ():
        if source.path == str(data) or data.resolve() in (path.resolve() for path in source_files(source)):
            values = source.model_dump(exclude={"split"}) | {"path": str(data)} | ({"format": form} if form else {})
            break
    try:
        return [Source.model_validate(values)]
    except ValidationError as error:
        hint = "holdfast validate --help"
        if form == "tickets":
            hint = "write the columns into the source of a configuration, then: holdfast validate DATA -c FILE"
        raise UsageError(f"--format {form}: {error.errors()[0]['msg']}", hint=hint) from None


def _check(sources: list[Source], reports: "list[SourceReport]", found: Findings, console: Console) -> None:
    """Read all sources once, and those rows a second time that contradict each other."""
    from holdfast.dataset import contested
    from holdfast.dataset.duplicates import conflicts_of
    from holdfast.dataset.table import Reading, table_of
    from holdfast.dataset.validate import SHOWN, Counted, validate_example, violations_error

    prompts = contested.Contested()
    for example in _read(sources, reports, console):
        found.rows += 1
        if found.redactor.config.enabled:
            found.redactor.count_example(example)
        prompts.add(example)
        if found.contract is not None and (violations := validate_example(example, found.contract)):
            found.shown += violations[: SHOWN - len(found.shown)]
            found.violations += len(violations)
            found.broken += 1
    rows, several = prompts.rows()
    if rows:
        again = enumerate(_read(sources, None, console))
        suspects = [example for row, example in again if row in rows]
        conflicts = conflicts_of(table_of(suspects, Reading(None)), suspects)
        count = conflicts.counted.rows if several <= contested.KEPT else several
        found.shown = [*conflicts.shown, *found.shown][:SHOWN]
        found.violations, found.broken = found.violations + count, found.broken + count
    if found.shown:
        raise violations_error(found.shown, found.rows, Counted(found.violations, found.broken))


def _read(sources: list[Source], reports: "list[SourceReport] | None", console: Console) -> Iterator[Example]:
    """The examples of all sources, one at a time. Raises ContractError with the defects of all of them at the end."""
    from holdfast.sources.defects import FirstDefects, SourceReport, defects_error
    from holdfast.sources.files import display_names, source_files
    from holdfast.sources.readers import read_source

    given = reports or [SourceReport() for _ in sources]
    defects = FirstDefects()
    names = display_names([source.path for source in sources])
    sizes = [sum(path.stat().st_size for path in source_files(source)) for source in sources]
    before = 0
    with console.progress("read", sum(sizes) >> 20, "MiB") as bar:
        for source, report, name, size in zip(sources, given, names, sizes, strict=True):
            for number, item in enumerate(read_source(source, name, report), 1):
                if isinstance(item, Example):
                    yield item
                else:
                    defects.add(item)
                if not number % EVERY:
                    bar.advance(max((before + report.position() >> 20) - bar.done, 0), f"{number:,} rows of {name},")
            before += size
    if defects.found:
        raise defects_error(defects.kept, sum(r.rows for r in given), defects.found, defects.broken)
