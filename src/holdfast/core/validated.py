"""From a YAML document to a frozen pydantic model, with every error at once: file, line, key, value, did you mean."""

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from holdfast.core.errors import ConfigError
from holdfast.core.yamlfile import KeyPath, load_yaml

Model = TypeVar("Model", bound=BaseModel)
# pydantic's words for these are about Python; the reader has a YAML file.
WORDS = {"tuple_type": "expected a list", "model_type": "expected `key: value` lines",
         "dict_type": "expected `key: value` lines"}  # fmt: skip


def read_model(
    kind: type[Model],
    path: Path,
    overrides: dict[KeyPath, Any] | None = None,
    hint: str = "`holdfast config-schema` prints every key with its type and default",
) -> Model:
    """Read and check a YAML file. `overrides` maps key paths to values that win over the file (from `--set`); `hint`
    says where its keys are described.

    Raises ConfigError listing all problems.
    """
    document, lines = load_yaml(path)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: expected `key: value` lines, found {type(document).__name__}")
    return check_document(kind, document, str(path), lines, overrides, f"correct the file; {hint}")


def check_document(
    kind: type[Model],
    document: dict[str, Any],
    name: str,
    lines: dict[KeyPath, int],
    overrides: dict[KeyPath, Any] | None,
    hint: str,
) -> Model:
    """Check a document that came from `name`, with `overrides` in it; `lines` says where its keys are.

    Raises ConfigError listing all problems.
    """
    for keys, value in (overrides or {}).items():
        _set(document, keys, value)
    try:
        return kind.model_validate(document, strict=False)
    except ValidationError as error:
        # A list whose items are wrong counts as empty to pydantic, which would be one more error, and an untrue one.
        items = [item for item in error.errors() if not (item["type"] == "too_short" and item["input"])]
        given = [_given(item, overrides or {}) for item in items]
        problems = [
            _describe(kind, found or name, {} if found else lines, item)
            for found, item in zip(given, items, strict=True)
        ]
        if all(given):
            hint = f"correct {', '.join(dict.fromkeys(found for found in given if found))}"
        raise ConfigError(
            f"{len(problems)} error{'s' if len(problems) > 1 else ''} in {name}:\n  " + "\n  ".join(problems), hint=hint
        ) from None


def _given(item: Any, overrides: dict[KeyPath, Any]) -> str | None:
    """The `--set` that an error is about; None when it is about the file."""
    location = tuple(map(str, item["loc"]))
    for keys, value in overrides.items():
        if location and location[: len(keys)] == tuple(map(str, keys)):
            return f"--set {'.'.join(map(str, keys))}={value}"
    return None


def _set(document: dict[str, Any], keys: KeyPath, value: Any) -> None:
    for key in keys[:-1]:
        step = document.setdefault(str(key), {})
        if not isinstance(step, dict):
            raise ConfigError(f"--set {'.'.join(map(str, keys))}: {key} is not a section")
        document = step
    document[str(keys[-1])] = value


def _describe(kind: type[BaseModel], source: str, lines: dict[KeyPath, int], item: Any) -> str:
    location: KeyPath = tuple(item["loc"])
    ends = range(len(location), 0, -1)
    places = [(*location[: n - 1], step) for n in ends for step in (location[n - 1], str(location[n - 1]))]
    where = f"{source}:{next((lines[place] for place in places if place in lines), 1)}" if lines else source
    name = ".".join(map(str, location))
    if item["type"] == "extra_forbidden":
        known = _keys_at(kind, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
        meant = f", did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"
        return f"{where}: unknown key {name!r}{meant}"
    if item["type"] == "missing":
        return f"{where}: {name!r} is missing"
    what = WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
    if not location:  # about the file as a whole, which need not be shown
        return f"{where}: {what}"
    return f"{where}: {name}: {what}; found {_short(item['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"


def _keys_at(kind: type[BaseModel], location: KeyPath) -> list[str]:
    """Names of the fields of the model that sits at `location` below `kind`."""
    key_of_mapping = False
    for step in location:
        if isinstance(step, int) or key_of_mapping:
            key_of_mapping = False
            continue
        field = kind.model_fields.get(step)
        below = _model_in(field.annotation) if field else None
        if field is None or below is None:
            return []
        kind, key_of_mapping = below, get_origin(field.annotation) is dict
    return list(kind.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _model_in(inner):
            return found
    return None
