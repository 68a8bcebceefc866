"""Each fast part against the plain path on the CPU: loss and every adapter gradient, in float32."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig
from trl.trainer.utils import add_fused_lm_head

from holdfast.core.config import TrainConfig
from holdfast.plan.shape import shape_of
from holdfast.train import chunked_loss, fast_path
from holdfast.train.host_embedding import move_to_host
from holdfast.train.recompute import LEVELS, Policy, read_policy, same_for_all
from tiny_adapted import float_twin, loss_and_gradients, packed, tiny_model, worst_difference

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


FULL, SLIDING = "full_attention", "sliding_attention"
WINDOWS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}), ("llama", {"sliding_window": 64}), ("llama", {"sliding_window": None}),
    ("mistral", {}), ("mistral", {"sliding_window": None}), ("mistral", {"sliding_window": 64}),
    ("qwen2", {"sliding_window": 64}), ("qwen2", {"use_sliding_window": True}),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": None}),
    ("qwen2", {"use_sliding_window": True, "layer_types": [FULL] * 4}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "layer_types": [FULL, FULL, FULL, SLIDING]}),
    ("qwen3", {"use_sliding_window": True, "max_window_layers": 0}), ("qwen3", {}), ("gemma2", {}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "keys"), WINDOWS)
def test_the_plan_sees_a_sliding_window_where_training_does(family: str, keys: dict[str, Any]) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = {**sizes, "num_key_value_heads": 2, "vocab_size": 320, **keys}
    planned = shape_of({"model_type": family, **config}, Path("config.json")).plain_attention
    assert planned == (fast_path.special_attention(AutoConfig.for_model(family, **config)) is None)


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


def test_an_embedding_on_the_host_gives_the_same_gradients_and_stays_there() -> None:
    want = plain_result("qwen2", "nf4")
    loss, gradients, path = fast_result("qwen2", "nf4", same_for_all("layer", 3, host_embedding=True))
    assert not path.notes
    assert loss == pytest.approx(want[0], rel=1e-5)
    assert worst_difference(want[1], gradients) < EXACT
    model = tiny_model("qwen2", "plain")
    embedding = model.get_base_model().get_input_embeddings()
    seen: list[Any] = []
    embedding.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    assert move_to_host(model.get_base_model()) is None
    model.to(torch.float64)  # as trainers move a model: the table is none of its parameters any more
    assert embedding.weight.dtype == torch.float32
    assert not any("embed_tokens" in name for name in model.state_dict())
    assert embedding(torch.tensor([[1, 2, 3]])).shape == (1, 3, embedding.weight.shape[1])
    assert seen, "what hangs on the module (NEFTune's noise) stays"


@pytest.mark.parametrize("spoil", ["tied", "trained"])
def test_an_embedding_that_is_needed_on_the_card_stays_there(spoil: str) -> None:
    model = tiny_model("qwen2", "plain").get_base_model()
    embedding = model.get_input_embeddings()
    if spoil == "tied":
        model.get_output_embeddings().weight = embedding.weight
    else:
        embedding.weight.requires_grad = True
    assert "embedding is" in str(move_to_host(model))
    assert isinstance(embedding.weight, torch.nn.Parameter)


@pytest.mark.parametrize("base", ["plain", "nf4", "int8"])
def test_unfused_layers_with_fused_linears_and_varlen_attention_give_the_plain_gradients(base: str) -> None:
    want = loss_and_gradients(*reference(base))
    loss, gradients, path = fast_result("qwen2", base, same_for_all("layer", 3), fused_layer=False)
    assert path.linears == 3 * 7
    assert loss == pytest.approx(want[0], rel=1e-5)
    assert worst_difference(want[1], gradients) < EXACT


def reference(base: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """The plain path; bitsandbytes rounds activations to int8 before its products, so that base gets its float twin."""
    model = tiny_model("qwen2", base)
    model = float_twin(model) if base == "int8" else model
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    return model, packed()


def test_fused_layers_on_an_8_bit_base_give_the_gradients_of_its_float_twin() -> None:
    want = loss_and_gradients(*reference("int8"))
    loss, gradients, path = fast_result("qwen2", "int8", same_for_all("attention", 3))
    assert len(path.layers) == 3
    assert loss == pytest.approx(want[0], rel=1e-5)
    assert worst_difference(want[1], gradients) < EXACT


def test_adapters_on_some_matrices_only_and_other_ranks_and_scales() -> None:
    lora: dict[str, Any] = {"target_modules": ["q_proj", "v_proj", "up_proj"], "r": 6, "use_rslora": True}
    want = plain_result("llama", "nf4", **lora)
    loss, gradients, path = fast_result("llama", "nf4", same_for_all("cheap", 3), **lora)
    assert len(path.layers) == 3
    assert loss == pytest.approx(want[0], rel=1e-5)
    assert worst_difference(want[1], gradients) < EXACT


def test_padded_rows_give_the_plain_gradients() -> None:
    results = []
    ids = torch.randint(0, 512, (3, 20), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    batch = {"input_ids": ids, "labels": ids.masked_fill(mask == 0, -100), "attention_mask": mask}
    for fast in (False, True):
        model = tiny_model("qwen2", "plain")
        if fast:
            fast_path.install(model, same_for_all("layer", 3))
        add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
        if fast:
            chunked_loss.install(model.get_base_model())
        results.append(loss_and_gradients(model, batch))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-5)
    assert worst_difference(results[0][1], results[1][1]) < EXACT


def test_a_batch_without_labels_has_a_loss_of_zero_and_no_gradient() -> None:
    model = tiny_model("qwen2", "plain")
    fast_path.install(model, same_for_all("layer", 3))
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    chunked_loss.install(model.get_base_model())
    outputs = model(**(packed() | {"labels": torch.full((1, 81), -100)}), fused_lm_head=True)
    outputs.loss.backward()
    assert float(outputs.loss) == 0
    assert all(not p.grad.any() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_dropout_and_dora_keep_the_layers_of_peft_and_are_checkpointed(lora: dict[str, Any]) -> None:
    model = tiny_model("qwen2", "plain", **lora)
    path = fast_path.put_under(model, TrainConfig(lora_dropout=lora.get("lora_dropout", 0.0)), None)
    assert not path.layers
    assert not path.linears
    assert model.get_base_model().is_gradient_checkpointing == ("use_dora" in lora), "else the trainer does it itself"


@pytest.mark.parametrize(
    ("family", "special"),
    [
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
        ("gemma2", {"head_dim": 32, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 3.0}),
    ],
)
def test_attention_that_is_not_plain_stays_as_the_model_has_it(family: str, special: dict[str, Any]) -> None:
    plain = tiny_model(family, special=special)
    add_fused_lm_head(plain.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    fast = tiny_model(family, special=special)
    add_fused_lm_head(fast.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    path = fast_path.put_under(fast, TrainConfig(gradient_checkpointing=False), None)
    assert not path.layers
    assert path.notes
    (loss, gradients), (wanted, exact) = loss_and_gradients(fast, packed()), loss_and_gradients(plain, packed())
    assert loss == pytest.approx(wanted, rel=EXACT)
    assert worst_difference(gradients, exact) < EXACT


@pytest.mark.parametrize("special", [{"attention_dropout": 0.1}, {"sliding_window": None}, {}])
def test_the_plan_counts_fused_layers_where_training_has_them(special: dict[str, Any]) -> None:
    from holdfast.plan.fused_memory import is_fused
    from holdfast.plan.shape import shape_of

    model = tiny_model("mistral", special=special)
    train, written = TrainConfig(), {**model.get_base_model().config.to_dict(), **special}
    if not special:
        del written["sliding_window"]  # as transformers reads it: a window of 4096
    path = fast_path.put_under(model, train, None)
    assert bool(path.layers) == is_fused(shape_of(written, Path("config.json")), train) == ("sliding_window" in special)


@pytest.mark.parametrize(
    ("family", "special", "train"),
    [
        ("qwen3", {"head_dim": 32}, {}), ("qwen3", {"head_dim": 32}, {"kernels": {"attention": False}}),
        ("llama", {}, {"lora_dropout": 0.1}), ("mistral", {"sliding_window": 8}, {}),
    ],
)  # fmt: skip
def test_the_plan_counts_a_mask_where_training_has_one(
    family: str, special: dict[str, Any], train: dict[str, Any]
) -> None:
    from holdfast.plan.fused_memory import is_varlen
    from holdfast.plan.shape import shape_of
    from holdfast.train.attention import NAME

    model, settings = tiny_model(family, special=special), TrainConfig.model_validate(train)
    fast_path.put_under(model, settings, None)
    config = model.get_base_model().config
    written = {**config.to_dict(), **special}
    assert (config._attn_implementation == NAME) == is_varlen(shape_of(written, Path("config.json")), settings)


def test_a_switch_for_each_part() -> None:
    on = fast_path.put_under(tiny_model(), TrainConfig(), None)
    assert len(on.layers) == 3
    for key, linears in (("fused_layer", 21), ("attention", 21), ("fused_lora", 0)):
        train = TrainConfig.model_validate({"kernels": {"fused_layer": False, key: False}})
        path = fast_path.put_under(tiny_model(), train, None)
        assert (path.layers, path.linears) == ([], linears)


def test_a_policy_is_written_and_read_as_runs_of_levels() -> None:
    policy = Policy(("layer", "layer", "cheap"), offload=True, mlp_tokens=4096)
    document = policy.as_json()
    assert document["levels"] == [["layer", 2], ["cheap", 1]]
    assert read_policy(document) == policy
    with pytest.raises(ValueError, match="recompute level 'all'"):
        read_policy({"levels": [["all", 3]]})


def test_the_plan_knows_the_same_levels_and_families() -> None:
    from holdfast.plan import fused_memory, recompute_choice
    from holdfast.train import chunked_loss as loss

    assert fused_memory.LEVELS == LEVELS
    assert fused_memory.FUSED_FAMILIES == fast_path.FAMILIES
    assert Policy(("layer",)).graph_tokens == recompute_choice.GRAPH_TOKENS
    assert fused_memory.constant("loss_rows") == loss.ROWS
    assert fused_memory.constant("cpu_unpacked_weights") == fast_path.SMALL
