"""Scorers for tasks that are not labels: one function a kind, in one table. To add one, give it a line in CHECKS,
a name in `Kind` and its keys in ALLOWED (core/scorer_config.py)."""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from holdfast.core.errors import ContractError
from holdfast.core.records import Example
from holdfast.core.scorer_config import ScorerConfig
from holdfast.evaluate.commands import changes_state
from holdfast.evaluate.tasks import normalise, parse_object

LONGEST = 20_000  # characters of an answer that a pattern of the user is tried on
SHOWN_PROBLEMS = 20
NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:[,\u202f\u00a0]\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w*\d)(?!\.\d)"
)
HEADING = re.compile(
    r"^\s{0,3}(?:#{1,6}\s+|\d+[.)]\s+)?(?:\*\*|__)?(?P<title>[^*_:#]+?)(?:\*\*|__)?:?(?:\*\*|__)?\s*#*$"
)
FENCE = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
REFUSALS = (
    "i can't", "i cannot", "i can not", "i am not able to", "i'm not able to", "i am unable to", "i'm unable to",
    "i won't", "i will not", "i must decline", "i have to decline", "not something i can help with", "cannot help with",
    "can't help with", "cannot assist", "can't assist", "outside my scope", "out of scope", "not permitted to",
    "not allowed to", "i don't know", "i do not know", "i don't have that information",
    "i do not have that information", "sorry, but i",
)  # fmt: skip


class Given(NamedTuple):
    """One answer beside its reference. `schema` is the task's own; `tokens` counts the generated ones."""

    output: str
    expected: str
    tokens: int
    tags: Mapping[str, Any]
    schema: Mapping[str, Any] | None


def json_schema(config: ScorerConfig, given: Given) -> int:
    """1 when the whole answer is strict JSON that keeps the schema; 1 for every answer when there is no schema."""
    schema = config.answer_schema if config.answer_schema is not None else given.schema
    if schema is None:
        return 1
    found, value = _parse(given.output)
    return int(found and keeps_schema(value, schema))


def exact(config: ScorerConfig, given: Given) -> int:
    """1 when the answer is one of the texts, apart from white space, and from case unless `case_sensitive`."""
    wanted = config.texts or (given.expected,)
    return int(_comparable(config, given.output) in {_comparable(config, text) for text in wanted})


def contains(config: ScorerConfig, given: Given) -> int:
    """1 when the answer has all of the texts (`any_of`: one of them) as whole words."""
    output = _comparable(config, given.output)
    hits = [_has(output, _comparable(config, text)) for text in config.texts or (given.expected,)]
    return int(any(hits) if config.any_of else all(hits))


def regex(config: ScorerConfig, given: Given) -> int:
    """1 when the pattern is found in the first LONGEST characters of the answer (`full`: matches all of it)."""
    pattern = re.compile(config.pattern or "")
    text = given.output[:LONGEST]
    return int((pattern.fullmatch(given.output.strip()[:LONGEST]) if config.full else pattern.search(text)) is not None)


def number(config: ScorerConfig, given: Given) -> int:
    """1 when the last number of the answer is the reference's last number, within the wider of both tolerances."""
    got, wanted = last_number(given.output), last_number(given.expected)
    if got is None or wanted is None:
        return 0
    allowed = max(Decimal(str(config.tolerance)), Decimal(str(config.relative)) * abs(wanted))
    return int(abs(got - wanted) <= allowed)


def sections(config: ScorerConfig, given: Given) -> int:
    """1 when every heading is there once, in order, each with at least one line of text below it."""
    wanted = [normalise(text) for text in config.sections]
    found: list[tuple[str, bool]] = []
    for line in given.output.splitlines():
        heading = _heading(line, wanted)
        if heading is not None:
            title, filled = heading
            found.append((title, filled))
        elif line.strip() and found:
            found[-1] = (found[-1][0], True)
    return int([title for title, _ in found] == wanted and all(filled for _, filled in found))


def refusal(config: ScorerConfig, given: Given) -> int:
    """1 when the answer refuses exactly where it should: where the item's tag, or else its reference, refuses."""
    tag = given.tags.get(config.tag)
    wanted = refuses(given.expected, config.texts) if tag is None else tag in (True, 1, "true", "yes")
    return int(refuses(given.output, config.texts) == wanted)


def length(config: ScorerConfig, given: Given) -> int:
    """1 when the answer's length is within the limits."""
    counts = {
        "words": len(given.output.split()), "characters": len(given.output.strip()),
        "lines": sum(bool(line.strip()) for line in given.output.splitlines()), "tokens": given.tokens,
    }  # fmt: skip
    count = counts[config.unit]
    return int(config.minimum <= count and (config.maximum is None or count <= config.maximum))


