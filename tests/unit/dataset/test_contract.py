"""The contract file and what it becomes: pytest tests/unit/dataset"""

from pathlib import Path

import pytest

from holdfast.core.errors import ConfigError
from holdfast.dataset.contract import answer_schema, describe_task, read_contract

TEXT = """\
task: triage
instruction: Classify.
label_field: priority
labels: [high, low]
required_fields: [priority, reason]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "contract.yaml"
    path.write_text(text)
    return path


def test_a_contract_becomes_a_schema_with_the_labels(tmp_path: Path) -> None:
    schema = answer_schema(read_contract(write(tmp_path, TEXT)))
    assert schema["properties"]["priority"] == {"type": "string", "enum": ["high", "low"]}
    assert schema["required"] == ["priority", "reason"]
    assert schema["additionalProperties"] is False


def test_all_errors_of_a_contract_are_reported_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_contract(write(tmp_path, "task: x\nlabel: priority\nrequired_fields: []\n"))
    assert "3 errors" in caught.value.message
    assert "contract.yaml:2: unknown key 'label', did you mean 'labels'?" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[high, low]", "[high]", "at least two labels"),
        ("[high, low]", "[high, high]", "names a value twice"),
        ("label_field: priority", "label_field: urgency", "not one of required_fields"),
        ("label_field: priority\n", "", "label_field does not say"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_contract(write(tmp_path, TEXT.replace(old, new)))


def test_without_a_contract_the_task_has_no_label() -> None:
    task = describe_task(None, "demo", ("Be short.",))
    assert (task["label_field"], task["schema"], task["system_prompt"]) == (None, None, "Be short.")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("answer: text\nrequired_fields: [a]\n", "are for answer: json"),
        ("answer: sections\n", "go together"),
        ("answer: text\nrequired_sections: [a]\n", "go together"),
        ("", "needs required_fields or a json_schema"),
        ("json_schema: {type: 7}\n", "not a JSON Schema"),
        ("json_schema: {$ref: 'http://127.0.0.1/x.json'}\n", "refers to another document"),
        ("answer: text\nscripts: [Klingon]\n", "is no writing system"),
        ("answer: text\nlabels: [one]\n", "at least two labels"),
    ],
)
def test_kinds_of_answers_do_not_mix(tmp_path: Path, extra: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_contract(write(tmp_path, f"task: x\ninstruction: ''\n{extra}"))


def test_the_schema_of_the_contract_is_the_one_of_the_task(tmp_path: Path) -> None:
    contract = read_contract(write(tmp_path, "task: x\ninstruction: ''\njson_schema: {type: object}\n"))
    assert describe_task(contract, "demo", ("a", "b"))["schema"] == {"type": "object"}
    assert describe_task(contract, "demo", ("a", "b"))["system_prompt"] == ""
