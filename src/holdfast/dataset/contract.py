"""What a data set promises: one file, agreed before the first row is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.core.records import Example
from holdfast.core.scorer_config import ScorerConfig, describe_scorers, refuse_same_names
from holdfast.core.validated import read_model

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class DatasetContract(BaseModel):
    """Every answer is one strict JSON object whose required fields are non-empty strings.

    Lengths are characters: input = the user's words without the instruction, output = the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Text
    """Name of the task."""
    instruction: Text
    """Text that the first user turn of every row begins with."""
    label_field: Text | None = None
    """The required field that holds the label; `null` = answers have no label."""
    labels: tuple[Text, ...] = ()
    """Values that the label may have; at least two when there is a `label_field`."""
    required_fields: tuple[Text, ...] = Field(min_length=1)
    """Fields that every answer must have."""
    allow_other_fields: bool = False
    """Whether an answer may have fields besides the required ones."""
    max_input_chars: Annotated[int, Field(gt=0)] = 4000
    """Longest input, without the instruction."""
    max_output_chars: Annotated[int, Field(gt=0)] = 4000
    """Longest answer."""
    single_turn: bool = True
    """Whether a row must be one question and one answer."""
    out_of_scope: tuple[str, ...] = ()
    """What the task leaves out; goes into the model card."""
    scorers: tuple[ScorerConfig, ...] = ()
    """Further checks of every answer; `decide.primary` may name any of them."""

    @model_validator(mode="after")
    def _fields_agree(self) -> "DatasetContract":
        refuse_same_names(self.scorers)
        for name in ("labels", "required_fields"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names a value twice: {', '.join(values)}")
        if self.label_field is None and self.labels:
            raise ValueError("labels are given, but label_field does not say which field holds them")
        if self.label_field is not None and self.label_field not in self.required_fields:
            raise ValueError(f"label_field {self.label_field!r} is not one of required_fields")
        if self.label_field is not None and len(self.labels) < 2:
            raise ValueError(f"label_field {self.label_field!r} needs at least two labels, found {len(self.labels)}")
        return self


def read_contract(path: Path) -> DatasetContract:
    """Read a contract file. Raises ConfigError with all its problems at once."""
    return read_model(DatasetContract, path)


def answer_schema(contract: DatasetContract) -> dict[str, Any]:
    """JSON Schema of the answer, for constrained decoding and for people.

    Source: https://json-schema.org/draft/2020-12/json-schema-validation
    """
    properties: dict[str, Any] = {name: {"type": "string", "minLength": 1} for name in contract.required_fields}
    if contract.label_field is not None:
        properties[contract.label_field] = {"type": "string", "enum": list(contract.labels)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(contract.required_fields),
        "additionalProperties": contract.allow_other_fields,
    }


def describe_task(contract: DatasetContract | None, name: str, examples: Sequence[Example]) -> dict[str, Any]:
    """The document `task.json`. The system prompt is the one that all examples share, else empty."""
    system_prompts = {e.messages[0].content if e.messages[0].role == "system" else "" for e in examples}
    system_prompt = system_prompts.pop() if len(system_prompts) == 1 else ""
    if contract is None:
        return {
            "task": name,
            "instruction": "",
            "system_prompt": system_prompt,
            "label_field": None,
            "labels": [],
            "required_fields": [],
            "schema": None,
        }
    return {
        "task": contract.task,
        "instruction": contract.instruction,
        "system_prompt": system_prompt,
        "label_field": contract.label_field,
        "labels": list(contract.labels),
        "required_fields": list(contract.required_fields),
        "schema": answer_schema(contract),
        **({"scorers": describe_scorers(contract.scorers)} if contract.scorers else {}),
    }