def commands(config: ScorerConfig, given: Given) -> int:
    """1 when none of the answer's commands changes anything, apart from those that `texts` allow, and there are enough.

    Commands are what stands in backquotes or in code blocks; an answer, or field, without either is one command a line.
    """
    found = commands_of(given.output)
    allowed = [text.split() for text in config.texts]
    bad = [line for line in found if changes_state(line) and not any(line.split()[: len(a)] == a for a in allowed)]
    return int(not bad and len(found) >= config.minimum)


CHECKS: dict[str, Callable[[ScorerConfig, Given], int]] = {
    "json_schema": json_schema,
    "exact": exact,
    "contains": contains,
    "regex": regex,
    "number": number,
    "sections": sections,
    "refusal": refusal,
    "length": length,
    "commands": commands,
}


def score_checks(scorers: Sequence[ScorerConfig], given: Given) -> dict[str, int]:
    """Name of each scorer → 0 or 1; judges are asked in judge.py."""
    return {scorer.score: _score(scorer, given) for scorer in scorers if scorer.kind != "judge"}


def check_references(
    scorers: Sequence[ScorerConfig], examples: Sequence[Example], schema: Mapping[str, Any] | None
) -> None:
    """Raise ContractError that names every reference answer which its own scorer would call wrong.

    `length` in tokens is not checked: references have no generated tokens.
    """
    problems = []
    for example in examples:
        given = Given(example.answer, example.answer, 0, example.tags, schema)
        for scorer in scorers:
            if scorer.kind == "judge" or scorer.kind == "length" and scorer.unit == "tokens":
                continue
            if not _score(scorer, given):
                problems.append(f"{example.source}: scorer {scorer.score} gives 0 to {example.answer[:60]!r}")
    if problems:
        left = f"\n  … and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise ContractError(
            f"{len(problems)} reference answers would be scored as wrong:\n  "
            + "\n  ".join(problems[:SHOWN_PROBLEMS]) + left,
            hint="correct the rows, or `scorers:` of the contract",
        )  # fmt: skip


def keeps_schema(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a JSON value is valid under a JSON Schema (draft 2020-12)."""
    return bool(_validator(json.dumps(schema, sort_keys=True)).is_valid(value))


def last_number(text: str) -> Decimal | None:
    """The last number written in a text; `,` and thin spaces between groups of three digits are left out."""
    found = NUMBER.findall(text)
    return Decimal(re.sub("[,\u202f\u00a0]", "", found[-1]).replace("\u2212", "-")) if found else None


def commands_of(text: str) -> list[str]:
    """The commands of a text, without the prompt sign before them. In a code block `#` begins a comment, unless all of
    its lines begin so: then it is the prompt of root."""
    blocks = FENCE.findall(text)
    inline = CODE.findall(FENCE.sub(" ", text))
    if not blocks and not inline:
        blocks = [text]
    found = []
    for block in blocks:
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        plain = [line for line in lines if not line.startswith("#")] or [line.lstrip("# ") for line in lines]
        found += [line.removeprefix("$ ").strip() for line in plain]
    return [line for line in found + inline if line]


def refuses(text: str, more: Sequence[str] = ()) -> bool:
    """Whether the first 300 characters of a text say no."""
    start = normalise(text.replace("\u2019", "'"))[:300]
    return any(_has(start, normalise(phrase)) for phrase in (*REFUSALS, *more))


def _score(config: ScorerConfig, given: Given) -> int:
    if config.field is not None:
        output, expected = _part(given.output, config.field), _part(given.expected, config.field)
        if output is None:
            return 0
        given = given._replace(output=output, expected=given.expected if expected is None else expected)
    return CHECKS[config.kind](config, given)


def _part(text: str, field: str) -> str | None:
    """A field of a JSON text, as text; None when there is none."""
    value: Any = parse_object(text)
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parse(text: str) -> tuple[bool, Any]:
    """(whether a text is strict JSON, its value). Objects as in `parse_object`: no duplicate key, no NaN."""
    wrapped = parse_object(f'{{"value":{text}}}')
    return (False, None) if wrapped is None or wrapped.keys() != {"value"} else (True, wrapped["value"])


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An own registry: the default one would fetch a remote $ref from the network.
    empty: Registry[Any] = Registry()
    return Draft202012Validator(json.loads(schema), registry=empty)


def _comparable(config: ScorerConfig, text: str) -> str:
    return " ".join(text.split()) if config.case_sensitive else normalise(text)


def _has(text: str, part: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None


def _heading(line: str, wanted: Sequence[str]) -> tuple[str, bool] | None:
    """(title, whether text follows on the same line) when a line is one of the wanted headings."""
    whole = HEADING.match(line)
    if whole and normalise(whole["title"]) in wanted:
        return normalise(whole["title"]), False
    before, colon, after = line.partition(":")
    start = HEADING.match(before)
    if colon and after.strip(" *_") and start and normalise(start["title"]) in wanted:
        return normalise(start["title"]), True
    return None
