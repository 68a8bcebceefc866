"""What is asked of the model: `task.json`, written by `prepare`, read by everything that scores answers."""

import json
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from holdfast.core.errors import ContractError, IntegrityError
from holdfast.core.knowledge import Knowledge, read_knowledge
from holdfast.core.records import Example
from holdfast.core.scorer_config import ScorerConfig

SHOWN_PROBLEMS = 20
TELLING = 20  # characters from which a text is not in a prompt by chance


class Task(BaseModel):
    """The contract's side of an answer. An answer is asked to be JSON when any field or a schema is named.

    `label_field` is the field that holds the label; without it a task with `labels` wants the bare label as text, and
    a task with neither wants the reference text itself. `knowledge` holds the facts of `knowledge.json` beside it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    task: str
    instruction: str = ""
    system_prompt: str = ""
    label_field: str | None = None
    labels: tuple[str, ...] = ()
    required_fields: tuple[str, ...] = ()
    answer_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    scorers: tuple[ScorerConfig, ...] = ()
    knowledge: Knowledge | None = Field(default=None, exclude=True)

    @cached_property
    def fields(self) -> frozenset[str]:
        """Fields that an answer must have."""
        return frozenset(self.required_fields) | ({self.label_field} if self.label_field else frozenset())

    @property
    def wants_json(self) -> bool:
        """Whether the answer has to be a JSON object."""
        return bool(self.fields) or self.answer_schema is not None

    @property
    def allows_other_fields(self) -> bool:
        """Whether an answer may have fields that nobody asked for: only where the schema says so in words."""
        if not self.fields:
            return True
        return self.answer_schema is not None and self.answer_schema.get("additionalProperties") is True


def read_task(path: Path) -> Task:
    """Read `task.json`, and `knowledge.json` where there is one. Raises IntegrityError when it is missing or not what
    `prepare` writes."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Task.model_validate(document).model_copy(update={"knowledge": read_knowledge(path.parent)})
    except FileNotFoundError:
        raise IntegrityError(f"there is no file {path}", hint="holdfast prepare -c FILE writes it") from None
    except (UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise IntegrityError(f"{path} is no task: {error}", hint="holdfast run -c FILE --from prepare") from None


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is from first to last character (white space around it is allowed), else None.

    Strict (RFC 8259): no code fence, no words around it, no duplicate key, no NaN, no lone surrogate.
    """
    try:
        text.encode()
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # "\ud800" is legal in JSON, but no text
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def normalise(text: str) -> str:
    """Text for exact match: Unicode NFC, case folded, every run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def bare_label(task: Task, text: str) -> str | None:
    """The label that `text` is, apart from case and white space; None when it is no label of the task."""
    return next((label for label in task.labels if normalise(label) == normalise(text)), None)


def reference_label(task: Task, example: Example) -> str | None:
    """The label of an example's reference answer; None for a task without labels.

    The reference is a JSON object with the label field, or the bare label. Raises ContractError when it is neither.
    """
    if not task.label_field and not task.labels:
        return None
    answer = parse_object(example.answer) if task.label_field else None
    label = answer.get(task.label_field or "") if answer is not None else bare_label(task, example.answer)
    if isinstance(label, str) and label.strip() and (not task.labels or label in task.labels):
        return label
    wanted = f"one of {', '.join(task.labels)}" if task.labels else "a text"
    field = f"field {task.label_field!r} of the " if task.label_field else ""
    raise ContractError(
        f"{example.source}: the {field}reference answer must be {wanted}, found {example.answer[:80]!r}",
        hint="correct the row, then repeat the command",
    )


def check_items(task: Task, examples: Sequence[Example], primary: str = "") -> None:
    """Check, before any model is loaded, that every item can be scored: some items, no duplicate, a label in each, none
    that the prompt of all items gives away; to decide by `knowledge`, a reference that is itself true.

    Raises ContractError with all problems.
    """
    if not examples:
        raise ContractError("there are 0 test items; at least 1 is needed", hint="raise prepare.test_set_size")
    problems: list[str] = []
    first: dict[str, str] = {}
    for example in examples:
        if example.id in first:
            problems.append(f"{example.source}: the same item as {first[example.id]}; it would count twice")
        first.setdefault(example.id, example.source)
        try:
            reference_label(task, example)
        except ContractError as error:
            problems.append(error.message)
        problems += given_away(task, example)
        if primary == "knowledge":
            problems += knowledge_defects(task, example)
    if problems:
        left = f"\n  … and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise ContractError(
            f"{len(problems)} of {len(examples)} test items cannot be scored:\n  "
            + "\n  ".join(problems[:SHOWN_PROBLEMS]) + left,
            hint="correct the rows, then repeat the command",
        )  # fmt: skip


def given_away(task: Task, example: Example) -> list[str]:
    """Why an item is no held-out one: its own text stands in the system prompt or in the instruction of the task, as
    an example to follow perhaps. Both models could then copy the answer."""
    asked = normalise(example.messages[-2].content) if len(example.messages) > 1 else ""
    own = asked.replace(normalise(task.instruction), "").strip() if task.instruction else asked
    shown = {"system prompt": " ".join(m.content for m in example.messages if m.role == "system"),
             "instruction": task.instruction}  # fmt: skip
    return [
        f"{example.source}: the {place} holds this very item, so it is not held out"
        for place, text in shown.items()
        if len(own) >= TELLING and own in normalise(text)
    ]


def knowledge_defects(task: Task, example: Example) -> list[str]:
    """Why an item cannot be scored by the knowledge base: no facts, tags that say nothing, or an untrue reference."""
    from holdfast.evaluate.knowledge_scorer import asked_of, problems_of

    if task.knowledge is None:
        return [f"{example.source}: there is no knowledge base to check the answer against (decide.primary: knowledge)"]
    asked = asked_of(example.tags, task.knowledge)
    if asked is None:
        return [f"{example.source}: its tags kind, condition and node do not say what the knowledge base is asked"]
    wrong = problems_of(example.answer, asked, example.prompt_text, example.answer, task.knowledge)
    return [f"{example.source}: the reference answer is not true to the knowledge base: {why}" for why in wrong]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
