"""Merge a LoRA adapter into a base model, file by file and tensor by tensor, and measure what the merge did.

The adapter goes into the original 16-bit weights or into what the 4-bit model computed with (NF4 and back), never into
packed 4-bit ones (measured ten times worse: KL 0.6 against 0.05).
"""

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import ModelError, StageError
from holdfast.export.checkpoint import read_checkpoint, read_tensors
from holdfast.export.lora import Adapter, as_torch, read_adapter
from holdfast.export.model_files import copy_the_rest
from holdfast.export.streamed import PIECE, Streamed
from holdfast.export.weights import BaseKind, Source, base_weights, merged_weights, stored_weights

if TYPE_CHECKING:
    import torch

LARGEST_LOGIT_DIFFERENCE = 0.1  # relative to the largest logit; 0.016 was measured in bfloat16 on a random model
LARGEST_DIVERGENCE = 0.05  # nats
LARGEST_SHARE = 0.2  # of what the adapter itself changes
CHECKED_POSITIONS = 1024  # logits of so many positions are kept: 0.6 GB for a vocabulary of 150,000


class Change(NamedTuple):
    """What the merge did to the weights. `lost`: modules whose change was rounded away in 16 bits; `largest`: change of
    one value; `relative`: length of the whole change by the length of the weights that changed."""

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


def merge_adapter(base: Path, adapter: Path, target: Path, *, kind: BaseKind = "original") -> Change:
    """Write base + adapter to the folder `target` as safetensors in the base's 16-bit type (32-bit: bfloat16).

    The files are those of the base, one tensor is in memory at a time; the same input gives the same bytes.
    Raises ModelError for pickled or quantised weights, StageError when no weight changed.
    """
    check_inputs(base)
    parts = read_adapter(adapter)
    dtype = storage_type(base)
    tied = read_checkpoint(base).tie_word_embeddings
    check_tied(parts, tied=tied)
    target.mkdir(parents=True)
    source = merged_weights(base_weights(base, kind), parts, dtype)
    write_shards(base, source, target, dtype, skip=("lm_head.weight",) if tied else ())
    copy_the_rest(base, parts, target, dtype)
    return measure_change(base, adapter, target, kind=kind)


def check_tied(adapter: Adapter, *, tied: bool) -> None:
    """Raise ModelError for an adapter that changes one of two tied tensors: it would change the other, or be lost.

    An embedding that was trained whole changes the head, too, only when the two were kept one (ensure_weight_tying).
    """
    both = {"lm_head.weight", "model.embed_tokens.weight"}
    changed = sorted(both & adapter.targets)
    whole = not set(changed) & set(adapter.modules) and changed != ["lm_head.weight"] and adapter.keeps_tied
    if tied and changed and not whole:
        raise ModelError(
            f"{adapter.folder} adapts {changed[0]}, but embedding and head of this base model are one tensor (tied)",
            hint="leave lm_head and embed_tokens out of lora_target_modules, train them as one (modules_to_save with "
            "ensure_weight_tying), or use a base model that is not tied",
        )


