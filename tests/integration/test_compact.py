"""Weights that were moved together are the same weights. Run: pytest tests/integration/test_compact.py"""

from typing import Any

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from holdfast import compact
from tiny_adapted import loss_and_gradients, packed, tiny_model


def storages(model: Any) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in model.parameters() if p.numel()}


@pytest.mark.parametrize("base", ["plain", "nf4", "int8"])
def test_loss_and_gradients_stay_and_each_layer_is_one_piece(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "SMALL", 0)
    model = tiny_model("qwen2", base)
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    batch = packed()
    layers = model.get_base_model().get_decoder().layers
    rest = storages(model) - storages(layers)
    assert len(storages(layers)) > 20
    want = loss_and_gradients(model, batch)
    model.zero_grad()
    moved = compact.compact(model)
    assert moved >= sum(p.numel() * p.element_size() for p in layers.parameters())
    assert len(storages(layers)) == len(layers), "one piece a layer"
    assert storages(model) - storages(layers) == rest, "embedding and head stay"
    loss, gradients = loss_and_gradients(model, batch)
    assert loss == want[0]
    assert all(torch.equal(gradients[name], want[1][name]) for name in want[1])


def test_small_tensors_and_the_second_name_of_an_8_bit_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen2", "int8")
    before = storages(model)
    assert compact.compact(model) == 0
    assert storages(model) == before
    monkeypatch.setattr(compact, "SMALL", 0)
    compact.compact(model)
    for module in model.modules():
        held = getattr(getattr(module, "weight", None), "CB", None)
        if held is not None:
            assert held.data_ptr() == module.weight.data_ptr()
