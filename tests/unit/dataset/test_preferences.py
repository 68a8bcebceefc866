"""Every rejected answer breaks the rule that it names, and nothing else is invented. pytest tests/unit/dataset"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.records import Example, Message
from holdfast.dataset.augment_rules import Preferences
from holdfast.dataset.preferences import BREAKS, CHANGES_STATE, Facts, count_pairs, gather_facts, make_pairs
from holdfast.dataset.slots import seeded

RUNBOOK = """\
## Probable Cause

Resilvering on pve7 under CPU steal.

## Immediate Actions

1. `zpool status -v` on pve7
2. `pvesh get /nodes/pve7/status`

## Escalation Criteria

When pve7 stays above 20 %."""
FACTS = Facts(("pve7", "pve8", "pve70"), ("high", "low"), "priority", ("priority", "reason"))
RUNBOOK_BREAKS = ("vague", "wrong_node", "missing_section", "state_changing")
JSON_BREAKS = ("wrong_label", "missing_field", "prose_around_json", "vague")


def example(prompt: str, answer: str, n: int = 1, **tags: Any) -> Example:
    turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Example(messages=turns, source=f"a.jsonl:{n}", tags=tags)


ALERT = example("ALERT\nNode: pve7\nCondition: resilvering", RUNBOOK)
TICKET = example("Classify.", '{"priority":"high","reason":"r"}')


def broken(name: str, row: Example, seed: int = 0) -> str:
    answer = BREAKS[name](row, FACTS, seeded(seed, name))
    assert answer is not None
    return answer


@given(st.integers())
def test_the_wrong_node_replaces_the_right_one_everywhere(seed: int) -> None:
    answer = broken("wrong_node", ALERT, seed)
    assert "pve7 " not in answer
    assert answer.count("pve8") + answer.count("pve70") == 4


def test_no_node_no_wrong_node() -> None:
    assert BREAKS["wrong_node"](TICKET, FACTS, seeded(1)) is None
    assert BREAKS["wrong_node"](example("Node: pve7", "nothing said"), FACTS, seeded(1)) is None
    assert BREAKS["wrong_node"](ALERT, Facts(("PVE7",)), seeded(1)) is None


@given(st.integers())
def test_a_missing_section_is_gone_with_its_heading(seed: int) -> None:
    answer = broken("missing_section", ALERT, seed)
    assert answer.count("## ") == 2
    assert len(answer) < len(RUNBOOK)


@given(st.integers())
def test_a_state_changing_command_takes_the_place_of_one_that_looks(seed: int) -> None:
    answer = broken("state_changing", ALERT, seed)
    changing = [command for commands in CHANGES_STATE.values() for command in commands]
    assert sum(f"`{command}`" in answer for command in changing) == 1
    assert not any(f"`{command}`" in RUNBOOK for command in changing)


def test_a_quoted_word_is_no_command() -> None:
    assert BREAKS["state_changing"](example("q", "the value `critical`"), FACTS, seeded(1)) is None


def test_a_vague_answer_names_nothing() -> None:
    assert not any(word in broken("vague", ALERT) for word in ("pve", "`", "zpool", "20"))


@given(st.integers())
def test_json_answers_are_broken_in_one_way(seed: int) -> None:
    assert json.loads(broken("wrong_label", TICKET, seed)) == {"priority": "low", "reason": "r"}
    assert len(json.loads(broken("missing_field", TICKET, seed))) == 1
    wrapped = broken("prose_around_json", TICKET, seed)
    assert TICKET.answer in wrapped
    with pytest.raises(ValueError, match="Expecting|Extra"):
        json.loads(wrapped)


@given(st.integers(0, 50), st.integers(1, 3), st.lists(st.sampled_from(sorted(BREAKS)), min_size=1, unique=True))
def test_pairs_are_deterministic_distinct_and_limited(seed: int, per_row: int, breaks: list[str]) -> None:
    rows = [ALERT, example("Classify.", TICKET.answer, 2)]
    rules = Preferences.model_validate({"breaks": breaks, "per_row": per_row})
    pairs = make_pairs(rows, rules, FACTS, seed)
    assert pairs == make_pairs(rows, rules, FACTS, seed)
    assert sorted(map(str, make_pairs(rows[::-1], rules, FACTS, seed))) == sorted(map(str, pairs))
    for row in rows:
        own = [pair for pair in pairs if pair["source"] == row.source]
        assert len(own) <= per_row
        assert len({pair["broken"] for pair in own}) == len(own)
        for pair in own:
            assert pair["chosen"] == [{"role": "assistant", "content": row.answer}]
            assert pair["rejected"][0]["content"] not in ("", row.answer)
            assert pair["prompt"] == [{"role": "user", "content": row.prompt_text}]
    assert sum(count_pairs(pairs, rules).values()) == len(pairs)


def test_nodes_are_gathered_from_tags_lines_and_the_rules() -> None:
    rows = [ALERT, example("q", "a", node="pve9"), TICKET]
    assert gather_facts(rows, None, ["pve1"]).nodes == ("pve1", "pve7", "pve9")


def test_every_way_of_breaking_works_somewhere() -> None:
    for names, row in ((RUNBOOK_BREAKS, ALERT), (JSON_BREAKS, TICKET)):
        for name in names:
            assert broken(name, row) != row.answer
    assert {*RUNBOOK_BREAKS, *JSON_BREAKS} == set(BREAKS)
