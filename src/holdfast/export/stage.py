"""Stage `export`: merge, check, convert, quantise, describe. Every product appears whole or not at all."""

import json
from pathlib import Path
from typing import Any

from holdfast import models
from holdfast.core.context import StageContext
from holdfast.core.digest import digest_tree
from holdfast.core.documents import read_json
from holdfast.core.manifest import INTENT, MANIFEST
from holdfast.core.records import Example, Message, read_examples
from holdfast.export.card import CardFacts, render_card
from holdfast.export.modelfile import ModelfileParts, derive_format, render_modelfile
from holdfast.export.serving import file_to_deploy

CHECKED_EXAMPLES = 8
SUMS, IMATRIX, ADAPTER = "SHA256SUMS", "imatrix.gguf", "adapter.gguf"


def run(context: StageContext) -> None:
    """Make merged/, the GGUF files, Modelfile, README.md, export.json and SHA256SUMS.

    Finished files of an interrupted run with the same key are kept. Raises what merge, gguf and quantize raise.
    """
    models.go_offline()
    base = models.find_base_model(context.config.base_model)
    merge = _merge(context, base)
    counts = _write_gguf_files(context)
    _write_adapter(context, base)
    files = {path.name: path.stat().st_size for path in sorted(context.out.path.glob("*.gguf"))}
    task = _read_json(context.inputs["prepare"] / "task.json")
    _write_modelfile(context, task)
    facts = CardFacts(
        config=context.config,
        base_folder=base,
        task=task,
        rows=_count_rows(context.inputs["prepare"]),
        results=_read_json(context.inputs["evaluate"] / "results.json"),
        files=files,
        merge=merge,
    )
    context.out.write_text("README.md", render_card(facts))
    document = {"merge": merge, "files": {n: {"size_bytes": s, "tensors": counts.get(n, {})} for n, s in files.items()}}
    context.out.write_json("export.json", document)
    context.out.write_text(SUMS, sums_text(context.out.path))


def gguf_name(name: str, quantization: str) -> str:
    """File name of one GGUF file."""
    return f"{name}-{quantization}.gguf"


def sums_text(folder: Path) -> str:
    """Lines for `sha256sum -c` over every product below `folder`."""
    digests = digest_tree(folder, skip=(SUMS, INTENT, MANIFEST))
    return "".join(f"{digest.removeprefix('sha256:')}  {name}\n" for name, digest in digests.items())


def _merge(context: StageContext, base: Path) -> dict[str, Any]:
    from holdfast.export.merge import LARGEST_SHARE, check_merge, measure_change, merge_adapter

    adapter, merged = context.inputs["train"] / "adapter", context.out.path / "merged"
    device = _device(context)
    talks = _talks(context, base)
    choice = _choose_base(context, base, adapter, talks, device)
    kind = choice["chosen"]
    if merged.is_dir():
        change = measure_change(base, adapter, merged, kind=kind)
    else:
        context.console.say(f"  merging the adapter into the {kind} base model")
        with context.out.writing("merged") as folder:
            change = merge_adapter(base, adapter, folder, kind=kind)
    if change.lost:
        context.console.warn(
            f"{change.lost} of {change.modules} adapted weights did not change: the update is too small for 16 bits"
        )
    prompts = [talk.input_ids[: context.config.sequence_len] for talk in talks[:CHECKED_EXAMPLES]]
    check = check_merge(base, adapter, merged, prompts, kind=kind, device=device)
    if check.lost_share > LARGEST_SHARE:
        context.console.warn(
            f"merging loses {min(check.lost_share, 1):.0%} of what training changed (limit {LARGEST_SHARE:.0%}): the "
            "change is so small that 16-bit weights can hardly hold it"
        )
    context.console.say(
        f"  merged: {change.tensors} weights changed; logits differ by {check.largest_difference:.2g} "
        f"(scale {check.scale:.3g}), mean KL {check.divergence:.2g} (adapter itself {check.adapter_divergence:.2g})"
    )
    return {"base": choice, "weights": change._asdict(), "logits": check._asdict(), "examples": len(prompts)}


def _device(context: StageContext) -> str:
    """Where layers are computed: the card, where stage plan found room on it."""
    planned = read_json(context.inputs["plan"] / "plan.json").get("export", {})
    return "cpu" if planned.get("device") == "cpu" else models.device_name()


def _talks(context: StageContext, base: Path) -> list[models.TrainingTokens]:
    from holdfast.export.base_choice import at_most

    tokenizer = models.load_tokenizer(base)
    return at_most([models.encode_example(tokenizer, example.messages) for example in _examples(context)])


