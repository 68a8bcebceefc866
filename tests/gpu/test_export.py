"""What export computes on a card is what it computes on the CPU: one layer at a time, with PEFT's adapter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast import models
from holdfast.export.base_choice import choose_base
from holdfast.export.imatrix import compute_importance
from holdfast.export.merge import check_merge, merge_adapter
from holdfast.export.streamed import Streamed
from holdfast.export.weights import Source
from holdfast.plan.lengths import Lengths
from holdfast.plan.merge_memory import check_memory
from holdfast.plan.shape import read_shape
from plan_shapes import CONFIGS, run_config

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]
BASE = models.find_base_model("pebble")
PROMPTS = [[5, 6, 7, 8, 9], [10, 11, 12]]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model: Any = models.load_model(BASE, quantization="none")
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def test_the_check_of_a_merge_says_the_same(adapter: Path, tmp_path: Path) -> None:
    merge_adapter(BASE, adapter, tmp_path / "merged")
    card, host = (check_merge(BASE, adapter, tmp_path / "merged", PROMPTS, device=name) for name in ("cuda", "cpu"))
    assert card.positions == host.positions
    assert card.scale == pytest.approx(host.scale, rel=1e-3)
    assert card.adapter_divergence == pytest.approx(host.adapter_divergence, rel=1e-2)


def test_the_same_base_is_chosen_by_the_same_losses(adapter: Path) -> None:
    talks = [models.TrainingTokens(input_ids=ids, labels=[models.NOT_TRAINED, *ids[1:]]) for ids in PROMPTS]
    card, host = (
        choose_base(BASE, adapter, talks, ("original", "nf4"), "nf4", device=name) for name in ("cuda", "cpu")
    )
    assert card.chosen == host.chosen
    assert card.trained.loss == pytest.approx(host.trained.loss, rel=1e-3)


def test_a_long_prompt_takes_no_more_than_the_plan_says(tmp_path: Path) -> None:
    """One layer of Qwen2.5-7B; `-s` shows the bytes. Its heads share keys: one number for each head and pair of
    positions would be 7 GiB."""
    tokens = 8192
    one_layer = {**CONFIGS["Qwen2.5-7B"], "num_hidden_layers": 1, "vocab_size": 512}
    (tmp_path / "config.json").write_text(json.dumps(one_layer))
    model = Streamed(tmp_path, random_weights(tmp_path), device="cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model.states([[5] * tokens])
    peak = torch.cuda.max_memory_allocated() - before
    lengths = Lengths(tokens, tokens, 1, tokens)
    plan = check_memory(read_shape(tmp_path), run_config(), lengths)
    print(f"{tokens} tokens: {peak / 2**30:.2f} GiB, planned {sum(plan.values()) / 2**30:.2f}")
    assert 0.5 * sum(plan.values()) < peak < sum(plan.values())


def random_weights(folder: Path) -> Source:
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    return Source(tuple(shapes), lambda name: 0.02 * torch.randn(shapes[name]), lambda name: shapes[name])


def test_the_importance_of_inputs_is_the_same() -> None:
    card, host = (compute_importance(BASE, PROMPTS, device=name).values for name in ("cuda", "cpu"))
    assert card.keys() == host.keys()
    assert all(abs(card[name] - host[name]).max() <= 1e-3 * abs(host[name]).max() for name in host)