def write_shards(base: Path, source: Source, target: Path, dtype: str, *, skip: Sequence[str] = ()) -> None:
    """Write every tensor of the base's files, with values from `source` in the 16-bit type, to files of the same names.

    The layout of a file: https://github.com/huggingface/safetensors#format.
    """
    import torch

    kind, name_of_kind = getattr(torch, dtype), {"bfloat16": "BF16", "float16": "F16"}[dtype]
    files: dict[Path, list[str]] = {}
    for name, tensor in read_tensors(base).items():
        if name not in skip:
            files.setdefault(tensor.data_range.filename, []).append(name)
    shapes = {name: list(source.shape(name)) for names in files.values() for name in names}
    for file, names in files.items():
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name in names:
            size = 2 * math.prod(shapes[name])
            header[name] = {"dtype": name_of_kind, "shape": shapes[name], "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (target / file.name).open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                out.write(source.read(name).to(kind).contiguous().view(torch.uint8).numpy().data)
    if len(files) > 1:
        places = {name: file.name for file, names in files.items() for name in names}
        total = sum(2 * math.prod(shape) for shape in shapes.values())
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def measure_change(base: Path, adapter: Path, merged: Path, *, kind: BaseKind = "original") -> Change:
    """Compare the weights on disk with the base's (after NF4 and back for `nf4`), one tensor at a time.

    Raises StageError when nothing changed, when tensors came or went, or when one changed that has no adapter.
    """
    import torch

    before, after = base_weights(base, kind), read_tensors(merged)
    tied = read_checkpoint(base).tie_word_embeddings
    names = {name for name in before.names if not (tied and name == "lm_head.weight")}
    if names != set(after):
        odd = sorted(names ^ set(after))
        raise StageError(f"the merged model has other tensors than its base: {len(odd)} differ, for example {odd[0]}")
    targets = read_adapter(adapter).targets
    dtype = getattr(torch, storage_type(base))
    changed, largest, moved, size = set(), 0.0, 0.0, 0.0
    for name in sorted(names):
        found = _measure_tensor(before.read(name).to(dtype), as_torch(after[name]))
        if found is not None:
            changed.add(name)
            largest, moved, size = max(largest, found[0]), moved + found[1], size + found[2]
    if not changed:
        raise StageError(
            f"merging changed none of the {len(names)} weights: the adapter in {adapter} is empty or too small "
            "for 16 bits",
            hint="look at the loss in trainer_log.jsonl; a larger learning_rate or more steps make a real adapter",
        )
    foreign = sorted(changed - targets)
    if foreign:
        raise StageError(f"merging changed {len(foreign)} weights that have no adapter, for example {foreign[0]}")
    relative = (moved / size) ** 0.5 if size else 0.0
    return Change(len(changed), len(targets), len(targets - changed), largest, relative)


def _measure_tensor(old: "torch.Tensor", new: "torch.Tensor") -> tuple[float, float, float] | None:
    """Largest change, sum of the squared changes, and of the squared old values; None when nothing changed, zeros for
    another shape. A function of its own: no tensor stays in memory while the next one is read."""
    import torch

    if torch.equal(old, new):
        return None
    if old.shape != new.shape:
        return 0.0, 0.0, 0.0
    difference = (new.float() - old.float()).abs()
    moved, size = (float(part.square().sum(dtype=torch.float64)) for part in (difference, old.float()))
    return float(difference.max()), moved, size


def check_merge(
    base: Path,
    adapter: Path,
    merged: Path,
    prompts: Sequence[list[int]],
    *,
    kind: BaseKind = "original",
    device: str = "cpu",
) -> LogitCheck:
    """Run base + adapter (PEFT's), base alone and the merged files on `prompts` (token ids) and compare the logits.

    At most CHECKED_POSITIONS positions are looked at. Raises StageError when the merged model differs more than
    rounding explains.
    """
    prompts = _at_most(prompts, CHECKED_POSITIONS)
    grown = read_adapter(adapter).grows(read_checkpoint(base).vocab_size)
    tuned = Streamed(merged if grown else base, base_weights(base, kind), adapter=adapter, device=device)
    wanted = list(tuned.logits(prompts))
    adapter_divergence = _Difference(wanted)
    if not grown:
        adapter_divergence.add_all(tuned.logits(prompts, plain=True))
    found = _Difference(wanted)
    found.add_all(Streamed(merged, stored_weights(merged), device=device).logits(prompts))
    scale = max(float(a.abs().max()) for a in wanted)
    check = LogitCheck(
        sum(map(len, prompts)), found.largest, scale, found.divergence,
        math.inf if grown else adapter_divergence.divergence, "float32",
    )  # fmt: skip
    _judge(check, merged)
    return check


class _Difference:
    """Largest difference of logits and mean KL(wanted ‖ found) in nats, prompt by prompt."""

    def __init__(self, wanted: "Sequence[torch.Tensor]") -> None:
        self.wanted, self.largest, self.total, self.count = wanted, 0.0, 0.0, 0

    def add_all(self, found: "Any") -> None:
        for left, right in zip(self.wanted, found, strict=True):
            for start in range(0, len(left), PIECE):
                a, b = (part[start : start + PIECE] for part in (left, right))
                self.largest = max(self.largest, float((a - b).abs().max()))
                p, q = (part.double().log_softmax(-1) for part in (a, b))
                self.total += float((p.exp() * (p - q)).sum())
            self.count += len(left)

    @property
    def divergence(self) -> float:
        """Never below zero."""
        return max(0.0, self.total / max(self.count, 1))


def _judge(check: LogitCheck, merged: Path) -> None:
    relative = check.largest_difference / max(check.scale, 1e-9)
    limit = max(1e-4, min(LARGEST_DIVERGENCE, LARGEST_SHARE * check.adapter_divergence))
    if relative > LARGEST_LOGIT_DIFFERENCE or check.divergence > limit:
        raise StageError(
            f"the merged model is not base + adapter: logits differ by {relative:.3f} of their scale (limit "
            f"{LARGEST_LOGIT_DIFFERENCE}), mean KL {check.divergence:.2g} nats (limit {limit:.2g}; the adapter "
            f"itself makes {check.adapter_divergence:.2g}), in {merged}",
            hint="the change may be too small for 16 bits: train longer or with a larger learning_rate",
        )


def _at_most(prompts: Sequence[list[int]], positions: int) -> list[list[int]]:
    kept: list[list[int]] = []
    for prompt in prompts:
        room = positions - sum(map(len, kept))
        if room > 0:
            kept.append(prompt[:room])
    return kept


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


def check_inputs(base: Path) -> None:
    """Raise ModelError for a base that is pickled, packed in 4 or 8 bits, or of an unknown architecture."""
    read_checkpoint(base)
    if not any(base.glob("*.safetensors")):
        pickled = sorted(p.name for p in base.glob("*.bin"))
        why = f"only {pickled[0]}; pickled weights can run code and are never loaded" if pickled else "no weights"
        raise ModelError(f"{base} has {why}", hint="give it as safetensors (*.safetensors)")
