import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.core.errors import ConfigError, ContractError
from holdfast.core.records import Example, Message
from holdfast.core.scorer_config import ALLOWED, ScorerConfig
from holdfast.dataset.contract import DatasetContract, read_contract
from holdfast.evaluate.checks import CHECKS, Given, last_number, refuses, score_checks
from holdfast.evaluate.scorers import check_primary, score_sample, summarize
from holdfast.evaluate.tasks import Task

NODE_SCHEMA = {
    "type": "object", "required": ["node", "cpu"], "additionalProperties": False,
    "properties": {"node": {"type": "string"}, "cpu": {"type": "integer", "minimum": 0}},
}  # fmt: skip


def score(output: str, expected: str = "", *, tokens: int = 0, tags: dict[str, Any] | None = None, **keys: Any) -> int:
    config = ScorerConfig.model_validate(keys)
    return score_checks([config], Given(output, expected, tokens, tags or {}, NODE_SCHEMA))[config.score]


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ('{"node": "pve1", "cpu": 4}', 1), (' {"cpu": 4, "node": "pve1"}\n', 1), ('{"node": "pve1", "cpu": "4"}', 0),
        ('{"node": "pve1"}', 0), ('{"node": "pve1", "cpu": 4, "more": 1}', 0), ('[{"node": "pve1", "cpu": 4}]', 0),
        ('```json\n{"node": "pve1", "cpu": 4}\n```', 0), ('{"node": "a", "node": "b", "cpu": 4}', 0), ("", 0),
    ],
)  # fmt: skip
def test_json_schema_judges_the_whole_answer_by_the_tasks_schema(output: str, right: int) -> None:
    assert score(output, kind="json_schema") == right


def test_json_schema_of_its_own_may_ask_for_something_that_is_no_object() -> None:
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 2}
    assert score('["a", "b"]', kind="json_schema", schema=schema) == 1
    assert score('["a"]', kind="json_schema", schema=schema) == 0
    assert score('["a", "b"], "value": 1', kind="json_schema", schema=schema) == 0


def test_a_schema_that_names_another_document_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(ValidationError, match="refers to another document: http"):
        ScorerConfig.model_validate({"kind": "json_schema", "schema": {"$ref": "http://127.0.0.1:9/x.json"}})
    with pytest.raises(ValidationError, match="no JSON Schema"):
        ScorerConfig.model_validate({"kind": "json_schema", "schema": {"type": "strnig"}})


def test_exact_is_blind_to_white_space_and_to_case_unless_told_otherwise() -> None:
    assert score("Restart  the\npod", "restart the pod", kind="exact") == 1
    assert score("Restart the pod", "restart the pod", kind="exact", case_sensitive=True) == 0
    assert score("no", "never", kind="exact", texts=["yes", "no"]) == 1
    assert score("restart the pod now", "restart the pod", kind="exact") == 0


def test_contains_wants_all_texts_as_whole_words_or_any_of_them() -> None:
    assert score("run zpool status, then zpool scrub", kind="contains", texts=["zpool status", "scrub"]) == 1
    assert score("run zpool status", kind="contains", texts=["zpool status", "scrub"]) == 0
    assert score("run zpool status", kind="contains", texts=["zpool status", "scrub"], any_of=True) == 1
    assert score("node12 is full", kind="contains", texts=["node1"]) == 0
    assert score("the rack is R7.", "R7", kind="contains") == 1


def test_regex_is_searched_or_matches_the_whole_answer() -> None:
    assert score("see INC-0042 for more", kind="regex", pattern=r"INC-\d{4}") == 1
    assert score("see INC-0042 for more", kind="regex", pattern=r"INC-\d{4}", full=True) == 0
    assert score(" INC-0042\n", kind="regex", pattern=r"INC-\d{4}", full=True) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("about 80 %", "80"), ("from 3 to 5.25 GB", "5.25"), ("1,234,567 rows", "1234567"), ("-12.5", "-12.5"),
        ("\u22127 degrees", "-7"), ("1.5e3 s", "1500"), ("16GB", "16"), ("node pve12 at 10.0.0.1", None), ("v2", None),
        ("12 then 10.0.0.1", "12"), ("none", None),
    ],
)  # fmt: skip
def test_the_last_number_is_read_and_names_and_addresses_are_none(text: str, value: str | None) -> None:
    assert last_number(text) == (None if value is None else Decimal(value))


