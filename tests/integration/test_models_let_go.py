"""A model that is loaded does not meet one that nobody uses any more. Run: pytest tests/integration"""

import gc
import weakref
from collections.abc import Iterator

import pytest

from holdfast import models


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_an_embedding_that_was_named_to_bitsandbytes_goes_too() -> None:
    import torch
    from bitsandbytes.optim import GlobalOptimManager

    embedding = torch.nn.Embedding(4, 4)
    seen = weakref.ref(embedding)
    GlobalOptimManager.get_instance().register_module_override(embedding, "weight", {"optim_bits": 32})
    del embedding
    assert seen() is not None, "nothing else frees it: the test can fail"
    models.let_go()
    assert seen() is None


def test_loading_frees_an_unused_model_that_refers_to_itself() -> None:
    folder = models.find_base_model("pebble")
    old = models.load_model(folder, quantization="none")
    old.circle = old.forward
    seen = weakref.ref(old)
    del old
    assert seen() is not None, "nothing else frees it: the test can fail"
    models.load_model(folder, quantization="none")
    assert seen() is None
