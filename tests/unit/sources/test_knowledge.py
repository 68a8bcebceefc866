"""Knowledge bases become rows: counts, tags, equal rows from Prolog and YAML, and errors that name what is missing."""

from pathlib import Path
from typing import Any

import pytest

from holdfast.core.config import Source
from holdfast.core.errors import ConfigError, ContractError, UsageError
from holdfast.core.knowledge import Knowledge, merge_knowledge
from holdfast.core.records import encode_example
from holdfast.sources.knowledge import KnowledgeReading, read_knowledge_source
from holdfast.sources.knowledge_files import knowledge_files

ANALYST = Path(__file__).parents[3] / "examples" / "analyst"
SECTIONS = ["## Probable Cause", "## Immediate Actions", "## Escalation Criteria"]
SMALL = """
alert_condition(hot, critical, 'temp >= 80 C', true).
known_node(n1).
known_node(n2).
runbook_response(hot, Node, Text) :- format(atom(Text), 'look at ~w', [Node]).
"""


def read(path: Path, form: str, **options: Any) -> KnowledgeReading:
    return read_knowledge_source(Source.model_validate({"path": str(path), "format": form, **options}), "kb")


def write(folder: Path, text: str) -> Path:
    (folder / "kb.pl").write_text(text)
    return folder / "kb.pl"


@pytest.fixture(scope="module")
def default() -> KnowledgeReading:
    return read(ANALYST / "knowledge", "prolog")


def test_three_sample_nodes_give_exactly_21_rows(default: KnowledgeReading) -> None:
    kinds = [example.tags["kind"] for example in default.examples]
    assert (kinds.count("runbook"), kinds.count("topology"), len(kinds)) == (18, 3, 21)


def test_the_facts_are_those_of_the_source_document(default: KnowledgeReading) -> None:
    facts = default.facts
    assert facts.nodes == tuple(f"pve{n}" for n in range(1, 15))
    assert {rack: (found.switch, found.nodes[0], len(found.nodes)) for rack, found in facts.racks.items()} == {
        "rack_a": ("leaf_a", "pve1", 3), "rack_b": ("leaf_b", "pve4", 3), "rack_c": ("leaf_c", "pve7", 8),
    }  # fmt: skip
    assert {name: [str(t) for t in c.thresholds] for name, c in facts.conditions.items()} == {
        "cpu_steal_critical": ["cpu_steal >= 40 %"],
        "disk_latency_critical": ["disk_latency >= 5 ms"],
        "io_saturated_critical": ["io_utilisation >= 95 %"],
        "cpu_steal_plus_disk_degraded": ["cpu_steal >= 10 %", "disk_latency >= 0.5 ms"],
        "arc_miss_plus_io_saturated": ["arc_miss >= 20 %", "io_utilisation >= 70 %"],
        "zfs_resilvering_under_cpu_pressure": ["arc_miss >= 20 %", "cpu_steal >= 10 %"],
    }
    assert all(not condition.own_runbooks for condition in facts.conditions.values())


def test_each_runbook_has_its_sections_node_and_place(default: KnowledgeReading) -> None:
    for example in default.examples[:18]:
        tags = example.tags
        assert [line for line in example.answer.splitlines() if line.startswith("#")] == SECTIONS
        assert f"{tags['node']} ({tags['rack']}, leaf_{str(tags['rack'])[-1]})" in example.answer
        assert example.prompt_text.startswith(
            f"ALERT\nNode: {tags['node']}\nCondition: {tags['condition']}\nSeverity: "
        )
        assert tags["fact"] == f"alert({tags['condition']},{tags['node']})"


@pytest.mark.parametrize("nodes", [1, 5, 14, 0])
def test_the_number_of_sample_nodes_is_configurable(nodes: int) -> None:
    found = read(ANALYST / "knowledge", "prolog", knowledge={"sample_nodes": nodes})
    assert len(found.examples) == 6 * (nodes or 14) + 3


@pytest.mark.parametrize("options", [
    {}, {"sample_nodes": 0, "folds": 7, "use_folds": [5, 6], "alerts": ["{measured} {timestamp} {node} {condition}"]},
])  # fmt: skip
def test_yaml_gives_the_same_rows_byte_for_byte(options: dict[str, Any]) -> None:
    prolog = read(ANALYST / "knowledge", "prolog", knowledge=options)
    yaml = read(ANALYST / "knowledge.yaml", "knowledge", knowledge=options)
    assert [encode_example(e) for e in yaml.examples] == [encode_example(e) for e in prolog.examples]
    assert yaml.facts == prolog.facts


