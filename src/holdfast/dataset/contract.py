"""What a data set promises: one file, agreed before the first row is written."""

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from holdfast.core.scorer_config import ScorerConfig, describe_scorers, refuse_same_names
from holdfast.core.validated import read_model

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Count = Annotated[int, Field(gt=0)]


class DatasetContract(BaseModel):
    """What every row keeps: how it is asked, and what its answer is.

    Lengths are characters: input = the user's words without the instruction, output = the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Text
    """Name of the task."""
    instruction: str
    """Text that the first user turn of every row begins with; `""` = none."""
    answer: Literal["json", "text", "sections"] = "json"
    """What an answer is: one strict JSON object, any text, or a runbook with `required_sections`."""
    label_field: Text | None = None
    """The required field that holds the label; `null` = answers have no label."""
    labels: tuple[Text, ...] = ()
    """Values that the label may have; at least two. With `answer: text` the whole answer is one of them."""
    required_fields: tuple[Text, ...] = Field(default=(), min_length=1)
    """Fields that every JSON answer must have, each a non-empty string unless `json_schema` says otherwise."""
    allow_other_fields: bool = False
    """Whether an answer may have fields besides the required ones; with a `json_schema` that decides alone."""
    json_schema: dict[str, Any] | None = None
    """JSON Schema (2020-12) of the answer; references to other documents are refused."""
    required_sections: tuple[Text, ...] = Field(default=(), min_length=1)
    """Sections of every answer, in this order: a Markdown heading, or a line `Name:`; none may be empty."""
    allow_other_sections: bool = True
    """Whether an answer may have Markdown headings besides the required ones."""
    max_input_chars: Count = 4000
    """Longest input, without the instruction."""
    max_output_chars: Count = 4000
    """Longest answer."""
    min_output_chars: Annotated[int, Field(ge=0)] = 0
    """Shortest answer."""
    single_turn: bool = True
    """Whether a row must be one question and one answer."""
    max_turns: Count | None = None
    """Most user and assistant turns of a row; `null` = any number."""
    scripts: tuple[Text, ...] = ()
    """Writing systems that letters may be of, as Unicode names them: Latin, Cyrillic, Greek, CJK; none = all."""
    out_of_scope: tuple[str, ...] = ()
    """What the task leaves out; goes into the model card."""
    scorers: tuple[ScorerConfig, ...] = ()
    """Further checks of every answer; `decide.primary` may name any of them."""

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            from jsonschema import Draft202012Validator
            from jsonschema.exceptions import SchemaError

            try:
                Draft202012Validator.check_schema(value)
            except SchemaError as error:
                raise ValueError(f"not a JSON Schema: {error.message}") from None
            if outside := sorted(_references_outside(value)):
                raise ValueError(f"refers to another document: {outside[0]}")
        return value

    @field_validator("scripts")
    @classmethod
    def _are_scripts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = known_scripts()
        for script in value:
            if script.upper() not in known:
                raise ValueError(f"{script!r} is no writing system; for example: Latin, Cyrillic, Greek, Arabic, CJK")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> "DatasetContract":
        refuse_same_names(self.scorers)
        for name in ("labels", "required_fields", "required_sections"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names a value twice: {', '.join(values)}")
        if self.answer == "json":
            self._json_agrees()
        elif self.required_fields or self.json_schema or self.label_field:
            raise ValueError(f"required_fields, label_field and json_schema are for answer: json, not {self.answer}")
        if (self.answer == "sections") != bool(self.required_sections):
            raise ValueError("answer: sections and required_sections go together")
        if self.answer == "sections" and self.labels:
            raise ValueError("labels are for answer: json and answer: text")
        if len(self.labels) == 1 or self.label_field is not None and not self.labels:
            raise ValueError(f"label_field {self.label_field!r} needs at least two labels, found {len(self.labels)}")
        return self

    def _json_agrees(self) -> None:
        if not self.required_fields and self.json_schema is None:
            raise ValueError("answer: json needs required_fields or a json_schema")
        if self.label_field is None and self.labels:
            raise ValueError("labels are given, but label_field does not say which field holds them")
        if self.label_field is not None and self.label_field not in self.required_fields:
            raise ValueError(f"label_field {self.label_field!r} is not one of required_fields")


def read_contract(path: Path) -> DatasetContract:
    """Read a contract file. Raises ConfigError with all its problems at once."""
    return read_model(DatasetContract, path, hint="docs/config.md describes every key of a contract")


def answer_schema(contract: DatasetContract) -> dict[str, Any] | None:
    """JSON Schema of the answer, for constrained decoding and for people; None when answers are text.

    Source: https://json-schema.org/draft/2020-12/json-schema-validation
    """
    if contract.answer != "json":
        return None
    if contract.json_schema is not None:
        return contract.json_schema
    properties: dict[str, Any] = {name: {"type": "string", "minLength": 1} for name in contract.required_fields}
    if contract.label_field is not None:
        properties[contract.label_field] = {"type": "string", "enum": list(contract.labels)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(contract.required_fields),
        "additionalProperties": contract.allow_other_fields,
    }


def describe_task(contract: DatasetContract | None, name: str, system_prompts: tuple[str, ...]) -> dict[str, Any]:
    """The document `task.json`. The system prompt is the one that all rows share, else empty."""
    system_prompt = system_prompts[0] if len(system_prompts) == 1 else ""
    if contract is None:
        contract = DatasetContract(task=name, instruction="", answer="text")
    return {
        "task": contract.task,
        "instruction": contract.instruction,
        "system_prompt": system_prompt,
        "label_field": contract.label_field,
        "labels": list(contract.labels),
        "required_fields": list(contract.required_fields),
        "required_sections": list(contract.required_sections),
        "schema": answer_schema(contract),
        **({"scorers": describe_scorers(contract.scorers)} if contract.scorers else {}),
    }


@lru_cache(maxsize=4096)
def script_of(letter: str) -> str:
    """Writing system of a letter: the first word of its Unicode name, in capitals; empty for what is no letter."""
    if not unicodedata.category(letter).startswith("L"):
        return ""
    first = unicodedata.name(letter, "").partition(" ")[0]
    # The full-width and half-width forms, and letters such as the micro sign, belong to every script.
    return "" if first in {"FULLWIDTH", "HALFWIDTH", "MODIFIER", "MICRO", "FEMININE", "MASCULINE"} else first


@lru_cache(maxsize=1)
def known_scripts() -> frozenset[str]:
    """Every writing system that `script_of` can tell, of the first two planes."""
    return frozenset(script_of(chr(code)) for code in range(0x20000)) - {""}


def _references_outside(schema: Any) -> set[str]:
    """References of a schema that do not begin with `#`."""
    if isinstance(schema, list):
        return set().union(*map(_references_outside, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema[key] for key in ("$ref", "$dynamicRef") if isinstance(schema.get(key), str)}
    return {text for text in own if not text.startswith("#")}.union(*map(_references_outside, schema.values()))
