"""A task file for `holdfast eval --data`: YAML with a JSONL beside it, our own or one of lm-evaluation-harness.

Ours: task, data, system_prompt, primary, label_field, labels, required_fields, schema, scorers. Theirs is told by
`dataset_path`; read are tasks of kind generate_until over local JSONL with templates. Their functions are never run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field, ValidationError

from holdfast.core.errors import ConfigError, UsageError
from holdfast.core.records import Example, Message, read_jsonl
from holdfast.core.scorer_config import ScorerConfig
from holdfast.core.section import Section
from holdfast.core.validated import read_model
from holdfast.evaluate.lm_eval import HOLDFAST
from holdfast.evaluate.tasks import Task

EXACT = "exact_match"


class TaskFile(Section):
    """Our own task file. Paths are relative to it."""

    task: str
    data: str
    system_prompt: str | None = None
    primary: str | None = None
    label_field: str | None = None
    labels: tuple[str, ...] = ()
    required_fields: tuple[str, ...] = ()
    answer_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    scorers: tuple[ScorerConfig, ...] = ()


class FileTask(NamedTuple):
    """What a task file asks for. `examples` is None when `data` is to be read like any other file of items;
    `system_prompt` and `primary` are None where the run's own count."""

    task: Task
    data: Path
    primary: str | None
    system_prompt: str | None
    examples: list[Example] | None


def is_task_file(path: Path) -> bool:
    """Whether a file of items is a task file rather than rows."""
    return path.suffix in (".yaml", ".yml")


def read_task_file(path: Path) -> FileTask:
    """Read a task file. Raises ConfigError for wrong keys, UsageError for what holdfast cannot run."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    document = _load(path)
    if "dataset_path" in document:
        return _read_lm_eval(path, document)
    found = read_model(TaskFile, path)
    kept = found.model_dump(by_alias=True, exclude={"data", "primary"}, exclude_unset=True)
    task = Task.model_validate(kept | {"system_prompt": found.system_prompt or ""})
    return FileTask(task, path.parent / found.data, found.primary, found.system_prompt, None)


def _load(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: expected `key: value` lines")
    return document


class _Loader(yaml.SafeLoader):
    """Knows lm_eval's tag for functions, and keeps their name only."""


class _Function(str):
    """The name of a function that is not run."""

    __slots__ = ()


_Loader.add_constructor("!function", lambda loader, node: _Function(node.value))


def _read_lm_eval(path: Path, document: Mapping[str, Any]) -> FileTask:
    metadata = document.get("metadata")
    own = metadata.get(HOLDFAST) if isinstance(metadata, dict) else None
    _refuse_foreign(path, document, allow_scores=own is not None)
    data = path.parent / _data_file(path, document)
    system_prompt = str(document.get("description") or "")
    try:
        task = Task.model_validate(own) if own is not None else _task_of_metrics(path, document)
    except ValidationError as error:
        raise ConfigError(f"{path}: metadata.{HOLDFAST} is no task: {error.errors()[0]['msg']}") from None
    system = [Message(role="system", content=system_prompt)] if system_prompt else []
    examples = []
    for line, row in read_jsonl(data):
        asked, wanted = (_render(path, document, key, row, line) for key in ("doc_to_text", "doc_to_target"))
        turns = (*system, Message(role="user", content=asked), Message(role="assistant", content=wanted))
        tags = row["tags"] if own is not None and isinstance(row.get("tags"), dict) else {}
        examples.append(Example(messages=turns, source=f"{data.name}:{line}", tags=tags))
    return FileTask(task, data, None if own is not None else EXACT, system_prompt, examples)


def _refuse_foreign(path: Path, document: Mapping[str, Any], *, allow_scores: bool) -> None:
    problems = []
    if document.get("output_type", "generate_until") != "generate_until":
        problems.append(f"output_type {document['output_type']}: only generate_until is")
    if document.get("num_fewshot") or document.get("fewshot_config"):
        problems.append("few-shot examples are not")
    for key, value in document.items():
        if isinstance(value, _Function) and not (allow_scores and key == "process_results"):
            problems.append(f"{key}: !function {value}: code of a task is not run, so it is not")
    for key in ("include", "filter_list", "process_docs", "doc_to_choice", "gen_prefix", "custom_dataset"):
        if document.get(key) and not isinstance(document[key], _Function):
            problems.append(f"{key} is not")
    if problems:
        raise UsageError(
            f"{path}: {'; '.join(problems)} supported", hint="run such a task with lm_eval: holdfast serve"
        )


def _data_file(path: Path, document: Mapping[str, Any]) -> str:
    files = (document.get("dataset_kwargs") or {}).get("data_files")
    split = document.get("test_split") or document.get("validation_split") or "test"
    chosen = files.get(split) if isinstance(files, dict) else files
    chosen = chosen[0] if isinstance(chosen, list) and len(chosen) == 1 else chosen
    if document["dataset_path"] != "json" or not isinstance(chosen, str):
        raise UsageError(f"{path}: only dataset_path: json with one local file for split {split} can be read")
    return chosen


def _task_of_metrics(path: Path, document: Mapping[str, Any]) -> Task:
    scorers = []
    for entry in document.get("metric_list") or [{"metric": EXACT}]:
        if entry.get("metric") != EXACT or entry.get("ignore_punctuation") or entry.get("regexes_to_ignore"):
            raise UsageError(
                f"{path}: of lm_eval's metrics only plain {EXACT} is known here, found {json.dumps(entry)}"
            )
        case = not entry.get("ignore_case", False)
        scorers.append(ScorerConfig(kind="exact", name=EXACT, case_sensitive=case))
    return Task(task=str(document.get("task") or path.stem), scorers=tuple(scorers))


def _render(path: Path, document: Mapping[str, Any], key: str, row: Mapping[str, Any], line: int) -> str:
    """One template of theirs over one row: a column's name, or Jinja2 in a sandbox."""
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template = document.get(key)
    if not isinstance(template, str):
        raise UsageError(f"{path}: {key} must be a template, found {template!r}")
    if template in row:
        return str(row[template])
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.from_string(template).render(**row)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ConfigError(f"{path}: {key} at row {line}: {error}") from None
