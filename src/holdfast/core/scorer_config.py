"""`scorers:` of a contract or a task file: which further checks an answer gets, and with what settings."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from holdfast.core.section import Section

Kind = Literal[
    "json_schema", "exact", "contains", "regex", "number", "sections", "refusal", "length", "commands", "judge"
]
# Names that results.json uses for other things.
RESERVED = frozenset((
    "valid_json", "label_accuracy", "stopped", "knowledge", "general", "n", "intervals", "confusion", "by_tag",
    "mean_tokens", "seconds", "quantization", "problems", "references",
))  # fmt: skip
NEEDED: dict[str, tuple[str, ...]] = {"regex": ("pattern",), "sections": ("sections",), "judge": ("url", "question")}
ALLOWED: dict[str, tuple[str, ...]] = {
    "json_schema": ("answer_schema",),
    "exact": ("texts", "case_sensitive"),
    "contains": ("texts", "case_sensitive", "any_of"),
    "regex": ("pattern", "full"),
    "number": ("tolerance", "relative"),
    "sections": ("sections",),
    "refusal": ("texts", "tag"),
    "length": ("minimum", "maximum", "unit"),
    "commands": ("texts", "minimum"),
    "judge": ("url", "model", "question"),
}
OWN_MACHINE = ("localhost", "::1")
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class ScorerConfig(Section):
    """One check that gives an answer 0 or 1. Its `kind` says which of the other keys it may have."""

    kind: Kind
    """`json_schema`, `exact`, `contains`, `regex`, `number`, `sections`, `refusal`, `length`, `commands` (none of the
    answer's commands may change anything) or `judge` (a language model on this machine says PASS or FAIL)."""
    name: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{0,39})?$")] = ""
    """Its name in results and in `decide.primary`; empty = its kind."""
    field: Text | None = None
    """Look at this field of a JSON answer (and of the reference) instead of the whole; dots lead into objects."""
    answer_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """json_schema: the JSON Schema (draft 2020-12); `null` = the task's own."""
    texts: tuple[Text, ...] = ()
    """exact, contains: the texts wanted, empty = the reference answer; refusal: further words of a refusal; commands:
    beginnings of commands that are allowed although they change something, such as `systemctl restart`."""
    any_of: bool = False
    """contains: one of the texts is enough."""
    case_sensitive: bool = False
    """exact, contains: upper and lower case differ."""
    pattern: Text | None = None
    """regex: a regular expression of Python that must be found in the answer."""
    full: bool = False
    """regex: it must match the whole answer."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """number: how far the answer's number may be from the reference's."""
    relative: Annotated[float, Field(ge=0)] = 0.0
    """number: the same as a share of the reference's number; the wider of the two counts."""
    sections: tuple[Text, ...] = ()
    """sections: headings that must be there, in this order, each with text below it."""
    tag: Text = "refuse"
    """refusal: the tag of an item that says whether to refuse; without it, whether the reference refuses."""
    minimum: Annotated[int, Field(ge=0)] = 0
    """length: fewest units; commands: fewest commands."""
    maximum: Annotated[int, Field(gt=0)] | None = None
    """length: most units."""
    unit: Literal["words", "characters", "lines", "tokens"] = "words"
    """length: what is counted."""
    url: Text = ""
    """judge: its OpenAI-compatible address on this machine, such as `http://127.0.0.1:8081/v1`."""
    model: str = "judge"
    """judge: the name of the model there."""
    question: Text = ""
    """judge: what a good answer does, in a sentence or two."""

    @property
    def score(self) -> str:
        """The name of its score."""
        return self.name or self.kind

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> "ScorerConfig":
        own = {"kind", "name", "field", *ALLOWED[self.kind]}
        if foreign := sorted(self.model_fields_set - own):
            keys = ", ".join("schema" if name == "answer_schema" else name for name in foreign)
            raise ValueError(f"a scorer of kind {self.kind} has no key {keys}")
        if missing := [name for name in NEEDED.get(self.kind, ()) if not getattr(self, name)]:
            raise ValueError(f"a scorer of kind {self.kind} needs the key {missing[0]}")
        if self.score in RESERVED:
            raise ValueError(f"the name {self.score!r} is taken by holdfast's own results")
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is below minimum {self.minimum}")
        if self.pattern is not None:
            _compiles(self.pattern)
        if self.kind == "judge":
            _is_on_this_machine(self.url)
        if self.answer_schema is not None:
            _is_a_schema(self.answer_schema)
        return self


def _compiles(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern is no regular expression: {error}") from None


def _is_on_this_machine(url: str) -> None:
    address = urlsplit(url)
    host = address.hostname or ""
    if address.scheme not in ("http", "https") or not host:
        raise ValueError(f"url {url!r} is no address such as http://127.0.0.1:8081/v1")
    if host not in OWN_MACHINE and not re.fullmatch(r"127(\.\d{1,3}){3}", host):
        raise ValueError(f"url names {host}: a judge must run on this machine (127.0.0.1), nothing leaves it")


def _is_a_schema(schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"schema is no JSON Schema: {error.message}") from None
    if outside := sorted(_references_outside(schema)):
        raise ValueError(f"schema refers to another document: {outside[0]}")


def _references_outside(part: Any) -> set[str]:
    if isinstance(part, list):
        return {found for item in part for found in _references_outside(item)}
    if not isinstance(part, dict):
        return set()
    here = {part[key] for key in ("$ref", "$dynamicRef") if isinstance(part.get(key), str)}
    return {r for r in here if not r.startswith("#")} | {f for v in part.values() for f in _references_outside(v)}


def refuse_same_names(scorers: Sequence[ScorerConfig]) -> None:
    """Raise ValueError when two scorers would have the same name."""
    names = [scorer.score for scorer in scorers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two scorers have the name {twice!r}; give one of them another `name`")


def describe_scorers(scorers: Sequence[ScorerConfig]) -> list[dict[str, Any]]:
    """The scorers as `task.json` has them: only what was set."""
    return [scorer.model_dump(mode="json", by_alias=True, exclude_unset=True) for scorer in scorers]
