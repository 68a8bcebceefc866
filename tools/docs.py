"""Write the reference pages that code already knows, so that they cannot be wrong.

python tools/docs.py                    write docs/cli.md, docs/errors.md and docs/config.md
python tools/docs.py --check            exit 1 when one of them is stale
holdfast demo --dir runs | python tools/docs.py --readme    put that output into README.md (standard input)
"""

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from holdfast import decide  # noqa: E402
from holdfast.cli import app  # noqa: E402
from holdfast.core import errors  # noqa: E402
from holdfast.core.config import RunConfig  # noqa: E402
from holdfast.core.errors import HoldfastError  # noqa: E402
from holdfast.dataset.contract import DatasetContract  # noqa: E402

NOTE = "<!-- Written by tools/docs.py; edit the code it reads, then run it again. -->"
MARKER = "<!-- demo output: make readme-output -->"


class Key(BaseModel):
    """One key of a configuration file."""

    name: str
    type: str
    default: str
    text: str


def commands() -> dict[str, Any]:
    """Every verb by name, in the order of `holdfast --help`."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def render_cli() -> str:
    """docs/cli.md: every verb with its arguments and options."""
    group: Any = typer.main.get_command(app)
    general = ", ".join(_code(option.opts[0]) for option in group.params) + ", `--help`"
    parts = [
        "# Command line",
        NOTE,
        f"{group.help}\n\nOptions before the verb: {general}. Every verb has `--help`.",
        "With `--json` a verb prints exactly one JSON document on stdout, also when it fails; everything else goes to "
        "stderr. Exit codes: [errors.md](errors.md). Keys for `--set`: [config.md](config.md).",
    ]
    for name, command in commands().items():
        words = [f"holdfast {name}"]
        words += [_metavar(p) for p in command.params if p.param_type_name == "argument"]
        words += [f"{p.opts[-1]} …" for p in command.params if p.param_type_name == "option" and p.required]
        rows = [_parameter_row(p) for p in command.params]
        parts += [f"## {name}", command.help, f"    {' '.join(words)}", _table(("", "", "default"), rows)]
    return _page(parts)


def render_errors() -> str:
    """docs/errors.md: exit codes, the exception tree and the verdicts."""
    tree = list(exceptions())
    rows = [(f"`{'· ' * depth}{kind.__name__}`", str(kind.exit_code), _first(kind)) for depth, kind in tree]
    rows.append(("`Interrupted`", str(errors.EXIT_INTERRUPTED), _first(errors.Interrupted)))
    rows.append(("any other exception", str(errors.EXIT_BUG), "A bug in holdfast; a log is saved and named."))
    verdicts = [(f"`{verdict}`", str(code)) for verdict, code in decide.EXIT_CODES.items()]
    doc = inspect.getdoc(decide) or ""
    table = doc[doc.index("| verdict") :]
    return _page([
        "# Errors and exit codes",
        NOTE,
        "An error says what happened, the measured value and the limit, and ends with `next:` and a command. With "
        '`--json` stdout holds `{"error": {"kind", "message", "next"}, "exit_code"}`; `kind` is a name of this table, '
        "`Interrupted` or `Bug`.",
        "## Errors",
        _table(("kind", "exit code", "meaning"), rows),
        "Wrong options are reported by the command line itself, with exit code 2.",
        "## Verdicts",
        "A verdict is a result, not an error. `holdfast run` and `holdfast demo` exit with it once the run is decided.",
        _table(("verdict", "exit code"), verdicts),
        "How it is reached (first line that holds):",
        table,
        "## For scripts",
        "0 means done; from `run` and `demo` it also means `keep`. 1, 3 and 130 say nothing about the model. "
        "After 130, after 24 and after a full disk the same command goes on where it stopped.",
    ])  # fmt: skip


def render_config() -> str:
    """docs/config.md: every key of the run configuration and of the contract."""
    parts = [
        "# Configuration",
        NOTE,
        "A run is one YAML file (`holdfast run -c FILE`). `1e-5` is a number and `no` is text (YAML 1.2). An unknown "
        "key is an error. `--set train.learning_rate=1e-4` wins over the file, the file over the default. "
        "`holdfast config-schema` prints the same as JSON Schema.",
        "## Run",
    ]
    sections = list(models_below(RunConfig, ""))
    for path, model in sections:
        parts += ([f"## {path}"] if path else []) + [_sentence(model), _key_table(list(keys_of(model, path)))]
    parts += [
        "## The contract file",
        f"Named by `prepare.contract`. {_sentence(DatasetContract)}",
        _key_table(list(keys_of(DatasetContract, ""))),
    ]
    return _page(parts)


def exceptions(kind: type[HoldfastError] = HoldfastError, depth: int = 0) -> Iterator[tuple[int, type[HoldfastError]]]:
    """The exception tree from the top, children in the order of the file."""
    yield depth, kind
    for child in kind.__subclasses__():
        yield from exceptions(child, depth + 1)


def models_below(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """A model and every section in it, with the path of its keys (`collect.sources[]` for items of a list)."""
    yield path, model
    for name, field in model.model_fields.items():
        below = _section(field.annotation)
        if below is not None:
            listed = "" if below is field.annotation else "[]"
            yield from models_below(below, f"{path}.{name}{listed}" if path else name + listed)


def keys_of(model: type[BaseModel], path: str) -> Iterator[Key]:
    """Keys of one model; sections in it are not keys of their own."""
    texts = attribute_texts(model)
    for name, field in model.model_fields.items():
        if _section(field.annotation) is field.annotation:
            continue
        full = f"{path}.{name}" if path else name
        if name not in texts:
            raise SystemExit(f"{model.__name__}.{name} has no docstring below it: say what the key means")
        yield Key(name=full, type=_type_text(field), default=_default_text(field), text=texts[name])


def attribute_texts(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field of a class, by field name."""
    source = importlib.import_module(model.__module__).__file__ or ""
    tree = ast.parse(Path(source).read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == model.__name__)
    found = {}
    for field, below in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[field.target.id] = " ".join(text.value.split())
    return found


