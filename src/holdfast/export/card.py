"""The model card: README.md with the YAML front matter that the Hugging Face Hub reads.

Fields: https://huggingface.co/docs/hub/model-cards#model-card-metadata. Only measured numbers are written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from holdfast.core.config import RunConfig
from holdfast.export.serving import command_lines, file_to_deploy, settings_text

SCORES = {
    "knowledge": "true to the knowledge base",
    "label_accuracy": "label accuracy",
    "valid_json": "valid JSON",
    "stopped": "ended by itself",
}


class CardFacts(NamedTuple):
    """What the card reports. `rows`: split → number of examples; `results`: results.json of the tuned model;
    `files`: name → bytes; `merge`: export.json's "merge" section."""

    config: RunConfig
    base_folder: Path
    task: Mapping[str, Any]
    rows: Mapping[str, int]
    results: Mapping[str, Any]
    files: Mapping[str, int]
    merge: Mapping[str, Any]


def render_card(facts: CardFacts) -> str:
    """The text of the model card. No paths of this machine: a base model given as a folder is named by it."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    sections = [
        f"# {facts.config.name}",
        f"{base_name(facts.config)} tuned with {facts.config.train.adapter} by holdfast; the adapter is merged into "
        f"{_merged_into(facts.merge)}.",
        *_task(facts.task),
        "## Results",
        *_results(facts),
        "## Data",
        _table(("split", "examples"), [(split, str(count)) for split, count in facts.rows.items()]),
        "## Training",
        _training(facts),
        "## Files",
        _table(("file", "size"), [(name, f"{size / 2**20:.1f} MiB") for name, size in sorted(facts.files.items())]),
        "`merged/` holds the 16-bit checkpoint for transformers and vLLM. Check all files with "
        "`sha256sum -c SHA256SUMS`.",
        "## Serving",
        command_lines(facts.config, file_to_deploy(facts.config)),
        "## Limits",
        *_limits(facts),
        "## Configuration",
        settings_text(facts.config),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def base_name(config: RunConfig) -> str:
    """The base model's name without the path of its folder."""
    text = config.base_model
    return Path(text).name if text.startswith((".", "/", "~")) else text


def read_front_matter(folder: Path) -> dict[str, Any]:
    """The YAML front matter of a model folder's README.md; empty when there is none."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return {}
    try:
        document = yaml.safe_load(text[4 : text.index("\n---", 4)])
    except yaml.YAMLError:
        return {}
    return document if isinstance(document, dict) else {}


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    base = read_front_matter(facts.base_folder)
    inherited: dict[str, Any] = {
        key: base[key] for key in ("license", "license_name", "license_link", "language") if key in base
    }
    scores = [
        {"type": "accuracy" if key == "label_accuracy" else key, "name": name, "value": round(facts.results[key], 4)}
        for key, name in SCORES.items()
        if isinstance(facts.results.get(key), int | float)
    ]
    document: dict[str, Any] = {
        **inherited,
        "base_model": base_name(facts.config),
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["holdfast", facts.config.train.adapter, "gguf", "llama.cpp"],
    }
    if scores:
        entry = {
            "task": {"type": "text-generation"},
            "dataset": {"name": "held-out test split", "type": "private"},
            "metrics": scores,
        }
        document["model-index"] = [{"name": facts.config.name, "results": [entry]}]
    return document


def _task(task: Mapping[str, Any]) -> list[str]:
    lines = [f"Task: {task['task']}." if task.get("task") else "", str(task.get("instruction") or "")]
    if task.get("labels"):
        lines.append(f"Labels of `{task.get('label_field')}`: {', '.join(map(str, task['labels']))}.")
    return [line for line in lines if line]


def _results(facts: CardFacts) -> list[str]:
    intervals = facts.results.get("intervals", {})
    names = SCORES | {name: name for name in intervals if name not in SCORES}
    rows = [
        (
            name,
            f"{facts.results[key]:.4f}" + (" ({:.4f} to {:.4f})".format(*intervals[key]) if key in intervals else ""),
        )
        for key, name in names.items()
        if isinstance(facts.results.get(key), int | float)
    ]
    if not rows:
        return ["Nothing was measured."]
    count = facts.results.get("n", "unknown")
    return [
        f"Tuned model before merging (base + adapter), greedy decoding, {count} held-out items:",
        _table(("score", "value (95 % interval)"), rows),
        "The comparison with the base model and the scores of each GGUF file in the server are in the run's "
        "`decision.md` and `ladder.json`.",
    ]


def _merged_into(merge: Mapping[str, Any]) -> str:
    choice = merge.get("base") or {}
    what = "the weights that the 4-bit model computed with" if choice.get("chosen") == "nf4" else "the 16-bit weights"
    losses = {kind: loss["loss"] for kind, loss in (choice.get("measured") or {}).items()}
    if not losses:
        return what
    return f"{what} (loss of the validation answers: {', '.join(f'{k} {v:.4f}' for k, v in losses.items())})"


def _training(facts: CardFacts) -> str:
    train = facts.config.train
    values: dict[str, Any] = {
        "adapter": train.adapter, "lora_r": train.lora_r, "lora_alpha": train.lora_alpha,
        "lora_dropout": train.lora_dropout, "num_epochs": train.num_epochs, "learning_rate": train.learning_rate,
        "lr_scheduler": train.lr_scheduler, "optimizer": train.optimizer, "sequence_len": facts.config.sequence_len,
        "micro_batch_size": train.micro_batch_size, "seed": facts.config.seed,
    }  # fmt: skip
    if train.max_steps > 0:
        values["max_steps"] = train.max_steps
    extras = ("use_rslora", "use_dora", "loraplus_lr_ratio", "neftune_noise_alpha", "load_best_model_at_end")
    values |= {key: getattr(train, key) for key in extras if getattr(train, key)}
    return _table(("setting", "value"), [(f"`{key}`", f"{value}") for key, value in values.items()])


def _limits(facts: CardFacts) -> list[str]:
    logits = facts.merge.get("logits", {})
    lines = [
        "- Tuned for one narrow task; nothing is known about other uses.",
        f"- Measured with prompts up to {facts.config.sequence_len} tokens and at most "
        f"{facts.config.evaluate.max_new_tokens} new ones; longer ones are untested.",
    ]
    if facts.task.get("out_of_scope"):
        lines.append(f"- Out of scope: {'; '.join(map(str, facts.task['out_of_scope']))}.")
    if logits:
        lines.append(
            f"- Merging rounds the weights to 16 bits: mean KL {logits['divergence']:.2g} nats to base + adapter on "
            f"{logits['positions']} positions (the adapter itself changes {logits['adapter_divergence']:.2g})."
        )
    if facts.config.train.adapter == "qlora":
        lines.append("- Trained against 4-bit weights and stored in 16 bits: small differences are expected.")
    return ["\n".join(lines)]


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {left} | {right} |" for left, right in [head, ("---", "---"), *rows])
