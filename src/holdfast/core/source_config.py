"""What can be said about a source of knowledge: where it is, what it is, and how its rows become conversations."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from holdfast.core.knowledge_config import KnowledgeSource, PrologSource
from holdfast.core.section import Section
from holdfast.core.template import check_names

Format = Literal[
    "messages", "sharegpt", "instruction", "prompt_completion", "preference", "tickets", "telemetry",
    "prometheus_rules", "runbooks", "knowledge", "prolog",
]  # fmt: skip
Column = Annotated[str, Field(min_length=1)]

TELEMETRY_NAMES = frozenset(
    {"service", "signal", "value", "unit", "baseline", "direction", "change", "deviation", "context", "timestamp"}
)
RUNBOOK_NAMES = frozenset({"title", "section"})
ALERT_NAMES = frozenset({"alert", "expr", "for", "severity", "summary", "description", "group", "labels"})


class TicketColumns(Section):
    """Which columns are read, and which the model is to answer with."""

    input: tuple[Column, ...] = Field(min_length=1)
    """Columns that the model sees; a single one as it is, several as lines `column: value`."""
    output: tuple[Column, ...] = Field(min_length=1)
    """Columns that the model answers with."""


class TicketOptions(Section):
    """How a table of tickets becomes questions and answers."""

    instruction: Annotated[str, Field(min_length=1)]
    """Put before every ticket."""
    columns: TicketColumns
    answer: Literal["json", "text"] = "json"
    """`json` = an object with the output columns; `text` = the one output column as it is."""

    @model_validator(mode="after")
    def _one_text(self) -> "TicketOptions":
        if self.answer == "text" and len(self.columns.output) != 1:
            raise ValueError(f"answer: text needs one output column, {len(self.columns.output)} are given")
        return self


class TelemetryOptions(Section):
    """How an anomaly becomes a question, and an answer when the event brings no `interpretation`."""

    prompt: str = "Analyze: {service} {signal} {value}{unit}\nBaseline: {baseline}\nContext: {context}"
    """The question. Names: see `answer`."""
    answer: str = (
        "{service} {signal} is {direction} its baseline: {value}{unit} against {baseline}, {change}.\n"
        "Spread: {deviation}.\nContext: {context}."
    )
    """The answer, made from the facts of the event. Names: service, signal, value, unit, baseline, direction, change,
    deviation, context, timestamp; a line whose names are all empty is left out."""

    @field_validator("prompt", "answer")
    @classmethod
    def _known_names(cls, value: str) -> str:
        return check_names(value, TELEMETRY_NAMES)


class RunbookOptions(Section):
    """Which pairs a Markdown page gives."""

    pairs: tuple[Literal["alert", "section"], ...] = Field(default=("alert", "section"), min_length=1)
    """`alert` = its title is asked, the whole page answers; `section` = one question for each section."""
    alert: str = "ALERT\nCondition: {title}"
    """The question for a whole page."""
    question: str = "What does the runbook for {title} say about {section}?"
    """The question for one section."""

    @field_validator("alert", "question")
    @classmethod
    def _known_names(cls, value: str) -> str:
        return check_names(value, RUNBOOK_NAMES)


class PrometheusOptions(Section):
    """How alerting rules meet their runbooks."""

    runbooks: str | None = None
    """A folder, file or glob of Markdown runbooks; `null` = the Markdown files that lie with the rules below
    `path` (a folder or a glob)."""
    prompt: str = (
        "ALERT\nCondition: {alert}\nSeverity: {severity}\nSummary: {summary}\nDetail: {description}\n"
        "Expression: {expr}\nFor: {for}"
    )
    """The alert as the model sees it; a line whose names are all empty is left out."""

    @field_validator("prompt")
    @classmethod
    def _known_names(cls, value: str) -> str:
        return check_names(value, ALERT_NAMES)


class Source(Section):
    """Something to learn from. `split` fixes where its rows go; `auto` lets `prepare` split them."""

    path: str
    """A file, a folder, or a glob such as `data/**/*.jsonl`; files may end in `.gz` or `.zst`."""
    split: Literal["auto", "train", "valid", "test"] = "auto"
    """Where its rows go; `auto` = `prepare` splits them."""
    format: Literal["auto", Format] = "auto"
    """What the rows are; `auto` = look at them, and say what was found. Of `preference` rows only the chosen answer is
    trained and scored."""
    tickets: TicketOptions | None = None
    """For `format: tickets`: which columns are asked and answered."""
    telemetry: TelemetryOptions = TelemetryOptions()
    """For `format: telemetry`."""
    runbooks: RunbookOptions = RunbookOptions()
    """For `format: runbooks`."""
    prometheus: PrometheusOptions = PrometheusOptions()
    """For `format: prometheus_rules`."""
    knowledge: KnowledgeSource = KnowledgeSource()
    """How rows are made of a knowledge base (formats `prolog` and `knowledge`)."""
    prolog: PrologSource = PrologSource()
    """How a Prolog knowledge base is asked (format `prolog`)."""

    @model_validator(mode="after")
    def _tickets_need_columns(self) -> "Source":
        if self.format == "tickets" and self.tickets is None:
            raise ValueError("format: tickets needs `tickets: {instruction, columns: {input, output}}`")
        if self.format not in ("auto", "tickets") and self.tickets is not None:
            raise ValueError(f"`tickets:` is given, but the format is {self.format}")
        return self
