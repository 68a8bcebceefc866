"""Configuration of sources that are knowledge bases: what rows are made of them, and how Prolog is asked."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from holdfast.core.section import Section
from holdfast.core.template import check_names

ALERT_NAMES = ("node", "condition", "severity", "detail", "timestamp", "measured", "rack", "switch")
TOPOLOGY_NAMES = ("node", "rack", "switch", "nodes")
ALERT = """ALERT
Node: {node}
Condition: {condition}
Severity: {severity}
Detail: {detail}
Timestamp: {timestamp}"""
RACK_QUESTION = "Which rack is node {node} in, which leaf switch serves it, and which nodes are in that rack?"
RACK_ANSWER = (
    "{node} ({rack}, {switch}). All nodes of {rack}: {nodes}. "
    "They share one failure domain: without {switch} or the power of {rack}, all of them are gone at once."
)


class TopologyTemplate(Section):
    """A question about where nodes are, and its answer; placeholders: node, rack, switch, nodes (of the rack)."""

    ask: str = RACK_QUESTION
    """The question."""
    answer: str = RACK_ANSWER
    """The answer."""
    each: Literal["rack", "node"] = "rack"
    """One row for each rack (its first node is asked for) or for each node."""

    @field_validator("ask", "answer")
    @classmethod
    def _placeholders(cls, value: str) -> str:
        return check_names(value, TOPOLOGY_NAMES)


class KnowledgeSource(Section):
    """Which rows are made of a knowledge base: alert → runbook for condition × node, and where nodes are."""

    sample_nodes: Annotated[int, Field(ge=0)] = 3
    """For how many nodes, the first ones, alerts are made; 0 = all."""
    alerts: tuple[str, ...] = (ALERT,)
    """Templates of the alert; placeholders: node, condition, severity, detail, timestamp, measured, rack, switch."""
    alerts_each: Annotated[int, Field(ge=0)] = 0
    """How many of the templates each pair of condition and node gets, in turn; 0 = all."""
    topology: tuple[TopologyTemplate, ...] = (TopologyTemplate(),)
    """Templates of questions about racks and switches."""
    folds: Annotated[int, Field(gt=0)] = 1
    """Pairs of condition and node are dealt to that many folds, so that each condition and node meets every fold."""
    use_folds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """The folds whose pairs become rows; train and test take different ones of the same knowledge base."""
    seed: int = 42
    """Seed of timestamps and measured values."""

    @field_validator("alerts")
    @classmethod
    def _placeholders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_names(template, ALERT_NAMES) for template in value)


class Predicates(Section):
    """What a Prolog knowledge base calls its predicates. The number of arguments is fixed."""

    alert_condition: str = "alert_condition"
    """alert_condition(Condition, Severity, Detail, Goal); the goal is not run."""
    known_node: str = "known_node"
    """known_node(Node), in order."""
    runbook_response: str = "runbook_response"
    """runbook_response(Condition, Node, Text), asked with condition and node given."""
    threshold: str = "threshold"
    """threshold(Condition, Metric, Operator, Value, Unit); may be missing."""
    node_rack: str = "node_rack"
    """node_rack(Node, Rack); may be missing."""
    rack_switch: str = "rack_switch"
    """rack_switch(Rack, Switch); may be missing."""


class PrologSource(Section):
    """How a Prolog knowledge base is asked, and what one query may cost."""

    predicates: Predicates = Predicates()
    """Names of the predicates that are asked; no other predicate can be."""
    query_seconds: Annotated[int, Field(gt=0)] = 2
    """Time limit of one query."""
    inferences: Annotated[int, Field(gt=0)] = 5_000_000
    """Inference limit of one query."""
    stack_mebibytes: Annotated[int, Field(gt=0)] = 128
    """Limit of Prolog's stacks."""
    answers: Annotated[int, Field(gt=0)] = 10_000
    """Most answers of one query; more is an error, never a cut."""