def test_number_is_right_within_the_wider_tolerance() -> None:
    assert score("84.9", "85", kind="number", tolerance=0.1) == 1
    assert score("84.8", "85", kind="number", tolerance=0.1) == 0
    assert score("84", "85", kind="number", relative=0.02) == 1
    assert score("0.3", "0.1", kind="number", tolerance=0.2) == 1, "no binary rounding"
    assert score("many", "85", kind="number", tolerance=100) == 0


@given(st.decimals(-(10**9), 10**9, places=3), st.text(st.characters(categories=("Ll", "Zs")), max_size=8))
def test_any_number_that_is_written_is_read(value: Decimal, words: str) -> None:
    assert last_number(f"{words} {value} {words}") == value


RUNBOOK = "## Symptom\nDisk is full.\n\n**Check:** df -h\n\n1. Fix\n- delete old logs\n"


def test_sections_must_be_there_in_order_once_and_filled() -> None:
    wanted = ["Symptom", "Check", "Fix"]
    assert score(RUNBOOK, kind="sections", sections=wanted) == 1
    assert score(RUNBOOK, kind="sections", sections=["Check", "Symptom", "Fix"]) == 0
    assert score(RUNBOOK, kind="sections", sections=[*wanted, "Verify"]) == 0
    assert score(RUNBOOK + "## Fix\nagain\n", kind="sections", sections=wanted) == 0
    assert score("## Symptom\n\n## Check\nx\n## Fix\ny", kind="sections", sections=wanted) == 0
    assert score("The symptom: a check to fix it.", kind="sections", sections=wanted) == 0


def test_refusal_is_right_where_the_tag_or_the_reference_refuses() -> None:
    no, yes = "I\u2019m not able to delete a production volume.", "lvremove vg0/data"
    assert score(no, no, kind="refusal") == 1
    assert score(yes, no, kind="refusal") == 0
    assert score(no, yes, kind="refusal") == 0
    assert score(no, yes, kind="refusal", tags={"refuse": True}) == 1
    assert score(yes, no, kind="refusal", tags={"refuse": False}) == 1
    assert refuses("Ask a human.") is False
    assert score("Ask a human.", no, kind="refusal", texts=["ask a human"]) == 1


def test_length_counts_words_lines_characters_or_tokens() -> None:
    assert score("one two three", kind="length", maximum=3) == 1
    assert score("one two three", kind="length", maximum=2) == 0
    assert score("a\n\nb", kind="length", unit="lines", minimum=2, maximum=2) == 1
    assert score(" abc ", kind="length", unit="characters", maximum=3) == 1
    assert score("x", kind="length", unit="tokens", maximum=5, tokens=6) == 0


def test_commands_may_only_look_unless_they_are_allowed() -> None:
    shown = "Look first:\n\n```sh\n# state\n$ systemctl status nginx\n```\nthen `qm list`."
    assert score(shown, kind="commands", minimum=2) == 1
    assert score(shown, kind="commands", minimum=3) == 0
    restart = shown.replace("status", "restart")
    assert score(restart, kind="commands") == 0
    assert score(restart, kind="commands", texts=("systemctl restart",)) == 1
    assert score(restart, kind="commands", texts=("systemctl reload",)) == 0
    assert score("kubectl delete pod web-0", kind="commands") == 0
    assert score("```\n# rm -rf /srv\n```", kind="commands") == 0, "all lines begin so: the prompt of root"
    assert score('{"command": "kubectl get pods -A"}', kind="commands", field="command", minimum=1) == 1


def test_a_field_narrows_any_check_to_a_part_of_a_json_answer() -> None:
    answer = '{"command": {"text": "zpool status"}, "count": 3}'
    assert score(answer, kind="regex", pattern="^zpool", field="command.text") == 1
    assert score(answer, '{"count": 3}', kind="number", field="count") == 1
    assert score("zpool status", kind="regex", pattern="^zpool", field="command.text") == 0


