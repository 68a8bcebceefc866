"""Out to lm-evaluation-harness: a task that stock `lm_eval` runs against our server, and samples in its layout.

Written for lm_eval 0.4.13: docs/task_guide.md (keys), evaluator.py and loggers/evaluation_tracker.py (sample rows).
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from holdfast.core.errors import ContractError
from holdfast.core.files import atomic_path, require_new_folder
from holdfast.core.records import Example, jsonl_bytes
from holdfast.core.scorer_config import describe_scorers
from holdfast.evaluate import lm_eval_scores
from holdfast.evaluate.tasks import Task

SCORES_FILE = "holdfast_scores.py"
METRICS = ("valid_json", "label_accuracy")
HOLDFAST = "holdfast_task"  # the key of `metadata` that lets `holdfast eval --data` read a task back exactly


def export_task(folder: Path, name: str, task: Task, items: Sequence[Example], max_new_tokens: int) -> dict[str, str]:
    """Write a task folder: <name>.yaml, <name>.jsonl, task.json, holdfast_scores.py. Gives the command that runs it.

    Raises UsageError when `folder` has files, ContractError when an item has more than one question.
    """
    require_new_folder(folder)
    rows, system_prompt = _documents(items)
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        (temporary / f"{name}.jsonl").write_bytes(jsonl_bytes(rows))
        (temporary / lm_eval_scores.TASK_FILE).write_text(json.dumps(_settings(task), indent=2) + "\n")
        shutil.copyfile(lm_eval_scores.__file__, temporary / SCORES_FILE)
        document = _describe(name, task, system_prompt, max_new_tokens)
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
        (temporary / f"{name}.yaml").write_text(
            text + f"process_results: !function {Path(SCORES_FILE).stem}.process_results\n", encoding="utf-8"
        )
    return {"task": name, "folder": str(folder), "command": command(folder, name)}


def command(folder: Path, name: str, url: str = "http://127.0.0.1:8080") -> str:
    """The line that runs an exported task against a served model."""
    return (
        f"cd {shlex.quote(str(folder))} && lm_eval --model local-chat-completions --model_args model=holdfast,"
        f"base_url={url}/v1/chat/completions,num_concurrent=1,max_retries=1 --include_path . --tasks {name} "
        "--apply_chat_template --log_samples --output_path results"
    )


def sample_rows(
    items: Sequence[Example], rows: Sequence[Mapping[str, Any]], max_new_tokens: int
) -> list[dict[str, Any]]:
    """Rows of samples.jsonl as lm_eval writes them with --log_samples."""
    found = []
    for number, (item, row) in enumerate(zip(items, rows, strict=True)):
        messages = json.dumps(
            [{"role": message.role, "content": message.content} for message in item.prompt], ensure_ascii=False
        )
        document = {"id": row["id"], "source": row["source"], "prompt": row["prompt_text"], "target": row["expected"]}
        arguments = {"arg_0": [messages], "arg_1": {"until": [], "max_gen_toks": max_new_tokens, "do_sample": False,
                                                  "temperature": 0}}  # fmt: skip
        found.append({
            "doc_id": number, "doc": document, "target": row["expected"], "arguments": {"gen_args_0": arguments},
            "resps": [[row["output"]]], "filtered_resps": [row["output"]], "filter": "none",
            "metrics": list(row["scores"]),
            "doc_hash": _hash(json.dumps(document, indent=2, ensure_ascii=False)), "prompt_hash": _hash(messages),
            "target_hash": _hash(row["expected"]), **row["scores"],
        })  # fmt: skip
    return found


def _documents(items: Sequence[Example]) -> tuple[list[dict[str, Any]], str]:
    """Rows of the task's JSONL, and the system prompt that all items share."""
    prompts = {e.messages[0].content if e.messages[0].role == "system" else "" for e in items}
    long = [e.source for e in items if sum(message.role != "system" for message in e.prompt) != 1]
    if long:
        raise ContractError(
            f"{len(long)} of {len(items)} items have more than one question, for example {long[0]}; "
            "a task of lm_eval asks one", hint="leave them out of the test split",
        )  # fmt: skip
    if len(prompts) > 1:
        raise ContractError(f"the items have {len(prompts)} system prompts; a task of lm_eval has one")
    rows = [
        {"id": e.id, "source": e.source, "prompt": e.prompt[-1].content, "target": e.answer, "tags": dict(e.tags)}
        for e in items
    ]
    return rows, prompts.pop() if prompts else ""


def _settings(task: Task) -> dict[str, Any]:
    """What the copied scores need to know. A schema that only says what the fields say already is left out."""
    return {
        "fields": sorted(task.fields), "label_field": task.label_field, "labels": list(task.labels),
        "allows_other_fields": task.allows_other_fields, "schema": None if _is_plain(task) else task.answer_schema,
    }  # fmt: skip


def _is_plain(task: Task) -> bool:
    properties = (task.answer_schema or {}).get("properties", {})
    known = {"type", "properties", "required", "additionalProperties"}
    return bool(task.fields) and set(task.answer_schema or {}) <= known and all(
        part.get("type") == "string" and set(part) <= {"type", "minLength", "enum"} for part in properties.values()
    )  # fmt: skip


def _describe(name: str, task: Task, system_prompt: str, max_new_tokens: int) -> dict[str, Any]:
    kept = {
        "task": task.task, "label_field": task.label_field, "labels": list(task.labels),
        "required_fields": list(task.required_fields), "schema": task.answer_schema,
        "scorers": describe_scorers(task.scorers),
    }  # fmt: skip
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        **({"description": system_prompt} if system_prompt else {}),
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": max_new_tokens},
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in METRICS],
        "num_fewshot": 0,
        "metadata": {"version": 1.0, HOLDFAST: kept},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
