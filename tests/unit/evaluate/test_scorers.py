import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ContractError
from holdfast.core.records import Example, Message, jsonl_bytes
from holdfast.evaluate.scorers import SCORERS, describe_references, score_sample, summarize, wilson_interval
from holdfast.evaluate.tasks import Task

TASK = Task(task="t", label_field="priority", labels=("high", "low"), required_fields=("priority", "reason"))
GOOD = '{"priority": "high", "reason": "payouts frozen"}'


def example(answer: str = GOOD, question: str = "q", **tags: Any) -> Example:
    messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Example(messages=messages, source="t.jsonl:1", tags=tags)


def scores(output: str, task: Task = TASK, answer: str = GOOD) -> tuple[int, int]:
    got = score_sample(task, example(answer), output, True, 5)["scores"]
    return got["valid_json"], got["label_accuracy"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (GOOD, (1, 1)),
        (f"\n  {GOOD}\n", (1, 1)),
        ('{"reason": "x", "priority": "high"}', (1, 1)),
        ('{"priority": "low", "reason": "x"}', (1, 0)),
        ('{"priority": "High", "reason": "x"}', (0, 0)),
        ('{"priority": "high"}', (0, 0)),
        ('{"priority": "high", "reason": " "}', (0, 0)),
        ('{"priority": "high", "reason": 3}', (0, 0)),
        ('{"priority": ["high"], "reason": "x"}', (0, 0)),
        ('{"priority": "high", "reason": "x", "more": "y"}', (0, 0)),
        ('{"priority": "high", "priority": "high", "reason": "x"}', (0, 0)),
        (f"```json\n{GOOD}\n```", (0, 0)),
        (f"{GOOD} done", (0, 0)),
        ("high", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_json_answer_is_scored_strictly(output: str, expected: tuple[int, int]) -> None:
    assert scores(output) == expected


def test_other_fields_are_allowed_only_when_the_schema_says_so() -> None:
    schema = {"type": "object", "additionalProperties": True}
    lenient = Task.model_validate({**TASK.model_dump(), "answer_schema": schema})
    assert scores('{"priority": "high", "reason": "x", "more": 1}', lenient) == (1, 1)


def test_text_task_is_scored_by_normalised_exact_match_and_is_never_invalid() -> None:
    assert scores("Restart  the\nPOD ", Task(task="t"), "restart the pod") == (1, 1)
    assert scores("restart the node", Task(task="t"), "restart the pod") == (1, 0)


def test_bare_label_task_counts_an_unknown_label_as_invalid_in_the_confusion_table() -> None:
    task = Task(task="t", labels=("high", "low"))
    rows = [
        score_sample(task, example("high", f"q{i}"), output, True, 1) for i, output in enumerate(["HIGH", "low", "?"])
    ]
    assert summarize(rows)["confusion"] == {"high": {"high": 1, "invalid": 1, "low": 1}}


def test_the_confusion_table_has_the_order_of_the_contract_and_the_same_columns_in_every_row() -> None:
    task = Task(task="t", labels=("severe", "low", "debug"))
    asked = [("low", "severe"), ("low", "low"), ("debug", "?"), ("debug", "low")]
    rows = [score_sample(task, example(label, f"q{label}{said}"), said, True, 1) for label, said in asked]
    table = summarize(rows, task.labels)["confusion"]
    assert [(expected, list(row.items())) for expected, row in table.items()] == [
        ("low", [("severe", 1), ("low", 1), ("debug", 0), ("invalid", 0)]),
        ("debug", [("severe", 0), ("low", 1), ("debug", 0), ("invalid", 1)]),
    ]


def test_json_task_without_labels_compares_field_by_field() -> None:
    task = Task(task="t", required_fields=("summary",))
    assert scores('{"summary": "Disk  Full"}', task, '{"summary":"disk full"}') == (1, 1)
    assert scores('{"summary": "disk ok"}', task, '{"summary":"disk full"}') == (1, 0)
    assert scores("disk full", task, '{"summary":"disk full"}') == (0, 0)


def test_sample_row_has_every_field_of_the_format() -> None:
    row = score_sample(TASK, example(domain="shop"), "no", False, 64)
    fields = "id source tags prompt_text expected output scores label expected_label tokens"
    assert list(row) == fields.split()
    assert row["scores"] == {"valid_json": 0, "label_accuracy": 0, "stopped": 0}
    assert (row["label"], row["expected_label"], row["tags"]) == (None, "high", {"domain": "shop"})


@given(st.text(), st.booleans())
def test_any_output_gets_scores_of_0_or_1_and_can_be_written(output: str, stopped: bool) -> None:
    row = score_sample(TASK, example(), output, stopped, 1)
    assert set(row["scores"]) == set(SCORERS) - {"knowledge"} and set(row["scores"].values()) <= {0, 1}
    assert jsonl_bytes([row])


def test_summary_counts_shares_confusion_and_slices() -> None:
    outputs = [GOOD, '{"priority": "low", "reason": "x"}', "broken", GOOD]
    rows = [
        score_sample(
            TASK, example(question=f"q{i}", domain="ab"[i % 2], borderline=i == 0, ticket=i), output, i != 2, i
        )
        for i, output in enumerate(outputs)
    ]
    summary = summarize(rows)
    assert (summary["valid_json"], summary["label_accuracy"], summary["stopped"], summary["n"]) == (0.75, 0.5, 0.75, 4)
    assert summary["confusion"] == {"high": {"high": 2, "invalid": 1, "low": 1}}
    assert summary["by_tag"]["domain"]["a"]["n"] == 2
    assert summary["by_tag"]["domain"]["a"]["label_accuracy"] == 0.5
    assert set(summary["by_tag"]["borderline"]) == {"true", "false"}
    assert summary["mean_tokens"] == 1.5
    low, high = summary["intervals"]["label_accuracy"]
    assert low < 0.5 < high


def test_tag_with_twelve_values_is_no_slice() -> None:
    rows = [score_sample(TASK, example(question=f"q{i}", ticket=i, day=i % 11), GOOD, True, 1) for i in range(12)]
    assert set(summarize(rows)["by_tag"]) == {"day"}


def test_summary_of_nothing_is_an_error() -> None:
    with pytest.raises(ContractError, match="0 answers"):
        summarize([])


def test_wilson_interval_matches_the_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_within_0_and_1(case: tuple[int, int]) -> None:
    hits, n = case
    low, high = wilson_interval(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    assert wilson_interval(n - hits, n) == pytest.approx((1 - high, 1 - low))


def test_references_are_summed_over_tokens_and_left_out_where_there_are_none() -> None:
    rows = [{"reference": {"tokens": 3, "nats": 3 * math.log(2), "right": 3}},
            {"reference": {"tokens": 1, "nats": 5 * math.log(2), "right": 0}}]  # fmt: skip
    found = describe_references(rows)["references"]
    assert found == {"tokens": 4, "loss": pytest.approx(2 * math.log(2)), "perplexity": pytest.approx(4),
                     "token_accuracy": 0.75}  # fmt: skip
    assert describe_references([{}]) == {}
