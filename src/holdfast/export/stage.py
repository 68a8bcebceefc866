"""Stage `export`: merge, check, convert, quantise, describe. Every product appears whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from holdfast import models
from holdfast.core.context import StageContext
from holdfast.core.digest import digest_tree
from holdfast.core.manifest import INTENT, MANIFEST
from holdfast.core.records import Example, Message, read_examples
from holdfast.export.card import CardFacts, render_card
from holdfast.export.modelfile import ModelfileParts, derive_format, render_modelfile

CHECKED_EXAMPLES = 8
SUMS = "SHA256SUMS"


def run(context: StageContext) -> None:
    """Make merged/, the GGUF files, Modelfile, README.md, export.json and SHA256SUMS.

    Finished files of an interrupted run with the same key are kept. Raises what merge, gguf and quantize raise.
    """
    models.go_offline()
    base = models.find_base_model(context.config.base_model)
    merge = _merge(context, base)
    counts = _write_gguf_files(context)
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
    if merged.is_dir():
        change = measure_change(base, adapter, merged)
    else:
        context.console.say("  merging the adapter into the 16-bit base model")
        with context.out.writing("merged") as folder:
            change = merge_adapter(base, adapter, folder)
    if change.lost:
        context.console.warn(
            f"{change.lost} of {change.modules} adapted weights did not change: the update is too small for 16 bits"
        )
    tokenizer = models.load_tokenizer(merged)
    talks = [models.encode_example(tokenizer, e.messages).input_ids for e in _examples(context)]
    check = check_merge(base, adapter, merged, [ids[: context.config.sequence_len] for ids in talks])
    if check.lost_share > LARGEST_SHARE:
        context.console.warn(
            f"merging loses {min(check.lost_share, 1):.0%} of what training changed (limit {LARGEST_SHARE:.0%}): the "
            "change is so small that 16-bit weights can hardly hold it"
        )
    context.console.say(
        f"  merged: {change.tensors} weights changed; logits differ by {check.largest_difference:.2g} "
        f"(scale {check.scale:.3g}), mean KL {check.divergence:.2g} (adapter itself {check.adapter_divergence:.2g})"
    )
    return {"weights": change._asdict(), "logits": check._asdict(), "examples": len(talks)}


def _write_gguf_files(context: StageContext) -> dict[str, dict[str, int]]:
    """Make the GGUF files that are not there yet; returns the tensor types of each quantised one made now."""
    from holdfast.export.gguf import convert_to_gguf
    from holdfast.export.quantize import count_types, quantize_gguf

    name, out = context.config.name, context.out.path
    plain = gguf_name(name, "F16")
    wanted = [q for q in context.config.export.quantizations if q != "F16"]
    with context.console.progress("writing GGUF files", 1 + len(wanted)) as bar:
        if not (out / plain).is_file():
            with context.out.writing(plain) as target:
                convert_to_gguf(out / "merged", target, name=name)
        bar.advance()
        for quantization in wanted:
            file = gguf_name(name, quantization)
            if not (out / file).is_file():
                with context.out.writing(file) as target:
                    quantize_gguf(out / plain, target, quantization, threads=os.cpu_count() or 1)
            bar.advance(note=quantization)
    return {file: count_types(out / file) for file in (plain, *(gguf_name(name, q) for q in wanted))}


def _write_modelfile(context: StageContext, task: dict[str, Any]) -> None:
    config, merged = context.config, context.out.path / "merged"
    parts = ModelfileParts(
        gguf=gguf_name(config.name, config.verify.deploy),
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
    path = context.inputs["prepare"] / "valid.jsonl"
    examples = read_examples(path)[:CHECKED_EXAMPLES] if path.is_file() else []
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
