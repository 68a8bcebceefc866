"""Structured answers: the task's JSON Schema as a grammar of the server, so that no other answer can be given.

Measured on the same items as without, so that the gain is visible: validity becomes certain, the label may change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.core.config import EvaluateConfig
from holdfast.core.console import Console
from holdfast.core.records import Example
from holdfast.evaluate.compare import compare_samples
from holdfast.evaluate.scorers import score_sample, summarize
from holdfast.evaluate.tasks import Task
from holdfast.runtime import LlamaServer

SHOWN = ("valid_json", "label_accuracy", "stopped", "n", "intervals")


def answer_schema(task: Task) -> dict[str, Any] | None:
    """The task's own schema, or one made of its fields and labels; None for a task that asks for no JSON."""
    if task.answer_schema is not None:
        return task.answer_schema
    if not task.fields:
        return None
    order = list(dict.fromkeys([*task.required_fields, *sorted(task.fields)]))
    fields: dict[str, Any] = {name: {"type": "string", "minLength": 1} for name in order}
    if task.label_field and task.labels:
        fields[task.label_field] = {"enum": list(task.labels)}
    return {"type": "object", "properties": fields, "required": order, "additionalProperties": False}


def measure_structured(
    server: LlamaServer,
    task: Task,
    test: Sequence[Example],
    free: Sequence[Mapping[str, Any]],
    config: EvaluateConfig,
    console: Console,
    *,
    metric: str,
    alpha: float,
) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Answers under the schema, compared item by item with `free` (samples of the same file without it).

    Gives the document (`structured` in ladder.json) and the samples; None when the task asks for no JSON.
    """
    schema = answer_schema(task)
    if schema is None:
        return None
    samples = []
    with console.progress("with the schema as a grammar", len(test)) as bar:
        for example in test:
            reply = server.chat(example.prompt, config.max_new_tokens, json_schema=schema)
            samples.append(score_sample(task, example, reply.text, reply.stopped, reply.tokens))
            bar.advance(1)
    after, before = summarize(samples), summarize(list(free))
    compared = compare_samples(free, samples, metric, alpha).document()
    document = {
        "schema": schema,
        "free": {name: before[name] for name in SHOWN},
        "structured": {name: after[name] for name in SHOWN},
        "gain": {name: compared[name] for name in ("metric", "difference", "wins", "losses", "ties", "p_value")},
    }
    return document, samples
