"""Rows from a knowledge base: alert → runbook for condition × sample nodes, questions about racks and switches.

Every row is made of facts and templates alone, so equal facts give equal rows, whichever file they come from. Values
that change from row to row (timestamp, measured value) are drawn from the seed, never from a clock.
"""

import datetime
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from holdfast.core.config import Source
from holdfast.core.errors import ContractError
from holdfast.core.knowledge import Condition, Knowledge, Threshold
from holdfast.core.knowledge_config import KnowledgeSource, TopologyTemplate
from holdfast.core.records import Example, Message
from holdfast.core.template import fill
from holdfast.sources.defects import Defect, FileReport

YEAR_SECONDS = 365 * 86400
FIRST_DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class KnowledgeReading(NamedTuple):
    """What a knowledge source gives: rows, and the facts that answers are checked against."""

    examples: list[Example]
    facts: Knowledge


def read_facts(source: Source, files: Sequence[tuple[Path, str]], report: FileReport) -> Iterator[Example | Defect]:
    """The rows of a knowledge base; its facts go into the report. Raises what `read_knowledge_source` raises."""
    found = read_knowledge_source(source.model_copy(update={"format": report.format}), report.name)
    report.facts = found.facts
    yield from found.examples


def read_knowledge_source(source: Source, name: str) -> KnowledgeReading:
    """Read a source of format `prolog` or `knowledge`; `name` is what its rows are called after.

    Raises ContractError when the knowledge base is refused or says too little, UsageError when it is not there or
    SWI-Prolog is missing, ConfigError for a broken YAML file.
    """
    path = Path(source.path)
    if source.format == "prolog":
        from holdfast.sources.prolog_knowledge import read_prolog_knowledge

        facts = read_prolog_knowledge(path, name, source.prolog)
    else:
        from holdfast.sources.yaml_knowledge import read_yaml_knowledge

        facts = read_yaml_knowledge(path)
    label = name if source.split == "auto" else f"{name}[{source.split}]"
    split = None if source.split == "auto" else source.split
    rows = (structs.replace(row, split=split) for row in make_examples(facts, source.knowledge, label))
    return KnowledgeReading(list(rows), facts)


def make_examples(facts: Knowledge, options: KnowledgeSource, label: str) -> Iterator[Example]:
    """All rows, in the order of conditions, nodes and templates, then of topology templates.

    Raises ContractError when the options ask for nodes or folds that do not exist.
    """
    if options.sample_nodes > len(facts.nodes):
        raise ContractError(
            f"{label}: sample_nodes is {options.sample_nodes}, but there are {len(facts.nodes)} nodes",
            hint=f"at most {len(facts.nodes)}; 0 takes all",
        )
    beyond = [fold for fold in options.use_folds if fold >= options.folds]
    if beyond:
        raise ContractError(
            f"{label}: use_folds names {beyond[0]}, but folds is {options.folds}",
            hint=f"folds are 0 to {options.folds - 1}",
        )
    count = len(options.alerts)
    each = min(options.alerts_each or count, count)
    sampled = facts.nodes[: options.sample_nodes or len(facts.nodes)]
    dealt = 0
    for position, condition in enumerate(facts.conditions):
        for number, node in enumerate(sampled):
            if (position + number) % options.folds in options.use_folds:
                chosen = sorted((dealt + step) % count for step in range(each))
                yield from _alerts(facts, options, condition, node, chosen, label)
                dealt += each
    for number, template in enumerate(options.topology, 1):
        yield from _topology(facts, template, number, label)


def _alerts(
    facts: Knowledge, options: KnowledgeSource, name: str, node: str, chosen: list[int], label: str
) -> Iterator[Example]:
    condition = facts.conditions[name]
    fact = f"alert({name},{node})"
    for number in chosen:
        template = options.alerts[number]
        draw = _Draw(f"{options.seed}:{fact}:{template}")
        values = {
            **facts.places(node), "condition": name, "severity": condition.severity, "detail": condition.detail,
            "timestamp": draw.timestamp(), "measured": draw.measured(condition),
        }  # fmt: skip
        tags = {"fact": fact, "kind": "runbook", "condition": name, "node": node, "rack": facts.rack_of(node)}
        yield _example(fill(template, values), facts.runbook(name, node), f"{label}:{fact}#{number + 1}", tags)


def _topology(facts: Knowledge, template: TopologyTemplate, number: int, label: str) -> Iterator[Example]:
    for name, rack in facts.racks.items():
        for node in rack.nodes if template.each == "node" else rack.nodes[:1]:
            fact = f"rack({name})" if template.each == "rack" else f"place({node})"
            values = {"node": node, "rack": name, "switch": rack.switch, "nodes": ", ".join(rack.nodes)}
            tags = {"fact": fact, "kind": "topology", "condition": "", "node": node, "rack": name}
            yield _example(fill(template.ask, values), fill(template.answer, values), f"{label}:{fact}#{number}", tags)


def _example(asked: str, answer: str, source: str, tags: dict[str, str]) -> Example:
    messages = (Message(role="user", content=asked), Message(role="assistant", content=answer))
    return Example(messages=messages, source=source, tags={**tags})


class _Draw:
    """Values that look random and are the same every time."""

    def __init__(self, key: str) -> None:
        self.number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big")

    def timestamp(self) -> str:
        """A second of the year 2026, UTC, ISO 8601."""
        moment = FIRST_DAY + datetime.timedelta(seconds=self.number % YEAR_SECONDS)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def measured(self, condition: Condition) -> str:
        """A value beyond each threshold, for example `cpu_steal 47 %`."""
        parts = []
        for threshold in condition.thresholds:
            self.number //= 1000
            parts.append(f"{threshold.metric} {_beyond(threshold, self.number % 1000 / 1000)} {threshold.unit}".strip())
        return ", ".join(parts) or condition.detail


def _beyond(threshold: Threshold, share: float) -> str:
    """A value on the alarming side of the threshold, up to half of it away; a percentage ends at 100."""
    value = float(threshold.value)
    if threshold.operator in ("=", "=="):
        return str(threshold.value)
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 0.1
    room = abs(value) / 2 or 1.0
    if threshold.operator.startswith(">") and threshold.unit == "%":
        room = min(room, max(0.0, 100 - value))
    beyond = round(share * room / step) * step
    signed = value + beyond if threshold.operator.startswith(">") else value - beyond
    return f"{signed:.10g}"