def test_rows_are_the_same_every_time_and_change_with_the_seed() -> None:
    options = {"alerts": ["{node} {condition} {timestamp} {measured}"]}
    first, again = (read(ANALYST / "knowledge.yaml", "knowledge", knowledge=options) for _ in range(2))
    other = read(ANALYST / "knowledge.yaml", "knowledge", knowledge={**options, "seed": 7})
    assert first.examples == again.examples != other.examples


def test_measured_values_lie_beyond_their_threshold() -> None:
    options = {"sample_nodes": 0, "alerts": [f"{n} {{measured}}" for n in range(5)], "topology": []}
    for example in read(ANALYST / "knowledge.yaml", "knowledge", knowledge=options).examples:
        for part in example.prompt_text.split(" ", 1)[1].split(", "):
            metric, value, unit = part.split()
            limits = {"cpu_steal": (10, 40), "disk_latency": (0.5, 5), "io_utilisation": (70, 95), "arc_miss": (20,)}
            assert float(value) >= min(limits[metric])
            assert unit == "ms" or float(value) <= 100


def test_folds_part_the_pairs_and_every_condition_and_node_is_in_training() -> None:
    def pairs(folds: list[int]) -> set[tuple[str, str]]:
        options = {"sample_nodes": 0, "folds": 7, "use_folds": folds, "topology": []}
        found = read(ANALYST / "knowledge.yaml", "knowledge", knowledge=options).examples
        return {(str(e.tags["condition"]), str(e.tags["node"])) for e in found}

    train, test = pairs([0, 1, 2, 3, 4]), pairs([5, 6])
    assert not train & test
    assert len(train) + len(test) == 84
    for side in (train, test):
        assert len({c for c, _ in side}) == 6
        assert len({n for _, n in side}) == 14


def test_rows_say_where_they_are_from_and_which_split() -> None:
    found = read(ANALYST / "knowledge.yaml", "knowledge", split="test").examples
    assert {e.split for e in found} == {"test"}
    assert found[0].source == "kb[test]:alert(cpu_steal_critical,pve1)#1"
    assert len({e.source for e in found}) == len(found)


@pytest.mark.parametrize(("options", "message"), [
    ({"sample_nodes": 15}, "sample_nodes is 15, but there are 14 nodes"),
    ({"folds": 2, "use_folds": [2]}, "use_folds names 2, but folds is 2"),
])  # fmt: skip
def test_impossible_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read(ANALYST / "knowledge.yaml", "knowledge", knowledge=options)


def test_an_unknown_placeholder_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown name \{nod\}; known here: condition, detail"):
        Source.model_validate({"path": "x", "knowledge": {"alerts": ["{nod}"]}})


def test_another_teams_names_can_be_used(tmp_path: Path) -> None:
    text = SMALL.replace("known_node", "host").replace("alert_condition", "alarm").replace("runbook_response", "todo")
    names = {"known_node": "host", "alert_condition": "alarm", "runbook_response": "todo"}
    found = read(write(tmp_path, text), "prolog", prolog={"predicates": names}, knowledge={"sample_nodes": 0})
    assert [e.answer for e in found.examples] == ["look at n1", "look at n2"]
    assert found.facts.conditions["hot"].runbook == "look at {node}"


def test_missing_predicates_are_all_named_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        read(write(tmp_path, "host(a).\nknown_node(b).\n"), "prolog")
    for text in ("alert_condition/4", "runbook_response/3", "it defines: host/1, known_node/1"):
        assert text in caught.value.message
    assert "predicates: {alert_condition: its_name}" in caught.value.hint


