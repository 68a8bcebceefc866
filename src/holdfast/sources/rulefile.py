"""Prometheus rule files: what a rule must be, with the line of everything that is not.

Read: `groups:` as Prometheus and its relatives (Thanos, Mimir, Loki) take them; the same below `spec:` of a Kubernetes
PrometheusRule, alone, in a List or in a stream of documents; and the groups that a mixin renders
(`prometheusAlerts: {groups: …}`). Rules: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.core.errors import ContractError
from holdfast.sources.defects import Defect, short
from holdfast.sources.yamltree import Node, read_documents

GROUP_KEYS = frozenset(
    {"name", "interval", "query_offset", "limit", "rules", "labels", "partial_response_strategy", "evaluation_delay",
     "source_tenants", "align_evaluation_time_on_interval", "concurrency", "params", "type", "remote_write"}
)  # fmt: skip
RULE_KEYS = frozenset({"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"})
WRAPPERS = ("prometheusAlerts", "prometheusRules", "spec")
DURATION = re.compile(r"(?=.)(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?|0")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
CLOSING = {")": "(", "]": "[", "}": "{"}
RULE_LIMIT = 100_000


class Rule(NamedTuple):
    """One alerting rule. `line` is where it begins."""

    alert: str
    expr: str
    wait: str
    group: str
    line: int
    labels: dict[str, str]
    annotations: dict[str, str]


class RuleFile(NamedTuple):
    """What a file holds: sound alerting rules, how many recording rules, and the defects."""

    alerts: list[Rule]
    recordings: int
    defects: list[Defect]


def read_rule_file(text: str, name: str) -> RuleFile:
    """Read one file. Raises ContractError when it is no YAML or holds no groups of rules at all."""
    found = RuleFile([], 0, [])
    groups = [group for document in read_documents(text, name) for group in _find_groups(document, 0)]
    if not groups:
        raise ContractError(
            f"{name} holds no `groups:` of rules",
            hint="a rule file begins with `groups:`, a PrometheusRule has it below `spec:`",
        )
    recordings = 0
    for node in groups:
        if node.value is None:
            continue
        if not isinstance(node.value, list):
            found.defects.append(
                Defect("groups", f"{name}:{node.line}", "`groups` must be a list", short(_plain(node)))
            )
            continue
        for group in node.value:
            recordings += _read_group(group, name, found)
            if len(found.alerts) + recordings > RULE_LIMIT:
                raise ContractError(f"{name} has more than {RULE_LIMIT} rules", hint="split the file")
    return found._replace(recordings=recordings)


def _find_groups(document: Node, depth: int) -> Iterator[Node]:
    """The `groups` nodes of a document, below the wrappers that tools put around them."""
    if (groups := document.get("groups")) is not None:
        yield groups
    if depth > 3:
        return
    for wrapper in WRAPPERS:
        if (inner := document.get(wrapper)) is not None:
            yield from _find_groups(inner, depth + 1)
    items = document.get("items")
    if items is not None and isinstance(items.value, list):
        for item in items.value[:RULE_LIMIT]:
            yield from _find_groups(item, depth + 1)


def _plain(node: Node | None) -> object:
    """A value for a message."""
    if node is None or isinstance(node.value, str) or node.value is None:
        return None if node is None else node.value
    return "a mapping" if isinstance(node.value, dict) else "a list"


Finding = tuple[int, str, str, object]  # line, rule, message, value


def _read_group(group: Node, name: str, found: RuleFile) -> int:
    """Read one group into `found`; returns how many recording rules it has."""
    found.defects.extend(_defects(_check_group(group), name))
    rules = group.get("rules")
    recordings = 0
    for node in rules.value if rules is not None and isinstance(rules.value, list) else ():
        problems = _defects(_check_rule(node), name)
        found.defects.extend(problems)
        if problems:
            continue
        if node.get("record") is not None:
            recordings += 1
            continue
        labels, annotations = _texts(node.get("labels")), _texts(node.get("annotations"))
        found.alerts.append(
            Rule(node.text("alert"), node.text("expr").strip(), node.text("for"), group.text("name"), node.line,
                 labels, annotations)
        )  # fmt: skip
    return recordings


def _defects(findings: Iterator[Finding], name: str) -> list[Defect]:
    return [Defect(rule, f"{name}:{line}", message, short(value)) for line, rule, message, value in findings]


def _check_group(group: Node) -> Iterator[Finding]:
    if not isinstance(group.value, dict):
        yield group.line, "group", "a group must be a mapping with name and rules", _plain(group)
        return
    for key, node in group.value.items():
        if key not in GROUP_KEYS:
            yield node.line, "group_key", f"unknown key {short(key)} in a group", _plain(node)
    if not group.text("name"):
        yield group.line, "group_name", "a group must have a name", _plain(group.get("name"))
    rules = group.get("rules")
    if rules is not None and rules.value is not None and not isinstance(rules.value, list):
        yield rules.line, "rules", "`rules` must be a list", _plain(rules)


def _texts(node: Node | None) -> dict[str, str]:
    if node is None or not isinstance(node.value, dict):
        return {}
    return {key: item.value for key, item in node.value.items() if isinstance(item.value, str)}


def _check_rule(node: Node) -> Iterator[Finding]:
    """Yield (line, rule, message, value) for all that keeps a rule from being one."""
    if not isinstance(node.value, dict):
        yield node.line, "rule", "a rule must be a mapping", _plain(node)
        return
    for key, item in node.value.items():
        if key not in RULE_KEYS:
            yield (
                item.line,
                "rule_key",
                f"unknown key {short(key)}; known: {', '.join(sorted(RULE_KEYS))}",
                _plain(item),
            )
    kinds = [key for key in ("alert", "record") if node.get(key) is not None]
    if len(kinds) != 1:
        yield node.line, "rule_kind", "a rule must have either `alert` or `record`", ", ".join(kinds) or "neither"
    for key in kinds:
        if not node.text(key).strip():
            yield node.value[key].line, "rule_name", f"`{key}` must be a name", _plain(node.get(key))
    yield from _check_expr(node)
    for key in ("for", "keep_firing_for"):
        yield from _check_wait(node.get(key), key, "record" in kinds)
    for key in ("labels", "annotations"):
        yield from _check_texts(node.get(key), key)


def _check_expr(node: Node) -> Iterator[Finding]:
    expr = node.get("expr")
    if expr is None or not isinstance(expr.value, str) or not expr.value.strip():
        yield (expr or node).line, "expr", "`expr` must be an expression", _plain(expr)
    elif reason := unbalanced(expr.value):
        yield expr.line, "expr", f"the expression is not whole: {reason}", expr.value


def _check_wait(wait: Node | None, key: str, recording: bool) -> Iterator[Finding]:
    if wait is None:
        return
    if recording:
        yield wait.line, "rule_key", f"a recording rule has no `{key}`", _plain(wait)
    if not isinstance(wait.value, str) or not DURATION.fullmatch(wait.value):
        yield wait.line, "duration", f"`{key}` must be a duration such as 5m or 1h30m", _plain(wait)


def _check_texts(node: Node | None, key: str) -> Iterator[Finding]:
    if node is None or node.value is None:
        return
    if not isinstance(node.value, dict):
        yield node.line, key, f"`{key}` must be a mapping", _plain(node)
        return
    for name, item in node.value.items():
        if not LABEL.fullmatch(name):
            yield item.line, key, f"{short(name)} is no name for one of the {key}", _plain(item)
        if item.value is not None and not isinstance(item.value, str):
            yield item.line, key, f"`{name}` must be a text", _plain(item)


def unbalanced(expr: str) -> str:
    """Why brackets or quotes of a PromQL expression do not match; empty when they do. Comments and quotes are known."""
    open_brackets: list[str] = []
    at = 0
    while at < len(expr):
        character = expr[at]
        if character == "#":
            newline = expr.find("\n", at)
            at = len(expr) if newline < 0 else newline
        elif character in "\"'`":
            end = at + 1
            while end < len(expr) and expr[end] != character:
                end += 2 if expr[end] == "\\" and character != "`" else 1
            if end >= len(expr):
                return f"the quote {character} is not closed"
            at = end
        elif character in "([{":
            open_brackets.append(character)
        elif character in CLOSING and (not open_brackets or open_brackets.pop() != CLOSING[character]):
            return f"{character} closes nothing"
        at += 1
    return f"{open_brackets[-1]} is not closed" if open_brackets else ""
