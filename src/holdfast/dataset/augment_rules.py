"""The rules file of `augment`: how an operator asks for more training rows. Read once, every error at once."""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.core.validated import read_model
from holdfast.dataset.slots import find_faults

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
SlotName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Broken = Literal[
    "vague", "wrong_node", "missing_section", "state_changing", "wrong_label", "missing_field", "prose_around_json"
]
FROM_ROW = ("input", "answer")
FROM_TASK = ("instruction",)


class Rule(BaseModel):
    """Frozen, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Paraphrase(Rule):
    """The same question in other words: the answer stays. `text` may name `{input}` and slots."""

    name: Name
    text: Text
    when: dict[str, tuple[str, ...]] = {}
    """Which rows: tag (or `label`) → values it may have; empty = all."""
    rows: Annotated[int, Field(gt=0)] = 1
    """Rows to make of one row; each draws its slots anew."""


class Grammar(Rule):
    """New rows from slots alone. `text` is the whole user turn and may name `{instruction}`."""

    name: Name
    text: Text
    answer: Text
    rows: Annotated[int, Field(gt=0)]
    """At most so many rows; fewer when the slots allow no more."""
    tags: dict[SlotName, str] = {}
    """Tags of the rows; values may name slots."""


class Contrast(Rule):
    """One fact changed, and with it the answer: what the label does not depend on is all that stays."""

    name: Name
    pattern: Text
    """Regular expression on the input; rows in which it is not found are passed over."""
    replace: str
    """What the first match becomes; may name slots and groups of the pattern (`\\1`)."""
    set: dict[str, str] = {}
    """Fields of a JSON answer that change."""
    answer: Text | None = None
    """The whole new answer instead of `set`; may name slots."""
    when: dict[str, tuple[str, ...]] = {}
    """Which rows, as in a paraphrase."""

    @model_validator(mode="after")
    def _check(self) -> "Contrast":
        try:
            compiled = re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from None
        groups = [int(number) for number in re.findall(r"\\(\d)", self.replace)]
        if groups and max(groups) > compiled.groups:
            raise ValueError(f"replace names group {max(groups)}, the pattern has {compiled.groups}")
        if bool(self.set) == (self.answer is not None):
            raise ValueError("give either set or answer: a contrast whose answer stays is a paraphrase")
        return self


class Decompose(Rule):
    """Rows with several sections or commands become rows that plan first (`<decompose>`), and rows of one `<step>`."""

    forms: tuple[Literal["plan", "step"], ...] = ("plan", "step")
    """`plan` = steps, then the whole answer; `step` = one step asked for, only its part answered."""
    minimum_steps: Annotated[int, Field(ge=2)] = 2
    """Rows with fewer sections or commands are passed over."""
    cue: Text = "List the steps first, then answer."
    """Asks for the plan; put behind the input."""


class Preferences(Rule):
    """Pairs for preference training: the row's own answer against one that breaks a rule."""

    breaks: tuple[Broken, ...] = Field(min_length=1)
    """Ways of breaking an answer; each is tried on every training row."""
    per_row: Annotated[int, Field(gt=0)] = 1
    """At most so many pairs of one row."""
    nodes: tuple[Text, ...] = ()
    """Names that a wrong answer may put in place of the right one, besides those seen in the rows."""


class AugmentRules(Rule):
    """The whole file. Only training rows are ever used or made."""

    slots: dict[SlotName, tuple[Text | dict[SlotName, Text], ...]] = {}
    """Values by name; a value is text or a record (`{text: …, priority: …}`), and may name other slots."""
    paraphrases: tuple[Paraphrase, ...] = ()
    grammars: tuple[Grammar, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    decompose: Decompose | None = None
    preferences: Preferences | None = None

    @model_validator(mode="after")
    def _can_be_filled(self) -> "AugmentRules":
        rules: list[Paraphrase | Grammar | Contrast] = [*self.paraphrases, *self.grammars, *self.contrasts]
        counts = Counter([rule.name for rule in rules] + (["decompose"] if self.decompose else []))
        faults = [f"the name {name!r} is used {count} times" for name, count in counts.items() if count > 1]
        texts = {rule.name: [rule.text] for rule in self.paraphrases}
        texts |= {rule.name: [rule.text, rule.answer, *rule.tags.values()] for rule in self.grammars}
        texts |= {rule.name: [rule.replace, *rule.set.values(), rule.answer or ""] for rule in self.contrasts}
        given = {rule.name: FROM_TASK if isinstance(rule, Grammar) else FROM_ROW for rule in rules}
        faults += find_faults(texts, self.slots, given)
        if faults:
            raise ValueError("; ".join(faults))
        return self


def read_rules(path: Path) -> AugmentRules:
    """Read a rules file. Raises ConfigError with all its problems at once."""
    return read_model(AugmentRules, path, hint="examples/triage/augment.yaml shows such a file")
