"""What would help when a phase does not fit: changes to the configuration, each recomputed, ranked by effect."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from holdfast.core.config import RunConfig
from holdfast.plan.memory import Demand

Change = tuple[str, str, dict[str, Any]]


@dataclass(frozen=True)
class Remedy:
    """One change (as `--set` text), the bytes it saves in the phase that does not fit, and whether that is enough."""

    change: str
    saves: int
    enough: bool


def find_remedies(
    config: RunConfig, failed: Demand, usable: int, demand_of: Callable[[RunConfig], list[Demand]]
) -> list[Remedy]:
    """Try each change alone, then all that help together. Those that suffice come first, the mildest of them
    at the top; the others by what they save.

    demand_of: configuration → its demands with the smallest micro-batch (the effective batch stays the same).
    """

    def total(changed: RunConfig) -> int:
        return next(d.total for d in demand_of(changed) if (d.phase, d.place) == (failed.phase, failed.place))

    found, everything = [], config
    for change, section, update in _changes(config, failed):
        now = total(_changed(config, section, update))
        if now < failed.total:
            found.append(Remedy(change, failed.total - now, now <= usable))
            everything = _changed(everything, section, update)
    ranked = sorted(found, key=lambda remedy: (not remedy.enough, remedy.saves if remedy.enough else -remedy.saves))
    if len(ranked) > 1 and not ranked[0].enough:
        now = total(everything)
        ranked.append(Remedy("all of these together", failed.total - now, now <= usable))
    return ranked


def _changes(config: RunConfig, failed: Demand) -> Iterator[Change]:
    """(text, section, update) of changes that can matter for the phase."""
    if failed.place == "disk":
        yield from _disk_changes(config)
    elif failed.phase in ("train", "evaluate"):
        yield from _model_changes(config)
        yield from _train_changes(config) if failed.phase == "train" else _evaluate_changes(config)
    elif failed.phase == "serve":
        yield from _serve_changes(config)


def _model_changes(config: RunConfig) -> Iterator[Change]:
    if config.train.lora_r > 8:
        yield "train.lora_r=8", "train", {"lora_r": 8}
    if config.train.adapter != "qlora":
        yield "train.adapter=qlora", "train", {"adapter": "qlora"}


def _train_changes(config: RunConfig) -> Iterator[Change]:
    if config.train.use_dora:
        yield "train.use_dora=false", "train", {"use_dora": False}
    if not config.train.gradient_checkpointing:
        yield "train.gradient_checkpointing=true", "train", {"gradient_checkpointing": True}
    if config.train.recompute != "auto":
        yield "train.recompute=auto", "train", {"recompute": "auto"}
    if config.train.activation_offloading is False:
        yield "train.activation_offloading=auto", "train", {"activation_offloading": "auto"}
    if config.train.embedding_offloading is False:
        yield "train.embedding_offloading=auto", "train", {"embedding_offloading": "auto"}
    if "8bit" not in config.train.optimizer:
        yield "train.optimizer=paged_adamw_8bit", "train", {"optimizer": "paged_adamw_8bit"}
    for shorter in (config.sequence_len // part for part in (2, 4, 8)):
        if shorter >= 128:
            yield f"sequence_len={shorter}", "", {"sequence_len": shorter}


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


def _changed(config: RunConfig, section: str, update: dict[str, Any]) -> RunConfig:
    if not section:
        return config.model_copy(update=update)
    return config.model_copy(update={section: getattr(config, section).model_copy(update=update)})
