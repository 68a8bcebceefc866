"""A holdfast command with one fault in it: `python tests/sabotage_run.py FAULT run -c FILE …`.

Each fault replaces one function and says `SABOTAGE <fault>` on stderr when it strikes; all else stays as it is.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from holdfast import cli, models, pipeline
from holdfast.core.context import StageContext
from holdfast.core.records import Example


def struck(fault: str, what: str) -> None:
    """Say that the fault has happened; the tests look for it."""
    print(f"SABOTAGE {fault}: {what}", file=sys.stderr, flush=True)


def around(
    stage: str, before: Callable[[StageContext], None] | None, after: Callable[[StageContext], None] | None
) -> None:
    """Do something right before or after the work of a stage, before its manifest is written."""
    found = next(one for one in pipeline.STAGES if one.name == stage)

    def run(context: StageContext) -> None:
        if before:
            before(context)
        found.run(context)
        if after:
            after(context)

    pipeline.STAGES = tuple(one._replace(run=run) if one is found else one for one in pipeline.STAGES)


def end_token_masked() -> None:
    """The label of the token that ends each answer is left out of the loss."""
    encode = models.encode_examples

    def masked(tokenizer: Any, conversations: Any) -> list[models.TrainingTokens]:
        found = []
        for ids, labels in encode(tokenizer, conversations):
            last = max(at for at, label in enumerate(labels) if label != models.NOT_TRAINED)
            struck("end_token_masked", f"label {labels[last]}")
            found.append(models.TrainingTokens(ids, [*labels[:last], models.NOT_TRAINED, *labels[last + 1 :]]))
        return found

    models.encode_examples = masked


def rescaled(adapter: Path, factor: float, to: Path) -> Path:
    """A copy of an adapter whose effect is `factor` times as large."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, to)
    tensors = load_file(to / "adapter_model.safetensors")
    changed = {name: value * factor if "lora_B" in name else value for name, value in tensors.items()}
    save_file(changed, to / "adapter_model.safetensors", metadata={"format": "pt"})
    return to


def adapter_doubled() -> None:
    """The merge takes the adapter twice: a wrong scale, as after a mistake with alpha, rank or rsLoRA."""
    from holdfast.export import merge

    real = merge.merge_adapter

    def doubled(base: Path, adapter: Path, target: Path, **more: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            struck("adapter_doubled", "merging 2 x the adapter")
            return real(base, rescaled(adapter, 2.0, Path(folder) / "adapter"), target, **more)

    merge.merge_adapter = doubled


def adapter_zeroed() -> None:
    """Training saves an adapter that does nothing."""

    def zero(context: StageContext) -> None:
        adapter = context.out.path / "adapter"
        copy = rescaled(adapter, 0.0, context.out.path.parent / "zeroed")
        shutil.copyfile(copy / "adapter_model.safetensors", adapter / "adapter_model.safetensors")
        shutil.rmtree(copy)
        struck("adapter_zeroed", "every lora_B is 0")

    around("train", None, zero)


def merged_into_4_bit() -> None:
    """The export is given the base model in packed 4-bit weights."""

    def pack(context: StageContext) -> None:
        base = models.find_base_model(context.config.base_model)
        packed = Path(tempfile.mkdtemp()) / "packed"
        shutil.copytree(base, packed, ignore=shutil.ignore_patterns("*.safetensors*", "config.json"))
        models.load_model(base, quantization="nf4").save_pretrained(packed)
        assert "quantization_config" in json.loads((packed / "config.json").read_text())
        models.find_base_model = lambda name: packed
        struck("merged_into_4_bit", "packed base model")

    around("export", pack, None)


def base_swapped() -> None:
    """Another revision of the base model lies in its folder after training."""

    def swap(context: StageContext) -> None:
        from safetensors.torch import load_file, save_file

        weights = sorted(models.find_base_model(context.config.base_model).glob("*.safetensors"))[0]
        tensors = {name: value * 1.01 for name, value in load_file(weights).items()}
        save_file(tensors, weights, metadata={"format": "pt"})
        struck("base_swapped", weights.name)

    around("train", None, swap)


def quantised(context: StageContext) -> Path:
    return context.run_dir.stage("export").path / f"{context.config.name}-Q4_K_M.gguf"


def file_truncated() -> None:
    """The quantised file lacks its last third, as after a full disk that nobody noticed."""

    def cut(context: StageContext) -> None:
        path = quantised(context)
        with path.open("r+b") as file:
            file.truncate(2 * path.stat().st_size // 3)
        struck("file_truncated", path.name)

    around("export", None, cut)


def bit_flipped() -> None:
    """One bit of the quantised file changes after it was measured and before the run is decided."""

    def flip(context: StageContext) -> None:
        path = quantised(context)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        struck("bit_flipped", path.name)

    around("decide", flip, None)


def labels_shuffled() -> None:
    """Every training row has the answer of another one."""
    from holdfast.train import stage

    real = stage.read_examples

    def shuffled(path: Path) -> list[Example]:
        rows = real(path)
        answers = [row.messages[-1] for row in rows]
        moved = [*answers[len(answers) // 2 + 1 :], *answers[: len(answers) // 2 + 1]]
        wrong = sum(a.content != b.content for a, b in zip(answers, moved, strict=True))
        struck("labels_shuffled", f"{wrong} of {len(rows)} answers changed")
        return [
            msgspec.structs.replace(row, messages=(*row.messages[:-1], answer))
            for row, answer in zip(rows, moved, strict=True)
        ]

    stage.read_examples = shuffled


def form_without_labels() -> None:
    """The tuned model answers in perfect form with wrong labels; the baseline was right wherever its form was."""
    from holdfast.evaluate import runtimes, stage
    from holdfast.evaluate.tasks import read_task
    from holdfast.runtime import Reply

    real = stage.read_rows

    def wrong(folder: Path, adapter: Path | None, precision: Any, asked: Sequence[Example], *rest: Any) -> list[Reply]:
        struck("form_without_labels", f"{len(asked)} answers replaced")
        other = {"critical": "low", "high": "low", "medium": "critical", "low": "critical"}
        texts = [row.answer for row in asked]
        for label, instead in other.items():
            texts = [f'{{"priority":"{instead}"}}' if text == f'{{"priority":"{label}"}}' else text for text in texts]
        return [Reply(text, 5, True, 0.0, 9, 0.0, 0.0) for text in texts]

    def better(path: Path) -> list[dict[str, Any]]:
        rows = real(path)
        if path.name != "samples.jsonl" or "baseline" not in str(path.parent):
            return rows
        task = read_task(path.parents[1] / "02-prepare" / "task.json")
        assert task.label_field == "priority"
        for number, row in enumerate(rows):
            right = number % 2
            row["output"] = row["expected"] if right else "I think it is " + row["expected_label"]
            row["scores"] |= {"valid_json": right, "label_accuracy": right}
        return rows

    runtimes.answer_with_transformers = wrong
    stage.read_rows = better


FAULTS: dict[str, Callable[[], None]] = {
    "end_token_masked": end_token_masked,
    "adapter_doubled": adapter_doubled,
    "adapter_zeroed": adapter_zeroed,
    "merged_into_4_bit": merged_into_4_bit,
    "base_swapped": base_swapped,
    "file_truncated": file_truncated,
    "bit_flipped": bit_flipped,
    "labels_shuffled": labels_shuffled,
    "form_without_labels": form_without_labels,
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    cli.main()
