"""Facts from a Prolog knowledge base: which predicates are asked, and what their answers must be."""

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from holdfast.core.config import Source
from holdfast.core.errors import ContractError
from holdfast.core.knowledge import Condition, Knowledge, Rack, Threshold
from holdfast.core.knowledge_config import Predicates, PrologSource
from holdfast.sources.knowledge_files import knowledge_files
from holdfast.sources.prolog import DEFAULT_LIMITS, Prolog, Value, read_texts, start_prolog

ARITY = {
    "alert_condition": 4, "known_node": 1, "runbook_response": 3, "threshold": 5, "node_rack": 2, "rack_switch": 2,
}  # fmt: skip
OPERATORS = {"=<": "<=", "=:=": "=="}  # as Prolog writes them
REQUIRED = ("alert_condition", "known_node", "runbook_response")
MEANING = {
    "alert_condition": "alert_condition(Condition, Severity, Detail, Goal)",
    "known_node": "known_node(Node)",
    "runbook_response": "runbook_response(Condition, Node, Text)",
}


def read_prolog_knowledge(path: Path, name: str, options: PrologSource) -> Knowledge:
    """The facts of a .pl file or of all .pl files of a folder, taken as one knowledge base.

    Raises ContractError when a file is refused or a fact is missing or clashes, UsageError without SWI-Prolog.
    """
    files = knowledge_files(Source(path=str(path), format="prolog"))
    limits = DEFAULT_LIMITS._replace(
        seconds=options.query_seconds, inferences=options.inferences, rows=options.answers,
        stack_mebibytes=options.stack_mebibytes, memory_mebibytes=options.stack_mebibytes + 896,
    )  # fmt: skip
    named = [(f"{name}/{file.name}" if path.is_dir() else name, file) for file in files]
    names = options.predicates
    with start_prolog(name, limits) as prolog:
        prolog.load(read_texts(name, named, limits), [f"{getattr(names, key)}/{arity}" for key, arity in ARITY.items()])
        _require(prolog, name, names)
        return _ask_all(prolog, name, names)


def _require(prolog: Prolog, name: str, names: Predicates) -> None:
    missing = [key for key in REQUIRED if f"{getattr(names, key)}/{ARITY[key]}" not in prolog.predicates]
    if not missing:
        return
    lines = [f"{getattr(names, key)}/{ARITY[key]}, expected as {MEANING[key]}" for key in missing]
    others = ", ".join(sorted(prolog.predicates)) or "nothing"
    raise ContractError(
        f"{name} does not define " + "\n  nor ".join(lines) + f"\n  it defines: {others}",
        hint=f"add it, or name your predicate: `prolog: {{predicates: {{{missing[0]}: its_name}}}}` on the source",
    )


def _ask_all(prolog: Prolog, name: str, names: Predicates) -> Knowledge:
    def ask(key: str, *given: Value | None) -> list[tuple[Value, ...]]:
        predicate = getattr(names, key)
        known = f"{predicate}/{ARITY[key]}" in prolog.predicates
        return prolog.ask(predicate, *(given or [None] * ARITY[key])) if known else []

    nodes = [node for (node,) in ask("known_node")]
    racks = _racks(ask("node_rack"), ask("rack_switch"), name)
    thresholds = [(str(row[0]), _threshold(row, name, names.threshold)) for row in ask("threshold")]
    conditions = ask("alert_condition")
    for key, found in (("known_node", nodes), ("alert_condition", conditions)):
        if not found:
            raise ContractError(f"{name}: {getattr(names, key)} has no answer", hint="add at least one fact")
    plain = Knowledge(nodes=tuple(dict.fromkeys(map(str, nodes))), racks=racks, conditions={})
    made: dict[str, Condition] = {}
    for condition, severity, detail, _ in conditions:
        if str(condition) in made:
            raise ContractError(f"{name}: condition {condition} is defined twice", hint="keep one of them")
        answers = prolog.ask_many(names.runbook_response, [(condition, node, None) for node in nodes])
        texts = {
            str(node): _one_text(rows, f"{names.runbook_response}({condition}, {node}, Text)", name)
            for node, rows in zip(nodes, answers, strict=True)
        }
        made[str(condition)] = _condition(
            plain, str(severity), str(detail), [t for of, t in thresholds if of == str(condition)], texts
        )
    return Knowledge(nodes=plain.nodes, racks=racks, conditions=made)


def _one_text(rows: list[tuple[Value, ...]], asked: str, name: str) -> str:
    texts = list(dict.fromkeys(str(row[2]) for row in rows))
    if len(texts) == 1 and texts[0].strip():
        return texts[0].strip()
    found = "no text" if not texts else "an empty text" if len(texts) == 1 else f"{len(texts)} different texts"
    raise ContractError(
        f"{name}: {asked} has {found}; exactly one is needed",
        hint="every condition needs one runbook for every node",
    )


def _condition(
    plain: Knowledge, severity: str, detail: str, thresholds: list[Threshold], texts: dict[str, str]
) -> Condition:
    """The condition with one runbook text for all nodes, and those of nodes that differ from it."""
    first = next(iter(texts))
    template = texts[first]
    for key, value in plain.places(first).items():
        if value:
            template = re.sub(rf"(?<![\w-]){re.escape(value)}(?![\w-])", f"{{{key}}}", template)
    found = Condition(severity=severity, detail=detail, thresholds=tuple(thresholds), runbook=template)
    trial = plain.model_copy(update={"conditions": {"": found}})
    own = {node: text for node, text in texts.items() if trial.runbook("", node) != text}
    return found.model_copy(update={"own_runbooks": own})


def _threshold(row: tuple[Value, ...], name: str, predicate: str) -> Threshold:
    condition, metric, operator, value, unit = row
    operator = OPERATORS.get(operator, operator) if isinstance(operator, str) else operator
    document: dict[str, Any] = {"metric": metric, "operator": operator, "value": value, "unit": str(unit)}
    try:
        return Threshold.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        shown = ", ".join(map(str, row))
        raise ContractError(f"{name}: {predicate}({shown}) of {condition}: {problems}",
                            hint=f"{predicate}(Condition, Metric, Operator, Number, Unit); operators: "
                            "> >= < <= =< = == =:=") from None  # fmt: skip


def _racks(places: list[tuple[Value, ...]], switches: list[tuple[Value, ...]], name: str) -> dict[str, Rack]:
    nodes: dict[str, list[str]] = {}
    for node, rack in places:
        nodes.setdefault(str(rack), []).append(str(node))
    placed = [node for found in nodes.values() for node in found]
    twice = sorted({node for node in placed if placed.count(node) > 1})
    if twice:
        raise ContractError(f"{name}: {', '.join(twice)} is in two racks", hint="a node is in one rack")
    switch: dict[str, str] = {}
    for rack, leaf in switches:
        if switch.setdefault(str(rack), str(leaf)) != str(leaf):
            raise ContractError(f"{name}: {rack} has two switches, {switch[str(rack)]} and {leaf}", hint="keep one")
    return {rack: Rack(switch=switch.get(rack, ""), nodes=tuple(found)) for rack, found in nodes.items()}
