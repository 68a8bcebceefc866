"""Merge a LoRA adapter into the original 16-bit base model, and measure what the merge did.

The adapter goes into the base's own weights, never into 4-bit ones (merging into NF4 was measured ten times worse:
KL 0.6 against 0.05). The tokenizer files are copied byte for byte, so that the original chat template ships and not
the one that training used.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.errors import ModelError, StageError
from holdfast.export.checkpoint import read_checkpoint, read_tensors

COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json", "LICENSE", "LICENSE.txt",
)  # fmt: skip
SHARD_SIZE = "2GB"
# Models up to here are checked in float32 (4 GiB), so that only the rounding of the weights is seen; larger ones in
# 16 bits, where the rounding of every activation comes on top. Not the free memory: same input, same report.
FLOAT32_CHECK_PARAMETERS = 1 << 30
LARGEST_LOGIT_DIFFERENCE = 0.1  # relative to the largest logit; 0.016 was measured in bfloat16 on a random model
LARGEST_DIVERGENCE = 0.05  # nats
LARGEST_SHARE = 0.2  # of what the adapter itself changes


class Change(NamedTuple):
    """What the merge did to the weights. `lost`: modules whose change was rounded away in 16 bits."""

    tensors: int
    modules: int
    lost: int
    largest: float
    relative: float


class LogitCheck(NamedTuple):
    """Base + adapter against the merged files, over every position of the prompts.

    `largest_difference` is in logits, `scale` the largest logit; `divergence` the mean KL(adapter ‖ merged) in nats,
    `adapter_divergence` the mean KL(adapter ‖ base): the size of what training changed.
    """

    positions: int
    largest_difference: float
    scale: float
    divergence: float
    adapter_divergence: float
    dtype: str

    @property
    def lost_share(self) -> float:
        """Share of what training changed that the merge lost (0 … 1 and more), as a ratio of the two divergences."""
        return self.divergence / max(self.adapter_divergence, 1e-12)


def merge_adapter(base: Path, adapter: Path, target: Path) -> Change:
    """Write base + adapter to the folder `target` as safetensors in the base's 16-bit type (32-bit: bfloat16).

    Runs on the CPU, needs memory for the model in 16 bits; the same input gives the same bytes.
    Raises ModelError for pickled or quantised weights, StageError when no weight changed.
    """
    _check_inputs(base, adapter)
    dtype = storage_type(base)
    target.mkdir(parents=True)
    model = _load(base, dtype, adapter)
    merged = model.merge_and_unload(safe_merge=True)
    merged.save_pretrained(target, max_shard_size=SHARD_SIZE)
    del model, merged
    config = json.loads((base / "config.json").read_bytes())
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    (target / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    (target / "generation_config.json").unlink(missing_ok=True)
    for name in COPIED:
        if (base / name).is_file():
            shutil.copyfile(base / name, target / name)
    if (base / "additional_chat_templates").is_dir():
        shutil.copytree(base / "additional_chat_templates", target / "additional_chat_templates")
    return measure_change(base, adapter, target)


def measure_change(base: Path, adapter: Path, merged: Path) -> Change:
    """Compare the weights on disk, one tensor at a time.

    Raises StageError when nothing changed, when tensors came or went, or when one changed that has no adapter.
    """
    import torch

    before, after = read_tensors(base), read_tensors(merged)
    tied = read_checkpoint(base).tie_word_embeddings
    before = {name: t for name, t in before.items() if not (tied and name == "lm_head.weight")}
    if set(before) != set(after):
        odd = sorted(set(before) ^ set(after))
        raise StageError(f"the merged model has other tensors than its base: {len(odd)} differ, for example {odd[0]}")
    targets = _adapted_weights(adapter)
    kind = getattr(torch, storage_type(base))
    changed, largest, moved, size = set(), 0.0, 0.0, 0.0
    for name in sorted(before):
        old, new = _tensor(before[name]).to(kind), _tensor(after[name])
        if torch.equal(old, new):
            continue
        changed.add(name)
        difference = (new.float() - old.float()).abs()
        largest = max(largest, float(difference.max()))
        moved += float(difference.square().sum(dtype=torch.float64))
        size += float(old.float().square().sum(dtype=torch.float64))
    if not changed:
        raise StageError(
            f"merging changed none of the {len(before)} weights: the adapter in {adapter} is empty or too small "
            "for 16 bits",
            hint="look at the loss in trainer_log.jsonl; a larger learning_rate or more steps make a real adapter",
        )
    foreign = sorted(changed - targets) if targets else []
    if foreign:
        raise StageError(f"merging changed {len(foreign)} weights that have no adapter, for example {foreign[0]}")
    return Change(len(changed), len(targets), len(targets - changed), largest, (moved / size) ** 0.5)


def check_merge(base: Path, adapter: Path, merged: Path, prompts: Sequence[list[int]]) -> LogitCheck:
    """Run base + adapter, base alone and the merged files on `prompts` (token ids) and compare the logits.

    Raises StageError when the merged model differs more than rounding explains.
    """
    import torch

    parameters = sum(_size(t.shape) for t in read_tensors(merged).values())
    dtype = "float32" if parameters <= FLOAT32_CHECK_PARAMETERS else storage_type(base)
    tuned = _load(base, dtype, adapter)
    with torch.inference_mode():
        wanted = [_logits(tuned, prompt) for prompt in prompts]
        with tuned.disable_adapter():
            adapter_divergence = _mean_divergence(wanted, [_logits(tuned, prompt) for prompt in prompts])
        del tuned
        model = _load(merged, dtype, None)
        found = [_logits(model, prompt) for prompt in prompts]
    check = LogitCheck(
        positions=sum(len(p) for p in prompts),
        largest_difference=max(float((a - b).abs().max()) for a, b in zip(wanted, found, strict=True)),
        scale=max(float(a.abs().max()) for a in wanted),
        divergence=_mean_divergence(wanted, found),
        adapter_divergence=adapter_divergence,
        dtype=dtype,
    )
    _judge(check, merged)
    return check


def _judge(check: LogitCheck, merged: Path) -> None:
    relative = check.largest_difference / max(check.scale, 1e-9)
    limit = max(1e-4, min(LARGEST_DIVERGENCE, LARGEST_SHARE * check.adapter_divergence))
    if check.dtype != "float32":
        limit = LARGEST_DIVERGENCE
    if relative > LARGEST_LOGIT_DIFFERENCE or check.divergence > limit:
        raise StageError(
            f"the merged model is not base + adapter: logits differ by {relative:.3f} of their scale (limit "
            f"{LARGEST_LOGIT_DIFFERENCE}), mean KL {check.divergence:.2g} nats (limit {limit:.2g}; the adapter "
            f"itself makes {check.adapter_divergence:.2g}), in {merged}",
            hint="the change may be too small for 16 bits: train longer or with a larger learning_rate",
        )


def storage_type(folder: Path) -> str:
    """16-bit type of the merged files: float16 for a float16 base, else bfloat16. Raises ModelError for other types."""
    types = {t.dtype for t in read_tensors(folder).values()}
    foreign = types - {"BF16", "F16", "F32"}
    if foreign:
        raise ModelError(
            f"{folder} holds {', '.join(sorted(foreign))} weights; only 16- and 32-bit ones can be merged into",
            hint="use the original 16-bit checkpoint as base_model",
        )
    return "float16" if "F16" in types and "BF16" not in types else "bfloat16"


def _check_inputs(base: Path, adapter: Path) -> None:
    read_checkpoint(base)
    for folder, name in ((base, "*.safetensors"), (adapter, "adapter_model.safetensors")):
        if not any(folder.glob(name)):
            pickled = sorted(p.name for p in folder.glob("*.bin"))
            why = f"only {pickled[0]}; pickled weights can run code and are never loaded" if pickled else "no weights"
            raise ModelError(f"{folder} has {why}", hint=f"give it as safetensors ({name})")
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise ModelError(f"{adapter} has no adapter_config.json", hint="holdfast train -c FILE makes an adapter")
    kind = json.loads(path.read_bytes()).get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{path}: adapter of type {kind}; only LORA can be merged")


def _load(folder: Path, dtype: str, adapter: Path | None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    if adapter is None:
        return model.eval()
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter), local_files_only=True).eval()


def _logits(model: Any, prompt: list[int]) -> Any:
    import torch

    return model(input_ids=torch.tensor([prompt])).logits[0].float()


def _mean_divergence(wanted: list[Any], found: list[Any]) -> float:
    """Mean KL(wanted ‖ found) in nats over all positions; never below zero."""
    total, count = 0.0, 0
    for left, right in zip(wanted, found, strict=True):
        p, q = left.double().log_softmax(-1), right.double().log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
        count += len(p)
    return max(0.0, total / max(count, 1))


def _adapted_weights(adapter: Path) -> set[str]:
    """Names of the base's weights that the adapter is for; empty when it also trains whole modules."""
    names = [name.removeprefix("base_model.model.") for name in read_tensors(adapter)]
    if any(".lora_" not in name for name in names):
        return set()
    return {name.split(".lora_")[0] + ".weight" for name in names}


def _tensor(source: Any) -> Any:
    """One tensor of a safetensors file as torch sees it."""
    import torch

    kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    return torch.from_numpy(source.mmap_bytes()).view(kinds[source.dtype]).reshape(source.shape)


def _size(shape: tuple[int, ...]) -> int:
    import math

    return math.prod(shape)
