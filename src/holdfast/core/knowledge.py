"""What a knowledge base says, as a document: `knowledge.json`, written by collect, read by everything that scores."""

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from holdfast.core.errors import ContractError, IntegrityError

KNOWLEDGE_FILE = "knowledge.json"
SECTIONS = ("Probable Cause", "Immediate Actions", "Escalation Criteria")
PLACE = re.compile(r"\{(node|rack|switch)\}")
Name = Annotated[str, Field(min_length=1, pattern=r"^\S(.*\S)?$")]


class Frozen(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Threshold(Frozen):
    """A limit of one metric, for example `cpu_steal >= 40 %`."""

    metric: Name
    operator: Annotated[str, Field(pattern=r"^(>=|<=|>|<|=|==)$")]
    value: int | float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.value} {self.unit}".strip()


class Condition(Frozen):
    """An alert condition. `runbook` holds `{node}`, `{rack}` and `{switch}`; `own_runbooks`: nodes that differ."""

    severity: Name
    detail: str
    thresholds: tuple[Threshold, ...] = ()
    runbook: str
    own_runbooks: dict[str, str] = {}


class Rack(Frozen):
    """A rack: its switch (empty = not known) and its nodes, in order."""

    switch: str = ""
    nodes: tuple[Name, ...] = ()


class Knowledge(Frozen):
    """All facts of a knowledge base. Nodes are in order; one that no rack names has no rack."""

    nodes: tuple[Name, ...]
    racks: dict[str, Rack] = {}
    conditions: dict[str, Condition]

    def rack_of(self, node: str) -> str:
        """Name of a node's rack, empty when there is none."""
        return next((name for name, rack in self.racks.items() if node in rack.nodes), "")

    def switch_of(self, node: str) -> str:
        """Name of the switch that a node hangs on, empty when it is not known."""
        rack = self.rack_of(node)
        return self.racks[rack].switch if rack else ""

    def places(self, node: str) -> dict[str, str]:
        """Values of the placeholders node, rack and switch."""
        return {"node": node, "rack": self.rack_of(node), "switch": self.switch_of(node)}

    def runbook(self, condition: str, node: str) -> str:
        """The runbook of a condition for a node. Raises KeyError for an unknown condition."""
        found, places = self.conditions[condition], self.places(node)
        return found.own_runbooks.get(node) or PLACE.sub(lambda match: places[match[1]], found.runbook)


def read_knowledge(folder: Path) -> Knowledge | None:
    """`knowledge.json` of a stage folder; None when the run has no knowledge base. Raises IntegrityError."""
    path = folder / KNOWLEDGE_FILE
    if not path.is_file():
        return None
    try:
        return Knowledge.model_validate(json.loads(path.read_bytes()))
    except (ValueError, ValidationError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", hint="holdfast run -c FILE --from collect") from None


def merge_knowledge(named: list[tuple[str, Knowledge]]) -> Knowledge | None:
    """One knowledge base of several, None of none. Raises ContractError when two say different things."""
    merged: dict[str, dict[str, object]] = {"conditions": {}, "racks": {}}
    nodes: dict[str, None] = {}
    for name, knowledge in named:
        nodes |= dict.fromkeys(knowledge.nodes)
        for kind, found in (("conditions", knowledge.conditions), ("racks", knowledge.racks)):
            for key, value in found.items():
                if merged[kind].setdefault(key, value) != value:
                    raise ContractError(f"{name}: {kind[:-1]} {key!r} is not what an earlier source says",
                                        hint="keep one truth for each name, or make two runs")  # fmt: skip
    if not named:
        return None
    return Knowledge.model_validate({"nodes": tuple(nodes), **merged})
