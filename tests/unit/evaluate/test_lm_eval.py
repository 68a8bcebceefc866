import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ConfigError, ContractError, UsageError
from holdfast.core.records import Example, Message, read_jsonl
from holdfast.evaluate.lm_eval import _settings, export_task, sample_rows
from holdfast.evaluate.lm_eval_scores import score
from holdfast.evaluate.scorers import score_sample
from holdfast.evaluate.task_files import read_task_file
from holdfast.evaluate.tasks import Task

LABELS = ("high", "low")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
TASKS = (
    Task(task="t", label_field="priority", labels=LABELS, required_fields=("priority", "reason")),
    Task(task="t", labels=LABELS),
    Task(task="t"),
    Task(task="t", required_fields=("a",)),
    Task.model_validate({"task": "t", "required_fields": ["n"], "schema": SCHEMA}),
)
REFERENCES = ('{"priority": "high", "reason": "x"}', "high", "Any text", '{"a": "b"}', '{"n": 3}')


def example(answer: str, question: str = "q", *before: Message) -> Example:
    turns = (*before, Message(role="user", content=question), Message(role="assistant", content=answer))
    return Example(messages=turns, source="t.jsonl:1", tags={"domain": "net"})


words = st.sampled_from(["high", "low", "x", " ", "b", "3", "any TEXT", "Any  text", "\ud800"])
values = st.one_of(words, st.integers(0, 4), st.none(), st.lists(words, max_size=1))
objects = st.dictionaries(st.sampled_from(["priority", "reason", "a", "n", "more"]), values, max_size=3)
outputs = st.one_of(
    objects.map(json.dumps), st.sampled_from(REFERENCES), words, st.text(max_size=12),
    st.just('{"n": 3, "n": 3}'), st.just('{"n": NaN}'), st.just("```json\n{}\n```"),
)  # fmt: skip


@given(st.integers(0, len(TASKS) - 1), outputs)
def test_the_scores_that_travel_with_a_task_are_ours(which: int, output: str) -> None:
    task, reference = TASKS[which], REFERENCES[which]
    ours = score_sample(task, example(reference), output, True, 1)["scores"]
    theirs = score(json.loads(json.dumps(_settings(task))), reference, output)
    assert theirs == {name: ours[name] for name in ("valid_json", "label_accuracy")}


def test_an_exported_task_is_read_back_as_it_was(tmp_path: Path) -> None:
    system = Message(role="system", content="Be brief: {{ no template }}")
    items = [example(REFERENCES[0], question, system) for question in ("one\n\ntwo ", "{{ 7 * 7 }}", "дизк 磁")]
    told = export_task(tmp_path / "out", "holdfast_t", TASKS[0], items, 32)
    assert told["command"].startswith(f"cd {tmp_path / 'out'} && lm_eval --model local-chat-completions")
    found = read_task_file(tmp_path / "out" / "holdfast_t.yaml")
    assert found.examples is not None
    assert [e.messages for e in found.examples] == [e.messages for e in items]
    assert [e.tags for e in found.examples] == [e.tags for e in items]
    assert (found.task.label_field, found.task.labels, found.primary) == ("priority", LABELS, None)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "holdfast_t.yaml", "holdfast_t.jsonl", "task.json", "holdfast_scores.py",
    }  # fmt: skip


