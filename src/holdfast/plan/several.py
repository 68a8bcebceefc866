"""What several training processes change in a plan: rows for each, memory of each."""

from holdfast.core.config import TrainConfig
from holdfast.core.errors import ConfigError
from holdfast.plan.constants import constant


def process_count(train: TrainConfig) -> int:
    """Processes of all machines together (train/processes.py starts them)."""
    return train.nproc * train.nnodes


def is_sharded(train: TrainConfig) -> bool:
    """Whether each process holds only a part of the frozen matrices."""
    return train.distributed == "fsdp" and process_count(train) > 1


def obstacles(train: TrainConfig) -> list[str]:
    """Keys that leave nothing of holdfast's own layers and matrices: only they gather divided weights."""
    kernels = train.kernels
    wrong = {
        "train.kernels.use: never": kernels.use == "never",
        "train.kernels: neither fused_layer nor fused_lora": not (kernels.fused_layer or kernels.fused_lora),
        "train.lora_dropout above 0": train.lora_dropout > 0,
        "train.use_dora": train.use_dora,
    }
    return [name for name, there in wrong.items() if there]


def refuse_parts(train: TrainConfig) -> None:
    """Raises ConfigError when frozen weights are to be divided that nothing would gather."""
    found = obstacles(train)
    if is_sharded(train) and found:
        raise ConfigError(
            f"train.distributed: fsdp divides what holdfast computes itself, and that is nothing with {found[0]}",
            hint="change that, or train.distributed: ddp",
        )


def row_choices(train: TrainConfig) -> list[int]:
    """Rows at once for each process, largest first, that keep the effective batch. Raises ConfigError for none."""
    effective, count = train.micro_batch_size * train.gradient_accumulation_steps, process_count(train)
    found = [rows for rows in range(train.micro_batch_size, 0, -1) if effective % (rows * count) == 0]
    if not found:
        steps = _next_that_divides(train, count)
        raise ConfigError(
            f"an effective batch of {effective} rows (micro_batch_size {train.micro_batch_size} x "
            f"gradient_accumulation_steps {train.gradient_accumulation_steps}) cannot be divided among {count} "
            f"processes; {train.micro_batch_size * steps} rows can",
            hint=f"holdfast plan -c FILE --set train.gradient_accumulation_steps={steps}",
        )
    return found


def in_parts(train: TrainConfig, cards: int) -> TrainConfig:
    """The same training with the frozen weights divided among `cards` cards (more accumulation where it must be)."""
    steps = _next_that_divides(train, cards)
    changed = {"nproc": cards, "nnodes": 1, "distributed": "fsdp", "gradient_accumulation_steps": steps}
    return train.model_copy(update=changed)


def _next_that_divides(train: TrainConfig, count: int) -> int:
    steps = train.gradient_accumulation_steps
    while steps * train.micro_batch_size % count:
        steps += 1
    return steps


def accumulation(train: TrainConfig, rows: int) -> int:
    """Micro-batches of `rows` rows in one optimiser step of each process."""
    return train.micro_batch_size * train.gradient_accumulation_steps // (rows * process_count(train))


def add_processes(parts: dict[str, int], train: TrainConfig, adapter: int, frozen: int, largest: int) -> dict[str, int]:
    """The components of one of several processes: DDP's buckets, and with `fsdp` the share of the frozen matrices.

    frozen: bytes of all matrices as they are stored; largest: of those that are whole at the same time.
    """
    if process_count(train) == 1:
        return parts
    found = {**parts, "gradient buckets": int(adapter * constant("adapter_bytes"))}
    if is_sharded(train):
        count = process_count(train)
        found["weights"] = parts["weights"] - frozen + -(-frozen // count)
        found["gathered matrices"] = largest
        found.pop("unpacked weights", None)
    return found
