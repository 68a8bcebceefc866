"""Does every row keep the contract? Pure: examples and contract in, every violation out."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.core.records import Example
from holdfast.dataset.contract import DatasetContract

SHOWN = 50


class Violation(NamedTuple):
    """One broken rule. `source` is `<file name>:<line>`, `value` what was found there."""

    rule: str
    source: str
    message: str
    value: str


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
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def label_of(example: Example, contract: DatasetContract | None) -> str:
    """The label in the reference answer; empty when the contract has none or the answer does not hold it."""
    if contract is None or contract.label_field is None:
        return ""
    try:
        answer = strict_json(example.answer)
    except ValueError:
        return ""
    return str(answer.get(contract.label_field, "")) if isinstance(answer, dict) else ""


def input_text(example: Example, instruction: str) -> str:
    """The user's words without the instruction that they begin with."""
    text = example.prompt_text
    return text[len(instruction) :].lstrip() if text.startswith(instruction) else text


def violations_error(violations: Sequence[Violation], rows: int) -> ContractError:
    """One error for all violations: up to 50 shown, all counted. `rows` is how many rows were checked."""
    lines = [f"{v.source}: {v.rule}: {v.message}; found {v.value}" for v in violations[:SHOWN]]
    if len(violations) > SHOWN:
        lines.append(f"… and {len(violations) - SHOWN} more")
    broken = len({v.source for v in violations})
    return ContractError(
        f"{broken} of {rows} rows break the contract ({len(violations)} violations):\n  " + "\n  ".join(lines),
        hint="correct the rows or the contract, then: holdfast validate DATA --contract FILE",
    )


Found = tuple[str, str, str]  # rule, message, value


def _check_prompt(example: Example, contract: DatasetContract) -> list[Found]:
    found: list[Found] = []
    turns = [m for m in example.messages if m.role != "system"]
    first = turns[0].content if turns else ""
    after = first[len(contract.instruction) : len(contract.instruction) + 1]
    if not first.startswith(contract.instruction) or (after and not after.isspace()):
        found.append(("instruction", f"the first user turn must begin with {contract.instruction!r}", first))
    elif not input_text(example, contract.instruction):
        found.append(("input", "nothing follows the instruction", first))
    if contract.single_turn and len(turns) != 2:
        found.append(("single_turn", "one question and one answer are allowed", f"{len(turns)} turns"))
    size = len(input_text(example, contract.instruction))
    if size > contract.max_input_chars:
        found.append(("input_length", f"the input may have {contract.max_input_chars} characters", str(size)))
    return found


def _check_answer(answer: str, contract: DatasetContract) -> list[Found]:
    found: list[Found] = []
    if len(answer) > contract.max_output_chars:
        found.append(("output_length", f"the answer may have {contract.max_output_chars} characters", str(len(answer))))
    try:
        document = strict_json(answer)
    except ValueError as error:
        return [*found, ("json", f"the answer is not strict JSON: {error}", answer)]
    if not isinstance(document, dict):
        return [*found, ("object", "the answer must be a JSON object", answer)]
    for name in contract.required_fields:
        if name not in document:
            found.append(("field_missing", f"the field {name!r} is missing", ", ".join(document) or "no field"))
        elif not isinstance(document[name], str) or not document[name].strip():
            found.append(("field_text", f"the field {name!r} must be a non-empty string", repr(document[name])))
        elif name == contract.label_field and document[name] not in contract.labels:
            found.append(("label", f"{name!r} must be one of {', '.join(contract.labels)}", document[name]))
    if not contract.allow_other_fields:
        others = [name for name in document if name not in contract.required_fields]
        if others:
            found.append(("field_unknown", "other fields are not allowed", ", ".join(others)))
    return found


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"the key {key!r} is given twice")
        document[key] = value
    return document


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value")


def _short(value: str) -> str:
    text = value.replace("\n", "\\n").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 100 else text[:99] + "…"
