"""LoRA+ (https://arxiv.org/abs/2402.12354): the B matrices learn faster than the A matrices. PEFT makes the groups."""

from typing import Any

from peft.optimizers import create_loraplus_optimizer


def use_loraplus(trainer: Any, ratio: float) -> None:
    """Let a trainer make its optimiser in PEFT's groups; called again (after out of memory), it makes a new one."""

    def create_optimizer(model: Any = None) -> Any:
        if trainer.optimizer is None:
            kind, settings = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
            trainer.optimizer = create_loraplus_optimizer(
                trainer.model, kind, loraplus_lr_ratio=ratio, loraplus_weight_decay=trainer.args.weight_decay,
                **settings,
            )  # fmt: skip
        return trainer.optimizer

    trainer.create_optimizer = create_optimizer