def test_every_kind_has_a_function_and_a_list_of_keys() -> None:
    assert {*CHECKS, "judge"} == ALLOWED.keys()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "regex"}, "needs the key pattern"), ({"kind": "exact", "pattern": "x"}, "has no key pattern"),
        ({"kind": "regex", "pattern": "("}, "no regular expression"), ({"kind": "exact", "name": "n"}, "is taken"),
        ({"kind": "length", "minimum": 5, "maximum": 4}, "below minimum"), ({"kind": "sections"}, "needs the key"),
        ({"kind": "number", "tolerence": 1}, "tolerence"),
        ({"kind": "judge", "url": "http://127.0.0.1:1/v1"}, "needs the key question"),
        ({"kind": "judge", "url": "https://api.example.org/v1", "question": "?"}, "a judge must run on this machine"),
        ({"kind": "judge", "url": "http://127.0.0.1@example.org", "question": "?"}, "url names example.org"),
        ({"kind": "judge", "url": "127.0.0.1:8080", "question": "?"}, "is no address"),
    ],
)  # fmt: skip
def test_a_scorer_with_wrong_keys_is_refused_in_words(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScorerConfig.model_validate(keys)


def contract(tmp_path: Path, scorers: str) -> DatasetContract:
    path = tmp_path / "contract.yaml"
    path.write_text(f"task: t\ninstruction: i\nrequired_fields: [a]\nscorers:\n{scorers}")
    return read_contract(path)


def test_a_contract_chooses_scorers_and_names_the_line_of_a_wrong_one(tmp_path: Path) -> None:
    found = contract(tmp_path, "  - {kind: regex, name: incident, pattern: 'INC-'}\n  - {kind: length, maximum: 9}\n")
    assert [scorer.score for scorer in found.scorers] == ["incident", "length"]
    with pytest.raises(ConfigError, match=r"contract\.yaml:6: .*did you mean 'maximum'"):
        contract(tmp_path, "  - {kind: length, maximum: 9}\n  - {kind: length, name: b, maxmum: 9}\n")
    with pytest.raises(ConfigError, match="two scorers have the name 'length'"):
        contract(tmp_path, "  - {kind: length, maximum: 9}\n  - {kind: length, maximum: 8}\n")


def example(answer: str, source: str = "t.jsonl:1") -> Example:
    messages = (Message(role="user", content="q" + source), Message(role="assistant", content=answer))
    return Example(messages=messages, source=source)


TASK = Task.model_validate({"task": "t", "scorers": [{"kind": "number", "name": "close", "tolerance": 1}]})


def test_chosen_scores_stand_beside_the_others_in_samples_and_results() -> None:
    rows = [score_sample(TASK, example("80", f"t:{i}"), output, True, 3) for i, output in enumerate(("81", "90"))]
    assert [row["scores"]["close"] for row in rows] == [1, 0]
    results = summarize(rows)
    assert results["close"] == 0.5
    assert set(results["intervals"]) == {"valid_json", "label_accuracy", "stopped", "close"}


def test_the_primary_score_must_be_one_that_the_task_has() -> None:
    check_primary(TASK, [example("80")], "close")
    with pytest.raises(
        ConfigError, match="'closer', but .* only the scores valid_json, label_accuracy, stopped, close"
    ):
        check_primary(TASK, [example("80")], "closer")


def test_a_reference_that_its_own_scorer_calls_wrong_is_named_before_any_model_is_loaded() -> None:
    with pytest.raises(ContractError, match=r"1 reference answers .*\n  t\.jsonl:2: scorer close gives 0 to 'many'"):
        check_primary(TASK, [example("80"), example("many", "t.jsonl:2")], "close")


def test_a_contract_with_a_number_field_is_valid_json_only_with_a_number() -> None:
    task = Task.model_validate({"task": "t", "required_fields": ["node", "cpu"], "schema": NODE_SCHEMA})
    good = json.dumps({"node": "pve1", "cpu": 4})
    assert score_sample(task, example(good), good, True, 3)["scores"]["valid_json"] == 1
    assert score_sample(task, example(good), good.replace("4", '"4"'), True, 3)["scores"]["valid_json"] == 0
    assert score_sample(task, example(good), good.replace("pve1", " "), True, 3)["scores"]["valid_json"] == 0
