"""YAML of any origin as a tree with the line of every node, built from the parser's events.

Built without recursion and with limits, so that a file of brackets or of aliases to aliases ends in an error, not in a
crash: libyaml's own composer overflows the C stack.
"""

from typing import Any, NamedTuple

import yaml

from holdfast.core.errors import ContractError

DEPTH_LIMIT = 100
NODE_LIMIT = 2_000_000


class Node(NamedTuple):
    """A node: `value` is a text, a list of nodes, or a dict from key to node; None for an empty one. `line` from 1."""

    value: Any
    line: int

    def get(self, key: str) -> "Node | None":
        """The node below a key, None when this is no mapping or has no such key."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def text(self, key: str) -> str:
        """The text below a key; empty when there is none."""
        found = self.get(key)
        return found.value if found is not None and isinstance(found.value, str) else ""


def read_documents(text: str, name: str) -> list[Node]:
    """All documents of a YAML stream. Raises ContractError with file and line for what is no sound YAML."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents: list[Node] = []
    try:
        builder = _Builder(name)
        for event in yaml.parse(text, Loader=loader):
            builder.add(event, documents)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ContractError(f"{where}: not valid YAML: {error.problem}", hint="correct the file") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ContractError(f"{name}: not valid YAML: {reason}", hint="correct the file") from None
    return documents


class _Builder:
    """Open nodes on a stack; a mapping keeps the key that waits for its value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[tuple[Node, str | None]] = []
        self.keys: list[Node | None] = []
        self.anchors: dict[str, Node] = {}
        self.count = 0

    def add(self, event: Any, documents: list[Node]) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.anchors = {}
        elif isinstance(event, yaml.ScalarEvent):
            empty = event.value in ("", "~", "null", "Null", "NULL") and event.style is None
            self.close(Node(None if empty else event.value, _line(event)), event.anchor, documents)
        elif isinstance(event, yaml.AliasEvent):
            line = _line(event)
            if event.anchor not in self.anchors:
                raise ContractError(f"{self.name}:{line}: no finished anchor &{event.anchor} before this alias",
                                    hint="correct the file")  # fmt: skip
            self.close(Node(self.anchors[event.anchor].value, line), None, documents)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            line = _line(event)
            if len(self.stack) >= DEPTH_LIMIT:
                raise ContractError(f"{self.name}:{line}: nested deeper than {DEPTH_LIMIT} levels", "correct the file")
            empty_node: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.stack.append((Node(empty_node, line), event.anchor))
            self.keys.append(None)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node, name = self.stack.pop()
            self.keys.pop()
            self.close(node, name, documents)

    def close(self, node: Node, anchor: str | None, documents: list[Node]) -> None:
        """Put a finished node where it belongs."""
        self.count += 1
        if self.count > NODE_LIMIT:
            raise ContractError(f"{self.name} has more than {NODE_LIMIT} values", hint="split the file")
        if anchor:
            self.anchors[anchor] = node
        if not self.stack:
            documents.append(node)
            return
        parent = self.stack[-1][0].value
        if isinstance(parent, list):
            parent.append(node)
            return
        key = self.keys[-1]
        if key is None:
            self.keys[-1] = Node(node.value if isinstance(node.value, str) else repr(type(node.value)), node.line)
            return
        self.keys[-1] = None
        merged = node.value if isinstance(node.value, list) else [node]
        if key.value == "<<" and all(isinstance(inner.value, dict) for inner in merged):
            for inner in merged:
                for name, value in inner.value.items():
                    parent.setdefault(name, value)
        elif key.value in parent and parent[key.value].line > self.stack[-1][0].line - 1 and key.value != "<<":
            raise ContractError(f"{self.name}:{key.line}: {key.value!r} is given twice "
                                f"(first on line {parent[key.value].line})", hint="keep one of them")  # fmt: skip
        else:
            parent[key.value] = node


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
