"""Scores of one answer, and their summary over a test set.

A score is 0 or 1. To add one, write a function and give it a line in SCORERS. Scores that a contract or a task file
asks for by `scorers:` are in checks.py.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

from holdfast.core.errors import ConfigError, ContractError
from holdfast.core.records import Example
from holdfast.evaluate.checks import Given, check_references, keeps_schema, score_checks
from holdfast.evaluate.judge import check_judges, judge
from holdfast.evaluate.knowledge_scorer import asked_of, problems_of
from holdfast.evaluate.tasks import Task, bare_label, normalise, parse_object, reference_label

INVALID = "invalid"  # the column of the confusion table for answers that have no label
MAXIMUM_SLICES = 12
CONFIDENCE = 0.95


class Answer(NamedTuple):
    """One answer beside what was asked. `fields` is the answer as valid JSON of the task, None when it is not;
    `problems` is where it is untrue to the knowledge base, None when there is none to check against."""

    task: Task
    example: Example
    output: str
    stopped: bool
    fields: Mapping[str, Any] | None
    label: str | None
    expected_label: str | None
    problems: list[str] | None = None


def valid_json(answer: Answer) -> int:
    """1 when the whole output is a strict JSON object with exactly the required fields as non-empty strings and a label
    of the task. 1 for every answer when the task asks for no JSON."""
    return int(answer.fields is not None or not answer.task.wants_json)


def label_accuracy(answer: Answer) -> int:
    """1 when the answer is valid and its label is the reference's.

    For a task without labels: 1 when the output is the reference, field by field (JSON) or as text, normalised.
    """
    if answer.expected_label is not None:
        return int(answer.label == answer.expected_label)
    if not answer.task.wants_json:
        return int(normalise(answer.output) == normalise(answer.example.answer))
    wanted = parse_object(answer.example.answer)
    return int(answer.fields is not None and wanted is not None and _normal(answer.fields) == _normal(wanted))


def stopped(answer: Answer) -> int:
    """1 when the model ended the answer itself, 0 when it was cut at max_new_tokens."""
    return int(answer.stopped)


def knowledge(answer: Answer) -> int:
    """1 when nothing in the answer is untrue to the knowledge base; 0 also for an item that it cannot check."""
    return int(answer.problems == [])


SCORERS: dict[str, Callable[[Answer], int]] = {
    "valid_json": valid_json,
    "label_accuracy": label_accuracy,
    "stopped": stopped,
    "knowledge": knowledge,
}
NEEDS_FACTS = "knowledge"  # scored only in runs with a knowledge base


def scorers_for(task: Task) -> dict[str, Callable[[Answer], int]]:
    """The scorers of SCORERS that a task's answers get."""
    return {name: scorer for name, scorer in SCORERS.items() if name != NEEDS_FACTS or task.knowledge is not None}


def task_scores(task: Task) -> tuple[str, ...]:
    """Names of the scores that a task's answers get."""
    return (*scorers_for(task), *(scorer.score for scorer in task.scorers))


def check_primary(task: Task, examples: Sequence[Example], primary: str) -> None:
    """Before a model is loaded: the score to decide by exists, and reference answers would get 1 by every scorer.

    Raises ConfigError, ContractError.
    """
    require_score(task, primary)
    check_references(task.scorers, examples, task.answer_schema)
    check_judges(task.scorers, examples)


def require_score(task: Task, primary: str) -> None:
    """Raise ConfigError when answers of the task do not get the score to decide by."""
    known = task_scores(task)
    if primary not in known:
        raise ConfigError(
            f"decide.primary is {primary!r}, but answers of task {task.task!r} get only the scores {', '.join(known)}",
            hint="name one of them, or add it to `scorers:` of the contract",
        )


def score_sample(task: Task, example: Example, output: str, stopped: bool, tokens: int) -> dict[str, Any]:
    """Score one answer: a row of samples.jsonl. `tokens` counts the generated tokens.

    Raises ContractError when the example's reference has no label of the task.
    """
    fields = _valid_fields(task, output)
    label = _label(task, fields, output)
    problems = _problems(task, example, output)
    answer = Answer(task, example, output, stopped, fields, label, reference_label(task, example), problems)
    given = Given(output, example.answer, tokens, example.tags, task.answer_schema)
    judged = {s.score: judge(s, example.prompt_text, example.answer, output) for s in task.scorers if s.kind == "judge"}
    row: dict[str, Any] = {
        "id": example.id, "source": example.source, "tags": dict(example.tags), "prompt_text": example.prompt_text,
        "expected": example.answer, "output": output,
        "scores": {name: scorer(answer) for name, scorer in scorers_for(task).items()}
        | score_checks(task.scorers, given) | {name: found.passed for name, found in judged.items()},
        "label": answer.label, "expected_label": answer.expected_label, "tokens": tokens,
    }  # fmt: skip
    if judged:
        row["judge"] = {name: {"prompt": found.prompt, "answer": found.answer} for name, found in judged.items()}
    return row if problems is None else {**row, "problems": problems}