def render_all() -> dict[Path, str]:
    """Every generated page by its path."""
    docs = ROOT / "docs"
    return {docs / "cli.md": render_cli(), docs / "errors.md": render_errors(), docs / "config.md": render_config()}


def stale_pages() -> list[str]:
    """Pages that are not what the code says now."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in render_all().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def with_output(readme: str, output: str) -> str:
    """README.md's text with `output` in the block below the marker."""
    pattern = re.compile(re.escape(MARKER) + r"\n```text\n.*?```\n", re.DOTALL)
    if len(pattern.findall(readme)) != 1 or not output.strip() or "```" in output:
        raise SystemExit(f"need one block below {MARKER} in README.md, and some output on standard input")
    return pattern.sub(lambda _: f"{MARKER}\n```text\n{output.strip()}\n```\n", readme)


def main() -> int:
    """Write, check, or refresh the README's output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a page is stale")
    parser.add_argument("--readme", action="store_true", help="put standard input into README.md's output block")
    chosen = parser.parse_args()
    if chosen.readme:
        readme = ROOT / "README.md"
        readme.write_text(with_output(readme.read_text(encoding="utf-8"), sys.stdin.read()), encoding="utf-8")
        return 0
    if chosen.check:
        stale = stale_pages()
        print("\n".join(f"{name} is stale: run python tools/docs.py" for name in stale) or "all pages are current")
        return 1 if stale else 0
    for path, text in render_all().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def _parameter_row(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        return _code(_metavar(parameter)), parameter.help or "", "required" if parameter.required else ""
    names = ", ".join(_code(name) for name in parameter.opts)
    default = "required" if parameter.required else "off" if parameter.is_flag else ""
    if not default and parameter.default is not None:
        default = _code(str(parameter.default))
    return names, parameter.help or "", default


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section(inner))), None)


def _type_text(field: FieldInfo) -> str:
    limits = [text for item in field.metadata for text in _limits(item)]
    return _name_type(field.annotation) + (f", {', '.join(limits)}" if limits else "")


def _limits(item: Any) -> list[str]:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "length ≥"}
    limits = [f"{sign} {value:g}" for name, sign in signs.items() if (value := getattr(item, name, None)) is not None]
    pattern = getattr(item, "pattern", None)
    return limits + ([_code(pattern)] if pattern and pattern != r"\S" else [])


def _name_type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _name_type(inner[0])
    if origin is Literal:
        return ", ".join(_code(str(value)) for value in inner)
    if origin is tuple:
        return f"list of {_name_type(inner[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(_name_type(part) for part in inner)
    if _section(annotation):
        return "section"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    if origin is dict:
        return "mapping"
    return names[annotation]


def _default_text(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return _code(json.dumps(field.default, default=lambda section: section.model_dump(exclude_defaults=True)))


def _key_table(keys: list[Key]) -> str:
    return _table(("key", "type", "default", "meaning"), [(_code(k.name), k.type, k.default, k.text) for k in keys])


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


def _first(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def _code(text: str) -> str:
    return f"`{text}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _page(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
