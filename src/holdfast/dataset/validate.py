"""Does every row keep the contract? Pure: examples and contract in, every violation out."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.core.records import Example
from holdfast.dataset.contract import DatasetContract, script_of

SHOWN = 50


class Violation(NamedTuple):
    """One broken rule. `source` is `<file name>:<line>`, `value` what was found there."""

    rule: str
    source: str
    message: str
    value: str


class Counted(NamedTuple):
    """How many violations there are, and in how many rows."""

    violations: int
    rows: int


def validate_examples(examples: Sequence[Example], contract: DatasetContract) -> list[Violation]:
    """Every violation of every row, in the order of the rows."""
    return [violation for example in examples for violation in validate_example(example, contract)]


def validate_example(example: Example, contract: DatasetContract) -> list[Violation]:
    """All rules that one row breaks."""
    found = [*_check_prompt(example, contract), *_check_answer(example.answer, contract)]
    return [Violation(rule, example.source, message, _short(value)) for rule, message, value in found]


def strict_json(text: str) -> Any:
    """Parse JSON as RFC 8259 means it: one value, no key twice, no NaN. Raises ValueError with the reason."""
    try:
        return _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def label_of(example: Example, contract: DatasetContract | None) -> str:
    """The label in the reference answer; empty when the contract has none or the answer does not hold it."""
    return label_in(example.answer, contract)


def label_in(text: str, contract: DatasetContract | None) -> str:
    """The label in an answer; empty when the contract has none or the answer does not hold it."""
    if contract is None or not contract.labels:
        return ""
    if contract.label_field is None:
        return text if text in contract.labels else ""
    try:
        answer = _parse_once(text)
    except ValueError:
        return ""
    return str(answer.get(contract.label_field, "")) if isinstance(answer, dict) else ""


def input_text(example: Example, instruction: str) -> str:
    """The user's words without the instruction that they begin with."""
    return _without(example.prompt_text, instruction)


def _without(text: str, instruction: str) -> str:
    return text[len(instruction) :].lstrip() if instruction and text.startswith(instruction) else text


def violations_error(violations: Sequence[Violation], rows: int, counted: "Counted | None" = None) -> ContractError:
    """One error for all violations: up to 50 shown, all counted. `rows` is how many rows were checked.

    counted: how many there are, when `violations` holds only the first.
    """
    total, broken = counted or (len(violations), len({v.source for v in violations}))
    lines = [f"{v.source}: {v.rule}: {v.message}; found {v.value}" for v in violations[:SHOWN]]
    if total > SHOWN:
        lines.append(f"… and {total - SHOWN} more")
    return ContractError(
        f"{broken} of {rows} rows break the contract ({total} violations):\n  " + "\n  ".join(lines),
        hint="correct the rows or the contract, then: holdfast validate DATA --contract FILE",
    )


Found = tuple[str, str, str]  # rule, message, value


@lru_cache(maxsize=1)  # the check and the label look at the same answer, one after the other
def _parse_once(text: str) -> Any:
    return strict_json(text)


def _check_prompt(example: Example, contract: DatasetContract) -> list[Found]:
    found: list[Found] = []
    turns = [m for m in example.messages if m.role != "system"]
    first = turns[0].content if turns else ""
    after = first[len(contract.instruction) : len(contract.instruction) + 1]
    text = input_text(example, contract.instruction)
    if contract.instruction and (not first.startswith(contract.instruction) or (after and not after.isspace())):
        found.append(("instruction", f"the first user turn must begin with {contract.instruction!r}", first))
    elif not text:
        found.append(("input", "nothing follows the instruction", first))
    if contract.single_turn and len(turns) != 2:
        found.append(("single_turn", "one question and one answer are allowed", f"{len(turns)} turns"))
    if contract.max_turns is not None and len(turns) > contract.max_turns:
        found.append(("turns", f"a row may have {contract.max_turns} turns", str(len(turns))))
    if len(text) > contract.max_input_chars:
        found.append(("input_length", f"the input may have {contract.max_input_chars} characters", str(len(text))))
    if contract.scripts:
        found += _check_scripts("".join(m.content for m in turns), contract.scripts)
    return found


def _check_scripts(text: str, allowed: Sequence[str]) -> list[Found]:
    names = {name.upper() for name in allowed}
    if text.isascii() and "LATIN" in names:
        return []
    others = sorted({c for c in set(text) if script_of(c) not in names} - {c for c in set(text) if not script_of(c)})
    if not others:
        return []
    shown = "".join(others[:10])
    return [("script", f"letters must be {' or '.join(allowed)}", f"{script_of(others[0]).title()}: {shown}")]