@pytest.mark.parametrize(("more", "message"), [
    ("known_node(n3).\nrunbook_response(hot, n3, '').", r"n3, Text\) has 2 different texts"),
    ("alert_condition(cold, info, 'd', true).", r"runbook_response\(cold, n1, Text\) has no text"),
    ("alert_condition(hot, info, 'd', true).", "condition hot is defined twice"),
    ("threshold(hot, temp, about, 80, 'C').", "operator"),
    ("threshold(hot, temp, >=, many, 'C').", "value"),
    ("node_rack(n1, r1).\nnode_rack(n1, r2).", "n1 is in two racks"),
    ("rack_switch(r1, s1).\nrack_switch(r1, s2).", "r1 has two switches, s1 and s2"),
])  # fmt: skip
def test_facts_that_clash_are_errors(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read(write(tmp_path, f":- discontiguous known_node/1.\n{SMALL}{more}\n"), "prolog")


def test_operators_may_be_spelled_as_prolog_spells_them(tmp_path: Path) -> None:
    limits = "threshold(hot, free, =<, 5, '%').\nthreshold(hot, links, =:=, 0, '').\n"
    facts = read(write(tmp_path, SMALL + limits), "prolog", knowledge={"sample_nodes": 0}).facts
    assert [str(t) for t in facts.conditions["hot"].thresholds] == ["free <= 5 %", "links == 0"]


def test_a_clash_is_told_with_the_users_own_predicate(tmp_path: Path) -> None:
    options = {"prolog": {"predicates": {"threshold": "limit"}}}
    with pytest.raises(ContractError, match=r"limit\(hot, temp, about, 80, C\)") as caught:
        read(write(tmp_path, SMALL + "limit(hot, temp, about, 80, 'C').\n"), "prolog", **options)
    assert "=<" in caught.value.hint


def test_a_runbook_of_one_node_may_differ(tmp_path: Path) -> None:
    text = SMALL.replace(
        "runbook_response(hot, Node", "runbook_response(hot, n2, 'ask Eva').\nrunbook_response(hot, n1"
    )
    text = text.replace("[Node]", "[n1]")
    facts = read(write(tmp_path, text), "prolog", knowledge={"sample_nodes": 0}).facts
    assert (facts.runbook("hot", "n1"), facts.runbook("hot", "n2")) == ("look at n1", "ask Eva")


def test_names_that_hold_each_other_are_told_apart(tmp_path: Path) -> None:
    text = SMALL.replace("n2", "n11").replace("'look at ~w'", "'look at ~w, not n1-b or n111.'")
    facts = read(write(tmp_path, text), "prolog", knowledge={"sample_nodes": 0}).facts
    assert facts.conditions["hot"].runbook == "look at {node}, not n1-b or n111."
    assert not facts.conditions["hot"].own_runbooks


@pytest.mark.parametrize("part", ["cause", "command", "escalation"])
def test_a_misspelled_placeholder_of_a_runbook_is_refused(part: str, tmp_path: Path) -> None:
    words = {"cause": "Hot.", "command": "top", "escalation": "Call."} | {part: "See {nde} of {node}."}
    (tmp_path / "kb.yaml").write_text(
        "nodes: [a]\nconditions:\n  hot:\n    severity: critical\n    detail: hot\n    runbook:\n"
        f"      cause: '{words['cause']}'\n      escalation: '{words['escalation']}'\n"
        f"      actions: [{{step: Look, command: '{words['command']}'}}]\n"
    )
    with pytest.raises(ConfigError, match=r"unknown name \{nde\}; known here: detail, node, rack, switch"):
        read(tmp_path / "kb.yaml", "knowledge")


def test_yaml_errors_come_all_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "kb.yaml"
    path.write_text("conditions:\n  hot:\n    severty: x\n    thresholds: [{metric: t, operator: '~', value: 1}]\n")
    with pytest.raises(ConfigError) as caught:
        read(path, "knowledge")
    for text in ("kb.yaml:3: unknown key 'conditions.hot.severty'", "severity", "runbook", "operator"):
        assert text in caught.value.message


def test_a_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    for form, path in (("prolog", tmp_path), ("prolog", tmp_path / "no.pl"), ("knowledge", tmp_path / "no.yaml")):
        with pytest.raises(UsageError, match="there is no"):
            knowledge_files(Source.model_validate({"path": str(path), "format": form}))


def test_two_sources_may_say_the_same_but_not_different_things(default: KnowledgeReading) -> None:
    facts = default.facts
    assert merge_knowledge([("a", facts), ("b", facts)]) == facts
    changed = facts.conditions["cpu_steal_critical"].model_copy(update={"severity": "info"})
    other = Knowledge(nodes=facts.nodes, racks={}, conditions={"cpu_steal_critical": changed})
    with pytest.raises(ContractError, match="b: condition 'cpu_steal_critical' is not what an earlier source says"):
        merge_knowledge([("a", facts), ("b", other)])
