"""Preference pairs: a row's own answer is chosen, the same answer with one rule broken is rejected.

One function for each way of breaking: from the row, what is known of the data (Facts) and a seeded generator to the
broken answer, or None where that rule cannot be broken here.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from holdfast.core.records import Example
from holdfast.dataset.augment_rules import Preferences
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.decompose import COMMAND, HEADING
from holdfast.dataset.slots import seeded
from holdfast.dataset.validate import strict_json

NODE_LINE = re.compile(
    r"^[ \t]*(?:node|host|service)[ \t]*[:=][ \t]*([A-Za-z0-9][\w.-]*)", re.IGNORECASE | re.MULTILINE
)
# What only looks → what changes state, by the program's name.
CHANGES_STATE: Mapping[str, tuple[str, ...]] = {
    "zpool": ("zpool clear -F rpool", "zpool offline rpool sda"),
    "zfs": ("zfs rollback -r rpool/data@last", "zfs destroy rpool/data@last"),
    "qm": ("qm stop 100 --skiplock", "qm reset 100"),
    "pct": ("pct stop 100", "pct destroy 100"),
    "pvesh": ("pvesh create /nodes/localhost/status --command reboot",),
    "pvecm": ("pvecm expected 1", "pvecm delnode {node}"),
    "ha-manager": ("ha-manager remove vm:100",),
    "ceph": ("ceph osd out 0", "ceph osd set noout"),
    "systemctl": ("systemctl restart pvestatd", "systemctl stop corosync"),
    "kubectl": ("kubectl delete pod --all", "kubectl drain {node} --force"),
    "ip": ("ip link set eth0 down",),
    "sysctl": ("sysctl -w vm.drop_caches=3",),
}
ANY_STATE = ("reboot", "systemctl restart networking", "kill -9 1234")
VAGUE = (
    "There seems to be a problem with the system. Please check the logs and restart whatever is affected.",
    "This may have several causes. Look at the usual places and monitor the situation.",
    "Something is not working as it should. Contact the responsible team if it does not go away.",
)
PROSE = ("Sure, here is the answer:\n\n{}", "{}\n\nLet me know if you need anything else!")


class Facts(NamedTuple):
    """What is known beyond the row: names of nodes, and the labels and fields that the contract allows."""

    nodes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    label_field: str | None = None
    required_fields: tuple[str, ...] = ()


def gather_facts(examples: Sequence[Example], contract: DatasetContract | None, nodes: Sequence[str] = ()) -> Facts:
    """Names from the tag `node` and from lines such as `Node: pve7`; labels and fields from the contract."""
    names = {*nodes, *(name for example in examples if (name := node_of(example)))}
    if contract is None:
        return Facts(tuple(sorted(names)))
    return Facts(tuple(sorted(names)), contract.labels, contract.label_field, contract.required_fields)


def node_of(example: Example) -> str:
    """The node that a row is about: its tag `node`, or a `Node:` line of the prompt; empty when neither is there."""
    if tag := str(example.tags.get("node", "")):
        return tag
    found = NODE_LINE.search(example.prompt_text)
    return found[1] if found else ""


def vague(example: Example, facts: Facts, rng: random.Random) -> str | None:
    """Nothing concrete: no node, no command, no number."""
    return rng.choice(VAGUE)


def wrong_node(example: Example, facts: Facts, rng: random.Random) -> str | None:
    """The answer about another node than the one asked about."""
    node = node_of(example)
    others = [name for name in facts.nodes if name.lower() != node.lower()]
    if not node or not others:
        return None
    other = rng.choice(others)
    answer, count = _whole_word(node).subn(lambda match: other, example.answer)
    return answer if count else None


def missing_section(example: Example, facts: Facts, rng: random.Random) -> str | None:
    """One section of several is left out, heading and all."""
    headings = list(HEADING.finditer(example.answer))
    if len(headings) < 2:
        return None
    at = rng.randrange(len(headings))
    end = headings[at + 1].start() if at + 1 < len(headings) else len(example.answer)
    return (example.answer[: headings[at].start()] + example.answer[end:]).strip()


def state_changing(example: Example, facts: Facts, rng: random.Random) -> str | None:
    """A command that only looks is replaced by one that changes the system."""
    commands = [match for match in COMMAND.finditer(example.answer) if _program(match[1])]
    if not commands:
        return None
    known = [match for match in commands if _program(match[1]) in CHANGES_STATE]
    match = rng.choice(known or commands)
    instead = rng.choice(CHANGES_STATE.get(_program(match[1]), ANY_STATE))
    instead = instead.replace("{node}", node_of(example) or "node1")
    return example.answer[: match.start(1)] + instead + example.answer[match.end(1) :]


def wrong_label(example: Example, facts: Facts, rng: random.Random) -> str | None:
    """Another label of the contract; the rest of the answer stays."""
    document = _json_object(example.answer)
    others = [label for label in facts.labels if document and label != document.get(facts.label_field or "")]
    if document is None or not facts.label_field or facts.label_field not in document or not others:
        return None
    return _dump({**document, facts.label_field: rng.choice(others)}, example.answer)


def missing_field(example: Example, facts: Facts, rng: random.Random) -> str | None:
    """A JSON answer without one of its required fields."""
    document = _json_object(example.answer)
    present = [name for name in facts.required_fields if document and name in document]
    if document is None or not present:
        return None
    left_out = rng.choice(present)
    return _dump({name: value for name, value in document.items() if name != left_out}, example.answer)


def prose_around_json(example: Example, facts: Facts, rng: random.Random) -> str | None:
    """Right, but wrapped in words that no parser expects."""
    return rng.choice(PROSE).format(example.answer) if _json_object(example.answer) is not None else None


BREAKS: Mapping[str, Callable[[Example, Facts, random.Random], str | None]] = {
    "vague": vague,
    "wrong_node": wrong_node,
    "missing_section": missing_section,
    "state_changing": state_changing,
    "wrong_label": wrong_label,
    "missing_field": missing_field,
    "prose_around_json": prose_around_json,
}


def make_pairs(examples: Sequence[Example], rules: Preferences, facts: Facts, seed: int) -> list[dict[str, Any]]:
    """Rows of preferences.jsonl: `prompt`, `chosen`, `rejected` as message lists, `source`, `broken`.

    At most `per_row` pairs of one row; which ways of breaking it gets depends on the seed and the row alone. The layout
    is TRL's conversational preference format with an explicit prompt.
    """
    pairs = []
    for example in examples:
        rng = seeded(seed, "preferences", example.id)
        taken = 0
        for name in rng.sample(rules.breaks, len(rules.breaks)):
            broken = BREAKS[name](example, facts, rng)
            if taken == rules.per_row or broken is None or not broken or broken.split() == example.answer.split():
                continue
            taken += 1
            pairs.append(_pair(example, name, broken))
    return pairs


def count_pairs(pairs: Sequence[Mapping[str, Any]], rules: Preferences) -> dict[str, int]:
    """Pairs by the way they are broken; a way that fits no row is there with 0."""
    counts = Counter(pair["broken"] for pair in pairs)
    return {name: counts[name] for name in rules.breaks}


def _pair(example: Example, name: str, broken: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": message.role, "content": message.content} for message in example.prompt],
        "chosen": [{"role": "assistant", "content": example.answer}],
        "rejected": [{"role": "assistant", "content": broken}],
        "source": example.source,
        "broken": name,
    }


def _program(command: str) -> str:
    """The program that a command runs; empty for a word in back quotes that is no command."""
    words = command.removeprefix("sudo ").split()
    known = words and (words[0] in CHANGES_STATE or len(words) > 1)
    return words[0] if known else ""


def _whole_word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", re.IGNORECASE)


def _json_object(answer: str) -> dict[str, Any] | None:
    try:
        document = strict_json(answer)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _dump(document: dict[str, Any], like: str) -> str:
    separators = (", ", ": ") if '": ' in like else (",", ":")
    return json.dumps(document, ensure_ascii=False, separators=separators)