def test_a_folder_with_files_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        export_task(tmp_path, "t", TASKS[0], [example(REFERENCES[0])], 32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_items_that_a_task_of_lm_eval_cannot_ask_are_refused(tmp_path: Path) -> None:
    turns = (Message(role="user", content="a"), Message(role="assistant", content="b"))
    with pytest.raises(ContractError, match="1 of 1 items have more than one question, for example t.jsonl:1"):
        export_task(tmp_path / "a", "t", TASKS[2], [example("c", "d", *turns)], 8)
    mixed = [example("a"), example("a", "q", Message(role="system", content="s"))]
    with pytest.raises(ContractError, match="2 system prompts"):
        export_task(tmp_path / "b", "t", TASKS[2], mixed, 8)
    assert list(tmp_path.iterdir()) == []


def write_task(folder: Path, text: str = "", **keys: Any) -> Path:
    document = {"task": "capitals", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
                "test_split": "test", "output_type": "generate_until", "doc_to_text": "Question: {{ question|trim }}\n",
                "doc_to_target": "answer", "metric_list": [{"metric": "exact_match", "ignore_case": True}]}  # fmt: skip
    document |= keys
    (folder / "rows.jsonl").write_text('{"question": " Capital of Peru? ", "answer": "Lima"}\n')
    (folder / "task.yaml").write_text(yaml.safe_dump(document) + text)
    return folder / "task.yaml"


def test_a_task_of_theirs_is_read_with_its_templates_and_its_metric(tmp_path: Path) -> None:
    found = read_task_file(write_task(tmp_path, description="Answer in one word."))
    assert found.examples is not None and found.primary == "exact_match"
    (item,) = found.examples
    assert [m.content for m in item.messages] == ["Answer in one word.", "Question: Capital of Peru?\n", "Lima"]
    assert item.source == "rows.jsonl:1"
    assert score_sample(found.task, item, "lima", True, 1)["scores"]["exact_match"] == 1


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("process_docs: !function utils.clean\n", {}, "process_docs: !function utils.clean: code of a task is not run"),
        ("", {"output_type": "multiple_choice"}, "only generate_until is supported"),
        ("", {"num_fewshot": 5}, "few-shot"), ("", {"metric_list": [{"metric": "bleu"}]}, "only plain exact_match"),
        ("", {"dataset_path": "gsm8k"}, "only dataset_path: json"),
        ("", {"filter_list": [{"name": "x"}]}, "filter_list"),
        ("", {"doc_to_text": None}, "doc_to_text must be a template"),
    ],
)  # fmt: skip
def test_what_a_task_of_theirs_asks_and_we_cannot_do_is_said(
    tmp_path: Path, text: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_task_file(write_task(tmp_path, text, **keys))


@pytest.mark.parametrize(
    "template", ["{{ nothing }}", "{{ ''.__class__.__mro__ }}", "{% for x in range(10**9) %}a{% endfor %}", "{{ 1"]
)
def test_a_template_cannot_reach_out_of_its_row(tmp_path: Path, template: str) -> None:
    with pytest.raises(ConfigError, match="doc_to_text at row 1"):
        read_task_file(write_task(tmp_path, doc_to_text=template))


def test_a_task_file_of_ours_has_its_own_scorers_and_primary(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("task: own\ndata: rows.jsonl\nprimary: close\nscorers:\n  - {kind: number, name: close}\n")
    found = read_task_file(path)
    assert (found.data, found.primary, found.examples) == (tmp_path / "rows.jsonl", "close", None)
    assert [scorer.score for scorer in found.task.scorers] == ["close"]
    path.write_text("task: own\ndata: rows.jsonl\nscorer: []\n")
    with pytest.raises(ConfigError, match=r"task\.yaml:3: unknown key 'scorer', did you mean 'scorers'"):
        read_task_file(path)


def test_samples_have_the_keys_that_lm_eval_writes(tmp_path: Path) -> None:
    item = example(REFERENCES[0])
    row = score_sample(TASKS[0], item, "{}", False, 3)
    (found,) = sample_rows([item], [row], 16)
    # what lm_eval 0.4.13 wrote with --log_samples, apart from the metrics
    assert set(found) - set(row["scores"]) == {
        "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
        "prompt_hash", "target_hash",
    }  # fmt: skip
    assert json.loads(found["arguments"]["gen_args_0"]["arg_0"][0]) == [{"role": "user", "content": "q"}]
    assert (found["resps"], found["valid_json"], found["metrics"]) == ([["{}"]], 0, list(row["scores"]))
    assert len(found["doc_hash"]) == 64


def test_exported_rows_are_jsonl_with_prompt_and_target(tmp_path: Path) -> None:
    export_task(tmp_path / "o", "t", TASKS[0], [example(REFERENCES[0], "Disk full.")], 8)
    rows = [row for _, row in read_jsonl(tmp_path / "o" / "t.jsonl")]
    assert [(row["prompt"], row["target"]) for row in rows] == [("Disk full.", REFERENCES[0])]
