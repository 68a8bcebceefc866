"""What would help when a phase does not fit: changes to the configuration, each recomputed, ranked by effect."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.plan.memory import Demand

Change = tuple[str, str, dict[str, Any]]


@dataclass(frozen=True)
class Remedy:
    """What to change, the bytes it saves in the phase that does not fit, and whether that is enough.

    `settings`: the changes as values of `--set`.
    """

    change: str
    saves: int
    enough: bool
    settings: tuple[str, ...]


def find_remedies(
    config: RunConfig, failed: Demand, usable: int, demand_of: Callable[[RunConfig], list[Demand]]
) -> list[Remedy]:
    """Try each change alone, then all that help together. Those that suffice come first, the mildest of them
    at the top, those that shorten rows behind the others; the rest by what they save.

    demand_of: configuration → its demands with the smallest micro-batch (the effective batch stays the same).
    """
    phases = ("load", "train") if failed.phase in ("load", "train") else (failed.phase,)

    def total(changed: RunConfig) -> int:
        return max(d.total for d in demand_of(changed) if d.phase in phases and d.place == failed.place)

    before = max(failed.total, total(config))
    found = []
    for change in _changes(config, failed):
        now = total(_changed(config, change))
        if now < before:
            found.append((change, Remedy(change[0], before - now, now <= usable, (change[0],))))
    ranked = sorted((remedy for _, remedy in found), key=_rank)
    if len(ranked) > 1 and not ranked[0].enough:
        ranked.append(_together(config, [change for change, _ in found], before, usable, total))
    return ranked


def _rank(remedy: Remedy) -> tuple[bool, bool, int]:
    """Cutting rows comes after whatever else is enough."""
    cuts = remedy.change.startswith("sequence_len=")
    return (False, cuts, remedy.saves) if remedy.enough else (True, False, -remedy.saves)


def _together(
    config: RunConfig, changes: list[Change], before: int, usable: int, total: Callable[[RunConfig], int]
) -> Remedy:
    """One change after the other until it is enough; of several for the same key the first that suffices."""
    chosen: dict[str, str] = {}
    now = before
    for change in changes:
        config = _changed(config, change)
        chosen[change[0].split("=")[0]] = change[0]
        now = total(config)
        if now <= usable:
            break
    return Remedy(f"{', '.join(chosen.values())} together", before - now, now <= usable, tuple(chosen.values()))


def _changes(config: RunConfig, failed: Demand) -> Iterator[Change]:
    """(text, section, update) of changes that can matter for the phase."""
    if failed.place == "disk":
        yield from _disk_changes(config)
    elif failed.phase == "load":
        yield from _base_changes(config)
    elif failed.phase in ("train", "evaluate"):
        yield from _model_changes(config)
        yield from _train_changes(config) if failed.phase == "train" else _evaluate_changes(config)
    elif failed.phase == "merge":
        yield from _merge_changes(config)
    elif failed.phase == "serve":
        yield from _serve_changes(config)


def _base_changes(config: RunConfig) -> Iterator[Change]:
    if config.train.adapter != "qlora":
        yield "train.adapter=qlora", "train", {"adapter": "qlora"}


def _model_changes(config: RunConfig) -> Iterator[Change]:
    if config.train.lora_r > 8:
        yield "train.lora_r=8", "train", {"lora_r": 8}
    yield from _base_changes(config)


def _train_changes(config: RunConfig) -> Iterator[Change]:
    train = config.train
    fast = train.kernels.model_copy(update={"use": "auto"})
    for there, key, text, value in (
        (train.use_dora, "use_dora", "false", False),
        (train.lora_dropout > 0, "lora_dropout", "0", 0.0),
        (train.kernels.use == "never", "kernels", "auto", fast),
        (not train.gradient_checkpointing, "gradient_checkpointing", "true", True),
        (train.recompute != "auto", "recompute", "auto", "auto"),
        (train.activation_offloading is False, "activation_offloading", "auto", "auto"),
        (train.embedding_offloading is False, "embedding_offloading", "auto", "auto"),
        ("8bit" not in train.optimizer, "optimizer", "paged_adamw_8bit", "paged_adamw_8bit"),
    ):
        if there:
            yield f"train.{key}{'.use' if key == 'kernels' else ''}={text}", "train", {key: value}
    yield from _shorter_rows(config)


def _shorter_rows(config: RunConfig) -> Iterator[Change]:
    for shorter in (config.sequence_len // part for part in (2, 4, 8)):
        if shorter >= 128:
            yield f"sequence_len={shorter}", "", {"sequence_len": shorter}


def _merge_changes(config: RunConfig) -> Iterator[Change]:
    if config.export.imatrix:
        yield "export.imatrix=false", "export", {"imatrix": False}
    yield from _shorter_rows(config)


def _evaluate_changes(config: RunConfig) -> Iterator[Change]:
    for rows in (rows for rows in (8, 4, 1) if rows < config.evaluate.batch_size):
        yield f"evaluate.batch_size={rows}", "evaluate", {"batch_size": rows}


def _serve_changes(config: RunConfig) -> Iterator[Change]:
    if config.verify.deploy != "Q4_K_M":
        yield "verify.deploy=Q4_K_M", "verify", {"deploy": "Q4_K_M"}
    if config.serve.parallel > 1:
        yield "serve.parallel=1", "serve", {"parallel": 1}
    if config.verify.n_ctx > 512:
        yield f"verify.n_ctx={config.verify.n_ctx // 2}", "verify", {"n_ctx": config.verify.n_ctx // 2}


def _disk_changes(config: RunConfig) -> Iterator[Change]:
    if config.train.save_total_limit > 2:  # training never keeps fewer
        yield "train.save_total_limit=2", "train", {"save_total_limit": 2}
    deploy = config.verify.deploy
    if len(config.export.quantizations) > 1 and deploy != "auto":
        yield f"export.quantizations=[{deploy}]", "export", {"quantizations": (deploy,)}


def _changed(config: RunConfig, change: Change) -> RunConfig:
    _, section, update = change
    if not section:
        return config.model_copy(update=update)
    return config.model_copy(update={section: getattr(config, section).model_copy(update=update)})