def _choose_base(
    context: StageContext, base: Path, adapter: Path, talks: list[models.TrainingTokens], device: str
) -> dict[str, Any]:
    """Which weights the adapter goes into; both are measured when the configuration leaves it open."""
    from holdfast.export.base_choice import choose_base

    wanted = context.config.export.merge_base
    if context.config.train.adapter != "qlora" or wanted != "auto":
        chosen = "nf4" if wanted == "nf4" and context.config.train.adapter == "qlora" else "original"
        return {"chosen": chosen, "trained": None, "measured": {}}
    choice = choose_base(base, adapter, talks, ("original", "nf4"), "nf4", device=device)
    losses = ", ".join(f"{kind} {loss.loss:.4f}" for kind, loss in choice.measured.items())
    context.console.say(
        f"  loss of the validation answers: as trained {choice.trained.loss:.4f}; merged into {losses}: "
        f"{choice.chosen} is taken"
    )
    return choice.document()


def _write_gguf_files(context: StageContext) -> dict[str, dict[str, int]]:
    """Make the GGUF files that are not there yet; returns the tensor types of each."""
    from holdfast.export.gguf import convert_to_gguf
    from holdfast.export.quantize import count_types, quantize_gguf

    name, out = context.config.name, context.out.path
    wanted = [q for q in context.config.export.quantizations if q != "F16"]
    importance = _importance(context)
    with context.console.progress("writing GGUF files", 1 + len(wanted)) as bar:
        for quantization in ("F16", *wanted):
            file = gguf_name(name, quantization)
            if not (out / file).is_file():
                with context.out.writing(file) as target:
                    if quantization in ("F16", "BF16"):
                        convert_to_gguf(out / "merged", target, name=name, kind=quantization)
                    else:
                        quantize_gguf(out / gguf_name(name, "F16"), target, quantization, importance=importance)
            bar.advance(note=quantization)
    return {file: count_types(out / file) for file in (gguf_name(name, q) for q in ("F16", *wanted))}


def _importance(context: StageContext) -> "dict[str, Any] | None":
    """The importance matrix of the training rows, kept as a file in llama.cpp's format; None when not asked for."""
    if not context.config.export.imatrix:
        return None
    from holdfast.export.imatrix import compute_importance, read_importance, write_importance

    path, merged = context.out.path / IMATRIX, context.out.path / "merged"
    if not path.is_file():
        tokenizer = models.load_tokenizer(merged)
        rows = read_examples(context.inputs["prepare"] / "train.jsonl")
        prompts = [models.encode_example(tokenizer, row.messages).input_ids for row in rows]
        matrix = compute_importance(merged, prompts, device=_device(context))
        context.console.say(f"  importance matrix from {matrix.tokens} tokens of {matrix.prompts} training rows")
        with context.out.writing(IMATRIX) as target:
            write_importance(matrix, target, data="train.jsonl")
    return read_importance(path).values


def _write_adapter(context: StageContext, base: Path) -> None:
    from holdfast.export.lora_gguf import convert_adapter

    if context.config.export.lora_gguf:
        with context.out.writing(f"{context.config.name}-{ADAPTER}") as target:
            convert_adapter(base, context.inputs["train"] / "adapter", target, name=context.config.name)


def _write_modelfile(context: StageContext, task: dict[str, Any]) -> None:
    config, merged = context.config, context.out.path / "merged"
    parts = ModelfileParts(
        gguf=file_to_deploy(config),
        folder=merged,
        system_prompt=str(task.get("system_prompt") or config.collect.system_prompt),
        n_ctx=config.verify.n_ctx,
        num_predict=config.evaluate.max_new_tokens,
    )
    if derive_format(merged) is None:
        context.console.warn("the chat template cannot be written as an Ollama TEMPLATE; see the comment in Modelfile")
    context.out.write_text("Modelfile", render_modelfile(parts))


def _examples(context: StageContext) -> list[Example]:
    """The first validation examples; the task's instruction alone when there are none."""
    from holdfast.export.base_choice import ITEMS

    path = context.inputs["prepare"] / "valid.jsonl"
    examples = read_examples(path)[:ITEMS] if path.is_file() else []
    if examples:
        return examples
    task = _read_json(context.inputs["prepare"] / "task.json")
    asked = Message(role="user", content=str(task.get("instruction") or "Hello."))
    return [Example(messages=(asked, Message(role="assistant", content="{}")), source="task.json:1")]


def _count_rows(folder: Path) -> dict[str, int]:
    files = {split: folder / f"{split}.jsonl" for split in ("train", "valid", "test")}
    return {split: len(read_examples(path)) for split, path in files.items() if path.is_file()}


def _read_json(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes()) if path.is_file() else {}
    return document if isinstance(document, dict) else {}