def _check_answer(answer: str, contract: DatasetContract) -> list[Found]:
    found: list[Found] = []
    if len(answer) > contract.max_output_chars:
        found.append(("output_length", f"the answer may have {contract.max_output_chars} characters", str(len(answer))))
    if len(answer) < contract.min_output_chars:
        found.append(("output_length", f"the answer needs {contract.min_output_chars} characters", str(len(answer))))
    if contract.answer == "sections":
        return [*found, *_check_sections(answer, contract)]
    if contract.answer == "text":
        if contract.labels and answer not in contract.labels:
            found.append(("label", f"the answer must be one of {', '.join(contract.labels)}", answer))
        return found
    return [*found, *_check_json(answer, contract)]


def _check_sections(answer: str, contract: DatasetContract) -> list[Found]:
    """Required sections, each once, in order and not empty; see `split_sections`."""
    found: list[Found] = []
    sections = split_sections(answer, contract.required_sections)
    names = [name for name, _ in sections]
    wanted = [name.casefold() for name in contract.required_sections]
    for name in contract.required_sections:
        bodies = [body for title, body in sections if title == name.casefold()]
        if not bodies:
            found.append(("section_missing", f"the section {name!r} is missing", ", ".join(names) or "no section"))
        elif len(bodies) > 1:
            found.append(("section_twice", f"the section {name!r} is there {len(bodies)} times", ", ".join(names)))
        elif not bodies[0].strip():
            found.append(("section_empty", f"the section {name!r} is empty", name))
    order = [name for name in names if name in wanted]
    if not found and order != wanted:
        found.append(("section_order", f"sections must be in the order {', '.join(contract.required_sections)}",
                      ", ".join(order)))  # fmt: skip
    others = [name for name in names if name not in wanted]
    if others and not contract.allow_other_sections:
        found.append(("section_unknown", "other sections are not allowed", ", ".join(others)))
    return found


HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$")
FENCE = re.compile(r"^ {0,3}(```|~~~)")


def split_sections(text: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """(title case folded, body) of each section: a Markdown heading, or a line `Name:` for one of `names`.

    Text behind `Name:` on the same line belongs to the body. What stands in a code fence is no heading.
    """
    known = {name.casefold() for name in names}
    sections: list[tuple[str, list[str]]] = []
    fence = ""
    for line in text.splitlines():
        if mark := FENCE.match(line):
            fence = "" if fence == mark[1] else fence or mark[1]
        heading = None if fence else HEADING.match(line)
        title, colon, rest = line.strip().strip("*").partition(":")
        if heading:
            sections.append((heading[1].strip().strip("*").rstrip(":").casefold(), []))
        elif colon and not fence and title.strip("* ").casefold() in known:
            sections.append((title.strip("* ").casefold(), [rest.strip("* ")]))
        elif sections:
            sections[-1][1].append(line)
    return [(title, "\n".join(lines)) for title, lines in sections]


def _check_json(answer: str, contract: DatasetContract) -> list[Found]:
    found: list[Found] = []
    try:
        document = _parse_once(answer)
    except ValueError as error:
        return [("json", f"the answer is not strict JSON: {error}", answer)]
    if contract.json_schema is not None:
        found += _check_schema(document, contract)
    if not isinstance(document, dict):
        return found or ([] if contract.json_schema and not contract.required_fields
                         else [("object", "the answer must be a JSON object", answer)])  # fmt: skip
    return [*found, *_check_fields(document, contract)]


def _check_fields(document: dict[str, Any], contract: DatasetContract) -> list[Found]:
    found: list[Found] = []
    for name in contract.required_fields:
        if name not in document:
            found.append(("field_missing", f"the field {name!r} is missing", ", ".join(document) or "no field"))
        elif name == contract.label_field and document[name] not in contract.labels and isinstance(document[name], str):
            if document[name].strip():
                found.append(("label", f"{name!r} must be one of {', '.join(contract.labels)}", document[name]))
            else:
                found.append(("field_text", f"the field {name!r} must be a non-empty string", repr(document[name])))
        elif contract.json_schema is None and not _is_text(document[name]):
            found.append(("field_text", f"the field {name!r} must be a non-empty string", repr(document[name])))
    if not contract.allow_other_fields and contract.json_schema is None:
        others = [name for name in document if name not in contract.required_fields]
        if others:
            found.append(("field_unknown", "other fields are not allowed", ", ".join(others)))
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _check_schema(document: Any, contract: DatasetContract) -> list[Found]:
    validator = _validator(json.dumps(contract.json_schema))
    try:
        errors = sorted(validator.iter_errors(document), key=lambda e: list(map(str, e.absolute_path)))
    except RecursionError:
        return [("schema", "nested too deeply for its schema", "")]
    return [
        ("schema", f"{e.json_path}: {_short(e.message)}", json.dumps(e.instance, ensure_ascii=False)) for e in errors
    ]


@lru_cache(maxsize=4)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    registry: Any = Registry()  # an empty one: nothing is ever fetched
    return Draft202012Validator(json.loads(schema), registry=registry)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"the key {key!r} is given twice")
        document[key] = value
    return document


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value")


_STRICT = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)


def _short(value: str) -> str:
    text = value.replace("\n", "\\n").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 100 else text[:99] + "…"
