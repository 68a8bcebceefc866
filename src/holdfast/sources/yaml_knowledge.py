"""The facts of a knowledge base as YAML, without Prolog."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from holdfast.core.errors import ContractError, UsageError
from holdfast.core.knowledge import SECTIONS, Condition, Frozen, Knowledge, Name, Rack, Threshold
from holdfast.core.template import check_names
from holdfast.core.validated import read_model

RUNBOOK_NAMES = ("node", "rack", "switch", "detail")


class Action(Frozen):
    """One step: what it is for, and the command."""

    step: Name
    command: Name

    @field_validator("step", "command")
    @classmethod
    def _placeholders(cls, value: str) -> str:
        return check_names(value, RUNBOOK_NAMES)


class Runbook(Frozen):
    """What the three sections say; placeholders: node, rack, switch, detail."""

    cause: Name
    actions: tuple[Action, ...] = Field(min_length=1)
    escalation: Name

    @field_validator("cause", "escalation")
    @classmethod
    def _placeholders(cls, value: str) -> str:
        return check_names(value, RUNBOOK_NAMES)

    def text(self) -> str:
        """The runbook as Markdown, with its placeholders."""
        steps = "\n".join(f"{n}. {action.step}: `{action.command}`" for n, action in enumerate(self.actions, 1))
        bodies = (self.cause, steps, self.escalation)
        return "\n\n".join(f"## {title}\n{body}" for title, body in zip(SECTIONS, bodies, strict=True))


class YamlCondition(Frozen):
    """A condition; `detail` is made of the thresholds when it is not given."""

    severity: Name
    detail: str = ""
    thresholds: tuple[Threshold, ...] = ()
    runbook: Runbook | Annotated[str, Field(min_length=1)]


class KnowledgeFile(Frozen):
    """A knowledge file. `nodes`: those that no rack holds, or the order of all."""

    nodes: tuple[Name, ...] = ()
    racks: dict[Name, Rack] = {}
    conditions: dict[Name, YamlCondition] = Field(min_length=1)


def read_yaml_knowledge(path: Path) -> Knowledge:
    """The facts of a knowledge file. Raises ConfigError with all problems and lines, ContractError when facts clash."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint="correct the path of the source")
    file = read_model(KnowledgeFile, path, hint="examples/analyst/knowledge.yaml shows such a file")
    racked = [node for rack in file.racks.values() for node in rack.nodes]
    nodes = tuple(dict.fromkeys((*file.nodes, *racked)))
    if not nodes:
        raise ContractError(f"{path}: there is no node, neither in `nodes` nor in `racks`", hint="name at least one")
    twice = sorted({node for node in racked if racked.count(node) > 1})
    if twice:
        raise ContractError(f"{path}: {', '.join(twice)} is in two racks", hint="a node is in one rack")
    conditions = {name: _condition(found) for name, found in file.conditions.items()}
    return Knowledge(nodes=nodes, racks=file.racks, conditions=conditions)


def _condition(found: YamlCondition) -> Condition:
    detail = found.detail or describe_thresholds(found.thresholds)
    text = found.runbook if isinstance(found.runbook, str) else found.runbook.text()
    return Condition(severity=found.severity, detail=detail, thresholds=found.thresholds,
                     runbook=text.strip().replace("{detail}", detail))  # fmt: skip


def describe_thresholds(thresholds: tuple[Threshold, ...]) -> str:
    """Thresholds in words: `cpu_steal >= 10 % and disk_latency >= 0.5 ms`."""
    return " and ".join(map(str, thresholds))
