"""holdfast's scores inside lm-evaluation-harness. `holdfast export-eval` copies this file beside the task; it needs no
holdfast. Read by lm_eval through `!function`; settings come from task.json in the same folder.

    valid_json       the whole answer is one strict JSON object with exactly the fields asked for
    label_accuracy   that, and the label is the reference's; without labels the answer is the reference, normalised
"""

import json
import unicodedata
from pathlib import Path
from typing import Any

TASK_FILE = "task.json"


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, int]:
    """Scores of one answer, called by lm_eval for every item."""
    task = json.loads(Path(__file__).with_name(TASK_FILE).read_text(encoding="utf-8"))
    return score(task, doc["target"], results[0] or "")


def score(task: dict[str, Any], target: str, output: str) -> dict[str, int]:
    """valid_json and label_accuracy (0 or 1) of an output; `task` as in task.json."""
    wants_json = bool(task["fields"]) or task["schema"] is not None
    fields = valid_fields(task, output) if wants_json else None
    return {"valid_json": int(fields is not None or not wants_json),
            "label_accuracy": int(is_right(task, wants_json, fields, target, output))}  # fmt: skip


def is_right(task: dict[str, Any], wants_json: bool, fields: dict[str, Any] | None, target: str, output: str) -> bool:
    """Whether the answer is the one wanted."""
    name, labels = task["label_field"], task["labels"]
    reference = parse_object(target)
    if name:
        return fields is not None and reference is not None and fields[name] == reference[name]
    if labels:
        return bare_label(labels, output) is not None and bare_label(labels, output) == bare_label(labels, target)
    if not wants_json:
        return normalise(output) == normalise(target)
    return fields is not None and reference is not None and normal(fields) == normal(reference)


def valid_fields(task: dict[str, Any], output: str) -> dict[str, Any] | None:
    """The answer as an object that keeps the task, else None."""
    fields = parse_object(output)
    if fields is None or not set(task["fields"]) <= fields.keys():
        return None
    if fields.keys() != set(task["fields"]) and not task["allows_other_fields"]:
        return None
    schema = task["schema"]
    if not all(fields[n].strip() if isinstance(fields[n], str) else schema is not None for n in task["fields"]):
        return None
    if schema is not None and not keeps_schema(fields, schema):
        return None
    name, labels = task["label_field"], task["labels"]
    return fields if not name or not labels or fields[name] in labels else None


def keeps_schema(fields: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether an object keeps a JSON Schema; only tasks with more than plain text fields need `jsonschema` here."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    empty: Any = Registry()
    return bool(Draft202012Validator(schema, registry=empty).is_valid(fields))


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, else None. Strict: no fence, no duplicate key, no NaN, no lone surrogate."""
    try:
        text.encode()
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def bare_label(labels: list[str], text: str) -> str | None:
    """The label that a text is, apart from case and white space."""
    return next((label for label in labels if normalise(label) == normalise(text)), None)


def normalise(text: str) -> str:
    """Unicode NFC, case folded, every run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def normal(fields: dict[str, Any]) -> dict[str, Any]:
    """An object with its texts normalised."""
    return {name: normalise(value) if isinstance(value, str) else value for name, value in fields.items()}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
