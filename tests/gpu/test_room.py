"""Models for evaluation on a card: no holes between their weights, and none is left when the next one comes."""

import gc

import pytest
import torch

from holdfast import compact, models

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]
FOLDER = models.find_base_model("pebble")


def test_a_model_for_evaluation_has_its_layers_in_one_piece_each(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor([[5, 6, 7, 8]], device="cuda")
    with torch.inference_mode():
        wanted = models.load_model(FOLDER, quantization="nf4", together=False)(input_ids=ids).logits
    monkeypatch.setattr(compact, "SMALL", 0)
    model = models.load_model(FOLDER, quantization="nf4")
    for layer in model.get_decoder().layers:
        assert len({parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}) == 1
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=ids).logits, wanted)


def test_loading_frees_the_memory_of_a_model_that_nobody_uses() -> None:
    gc.disable()
    try:
        model = models.load_model(FOLDER, quantization="nf4")
        one = torch.cuda.memory_allocated()
        model.circle = model.forward
        del model
        other = models.load_model(FOLDER, quantization="nf4")
        assert torch.cuda.memory_allocated() <= 1.1 * one, other.device
    finally:
        gc.enable()
