"""Each fast part against the plain path on the CPU: loss and every adapter gradient, in float32."""

from typing import Any

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from holdfast.train import chunked_loss, fast_path
from holdfast.train.recompute import LEVELS, Policy, same_for_all
from tiny_adapted import loss_and_gradients, packed, tiny_model, worst_difference

EXACT = 2e-5


def plain_result(family: str, base: str, **lora: Any) -> tuple[float, dict[str, torch.Tensor]]:
    model = tiny_model(family, base, **lora)
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    return loss_and_gradients(model, packed())


def fast_result(
    family: str, base: str, policy: Policy, *, fused_layer: bool = True, **lora: Any
) -> tuple[float, dict[str, torch.Tensor], fast_path.FastPath]:
    model = tiny_model(family, base, **lora)
    path = fast_path.install(model, policy, fused_layer=fused_layer)
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    chunked_loss.install(model.get_base_model())
    return (*loss_and_gradients(model, packed()), path)


@pytest.mark.parametrize("base", ["plain", "nf4"])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_the_plain_loss_and_gradients(level: Any, family: str, base: str) -> None:
    want = plain_result(family, base)
    loss, gradients, path = fast_result(family, base, same_for_all(level, 3, mlp_tokens=32))
    assert len(path.layers) == 3, path.notes
    assert loss == pytest.approx(want[0], rel=1e-5)
    assert len(gradients) == 3 * 7 * 2
    assert worst_difference(want[1], gradients) < EXACT