def summarize(rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> dict[str, Any]:
    """Summary of samples.jsonl rows: the fields of results.json. `labels` of the task give the confusion its order.

    `<score>`: share of items with 1; `intervals`: its 95 % Wilson interval [low, high]; `confusion`: expected label →
    given label → items, where "invalid" stands for no label (empty for tasks without labels; every row has the same
    columns); `by_tag`: tag → value →
    {n, valid_json, label_accuracy, interval of label_accuracy} for tags with fewer than 12 values; `mean_tokens` an
    answer. With a knowledge base also `problems`: check → items that break it. Raises ContractError for no rows.
    """
    if not rows:
        raise ContractError("there are 0 answers to summarise; at least 1 is needed", hint="check the test file")
    counts = {name: sum(row["scores"][name] for row in rows) for name in rows[0]["scores"]}
    broken = Counter(check for row in rows for check in {text.split(":")[0] for text in row.get("problems", ())})
    return {
        **{name: count / len(rows) for name, count in counts.items()},
        "n": len(rows),
        "intervals": {name: wilson_interval(count, len(rows)) for name, count in counts.items()},
        "confusion": _confusion(rows, labels),
        "by_tag": _by_tag(rows),
        "mean_tokens": fmean(row["tokens"] for row in rows),
        **describe_references(rows),
        **({"problems": dict(sorted(broken.items()))} if NEEDS_FACTS in counts else {}),
    }


def describe_references(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """`references`: `tokens` of the reference answers, their mean `loss` in nats a token, its exponential
    (`perplexity`), and the share at which the right token was the likeliest (`token_accuracy`). Empty without them."""
    found = [row["reference"] for row in rows if "reference" in row]
    tokens = sum(one["tokens"] for one in found)
    if not tokens:
        return {}
    loss, right = math.fsum(one["nats"] for one in found) / tokens, sum(one["right"] for one in found)
    perplexity = math.exp(min(loss, 700.0))
    return {"references": {"tokens": tokens, "loss": loss, "perplexity": perplexity, "token_accuracy": right / tokens}}


def wilson_interval(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1). Needs n ≥ 1."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, correction = hits / n, z * z / n
    centre = (share + correction / 2) / (1 + correction)
    half = z / (1 + correction) * (share * (1 - share) / n + correction / (4 * n)) ** 0.5
    # At 0 and n hits the bounds are exactly 0 and 1; rounding would miss them.
    return (0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == n else min(1.0, centre + half))


def _problems(task: Task, example: Example, output: str) -> list[str] | None:
    if task.knowledge is None:
        return None
    asked = asked_of(example.tags, task.knowledge)
    if asked is None:
        return ["item: its tags do not say what the knowledge base is asked"]
    return problems_of(output, asked, example.prompt_text, example.answer, task.knowledge)


def _valid_fields(task: Task, output: str) -> dict[str, Any] | None:
    if not task.wants_json:
        return None
    fields = parse_object(output)
    if fields is None or not task.fields <= fields.keys():
        return None
    if fields.keys() != task.fields and not task.allows_other_fields:
        return None
    schema = task.answer_schema
    if not all(fields[n].strip() if isinstance(fields[n], str) else schema is not None for n in task.fields):
        return None
    if schema is not None and not keeps_schema(fields, schema):
        return None
    known = not task.label_field or not task.labels or fields[task.label_field] in task.labels
    return fields if known else None


def _label(task: Task, fields: Mapping[str, Any] | None, output: str) -> str | None:
    if task.label_field is None:
        return bare_label(task, output)
    return None if fields is None else str(fields[task.label_field])


def _normal(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: normalise(value) if isinstance(value, str) else value for name, value in fields.items()}


def _confusion(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["expected_label"] is not None:
            table[row["expected_label"]][INVALID if row["label"] is None else row["label"]] += 1
    place = {label: number for number, label in enumerate(labels)}

    def order(label: str) -> tuple[bool, int, str]:
        return label == INVALID and label not in place, place.get(label, len(place)), label

    given = sorted({*table, *(label for row in table.values() for label in row)}, key=order)
    return {expected: {label: table[expected][label] for label in given} for expected in sorted(table, key=order)}


def _by_tag(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    groups: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for tag, value in row["tags"].items():
            groups[tag][str(value).lower() if isinstance(value, bool) else str(value)].append(row)
    kept = {tag: values for tag, values in sorted(groups.items()) if len(values) < MAXIMUM_SLICES}
    return {tag: {value: _slice(values[value]) for value in sorted(values)} for tag, values in kept.items()}


def _slice(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    hits = sum(row["scores"]["label_accuracy"] for row in rows)
    known = [row["scores"][NEEDS_FACTS] for row in rows if NEEDS_FACTS in row["scores"]]
    return {
        "n": len(rows),
        "valid_json": sum(row["scores"]["valid_json"] for row in rows) / len(rows),
        "label_accuracy": hits / len(rows),
        "interval": wilson_interval(hits, len(rows)),
        **({NEEDS_FACTS: sum(known) / len(rows)} if known else {}),
    }
