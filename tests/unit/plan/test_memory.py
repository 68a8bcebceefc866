"""The arithmetic, and how far it is from what was measured. Run: pytest tests/unit/plan/test_memory.py"""

import pytest

from holdfast.core.config import RunConfig
from holdfast.core.errors import ConfigError
from holdfast.plan import memory
from holdfast.plan.constants import GIB, TABLE
from holdfast.plan.gguf_size import BLOCKS, gguf_bytes
from holdfast.plan.lengths import Lengths
from plan_shapes import run_config, shape_named

OUTSIDE_TORCH = ("cuda context", "fragmentation")


def qwen_7b(sequence_len: int, *, rows: int = 1, packed: bool = True, recompute: bool = True) -> float:
    """Predicted torch peak in GiB for the shape and settings of docs/benchmarks.md, without fused layers."""
    train = {
        "optimizer": "paged_adamw_8bit", "sample_packing": packed, "gradient_checkpointing": recompute,
        "kernels": {"use": "never"},
    }  # fmt: skip
    config = run_config(sequence_len=sequence_len, train=train)
    parts = memory.train_memory(shape_named("Qwen2.5-7B"), config, lengths_of(config), rows, on_gpu=True)
    return sum(size for name, size in parts.items() if name not in OUTSIDE_TORCH) / GIB


def lengths_of(config: RunConfig) -> Lengths:
    return Lengths.of(config, None)


def test_nf4_takes_0_516_bytes_a_weight() -> None:
    assert memory.nf4_bytes(64 * 256 * 1000) / (64 * 256 * 1000) == pytest.approx(0.5 + 1 / 64 + 4 / (64 * 256))


def test_nf4_of_a_7b_keeps_embedding_and_head_in_16_bit() -> None:
    # 6.53 B weights x 0.516 + 1.09 B x 2 + norms and biases. Not measured alone: TRL's peak with one padded row
    # (5.96 GiB with adapter, optimiser and activations, one H200, 2026-11-20) bounds it from above.
    weights = memory.weight_bytes(shape_named("Qwen2.5-7B"), "qlora", 2) / GIB
    assert weights == pytest.approx(5.167, abs=0.002)
    assert weights < 5.96


# TRL with sdpa's dense mask and checkpointing on one H200, 2026-11-20, as holdfast's first version ran.
# Deviation: +2.9 % packed with Liger's loss, -2.4 % with TRL's own, before the 4 % for fragmentation. The mask
# constant comes from the former row, so this is a consistency check and not a validation. The goal of 3 % over 12
# configurations, never more than 1 % under, is issue 4's and is not shown here.
@pytest.mark.parametrize(("measured", "liger"), [(9.39, True), (9.90, False)])
def test_packed_8k_is_within_4_percent_of_the_measured_peak(measured: float, liger: bool) -> None:
    assert qwen_7b(8192) == pytest.approx(measured, rel=0.04)


def test_without_a_dense_mask_it_is_within_4_percent_of_the_varlen_rows() -> None:
    # 8.80 GiB at 8k and 12.2 at 16k; the slope is calibrated on these rows, the intercept is
    # arithmetic. Deviation: +3.1 % and +2.3 %.
    for tokens, measured in ((8192, 8.80), (16384, 12.2)):
        mask = tokens**2 * 9.4 / GIB
        assert qwen_7b(tokens) - mask == pytest.approx(measured, rel=0.04)


def test_layers_that_are_not_fused_still_need_no_mask_on_a_card() -> None:
    def mask(shape: str, *, on_gpu: bool = True, **kernels: object) -> int:
        config = run_config(sequence_len=16384, train={"kernels": kernels})
        parts = memory.train_memory(shape_named(shape), config, lengths_of(config), 1, on_gpu=on_gpu)
        return parts.get("attention mask", 0)

    assert mask("Qwen3-0.6B") == 0
    assert mask("Qwen3-0.6B", attention=False) == mask("Qwen3-0.6B", use="never") == int(16384**2 * 9.4)
    assert mask("Qwen3-0.6B", on_gpu=False) == int(16384**2 * 9.4), "on the processor it stays an estimate"


def test_a_padded_row_is_over_the_measured_peak_because_it_counts_the_longest_row() -> None:
    # Measured 5.96 (batch 1) and 8.76 (batch 8) with rows of 48 to 1,024 tokens. Deviation: +2.4 % and +4.4 %.
    assert 5.96 <= qwen_7b(1024, packed=False) <= 5.96 * 1.1
    assert 8.76 <= qwen_7b(1024, rows=8, packed=False) <= 8.76 * 1.15


def test_without_recompute_it_is_over_the_bare_loop_that_compiles_its_layers() -> None:
    # Measured 79.9 GiB at 16k for a bare loop with compiled norms and MLP; stock TRL without recompute was not
    # measured. The plan multiplies by the factor found for one stock layer. Deviation: +42 % (issue 4 measures it).
    assert qwen_7b(16384, recompute=False) > 79.9


def test_adapter_of_all_linear_layers_r16_has_40_million_parameters() -> None:
    assert memory.adapter_parameters(shape_named("Qwen2.5-7B"), run_config().train) == 40_370_176


def test_a_target_module_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    train = run_config(train={"lora_target_modules": ["query_key_value"]}).train
    with pytest.raises(ConfigError, match="names query_key_value; a qwen2 model has q_proj, k_proj"):
        memory.adapter_parameters(shape_named("Qwen2.5-7B"), train)


def test_dora_adds_one_magnitude_for_each_output_and_the_memory_of_its_norms() -> None:
    shape = shape_named("Qwen2.5-7B")
    plain, dora = (run_config(train={"use_dora": on, "kernels": {"use": "never"}}) for on in (False, True))
    outputs = 28 * (2 * 3584 + 2 * 512 + 2 * 18944 + 3584)
    counts = [memory.adapter_parameters(shape, config.train) for config in (plain, dora)]
    assert counts[1] - counts[0] == outputs
    lengths = Lengths.of(plain, None)
    parts = [memory.train_memory(shape, config, lengths, 1, on_gpu=True) for config in (plain, dora)]
    assert "dora" not in parts[0]
    assert parts[1]["dora"] > 4 * 18944**2, "PEFT multiplies the adapter by an identity in float32"


def test_named_modules_are_meant_unless_all_linear_layers_are_asked_for() -> None:
    shape = shape_named("Qwen2.5-7B")
    train = run_config(train={"lora_target_modules": ["q_proj"], "lora_r": 8}).train
    assert not train.lora_target_linear
    assert memory.adapter_parameters(shape, train) == 28 * 8 * 2 * 3584
    with pytest.raises(ValueError, match="leave one of them out"):
        run_config(train={"lora_target_modules": ["q_proj"], "lora_target_linear": True})


def test_an_8_bit_base_is_planned_with_its_row_scales_and_unpacked_matrix() -> None:
    shape = shape_named("Llama-3.2-1B")
    parts = memory.train_memory(
        shape, run_config(train={"adapter": "int8", "lora_dropout": 0.1}), Lengths(64, None, None, 64), 1, on_gpu=True
    )
    assert shape.linear_weights < parts["weights"] - 2 * shape.embedding_weights < 1.01 * shape.linear_weights
    assert parts["workspace"] == 2 * 2048 * 8192


def test_on_cpu_everything_but_nf4_matrices_is_float32() -> None:
    shape = shape_named("Qwen2.5-0.5B")
    assert memory.weight_bytes(shape, "lora", 4) == 4 * shape.parameters
    assert memory.weight_bytes(shape, "qlora", 4) - memory.weight_bytes(shape, "qlora", 2) == 2 * (
        shape.embedding_weights + shape.small_weights
    )


def test_packed_tokens_are_never_more_than_the_data_has() -> None:
    config = run_config(sequence_len=512)
    lengths = Lengths.of(config, {"train": [100, 90], "valid": [80], "test_prompt_max": 60})
    assert memory.batch_tokens(config, lengths, 8) == (190, 190**2)


def test_padded_batches_count_the_longest_row_of_train_and_valid() -> None:
    config = run_config(sequence_len=512, train={"sample_packing": False})
    lengths = Lengths.of(config, {"train": [100, 90], "valid": [120], "test_prompt_max": 60})
    assert memory.batch_tokens(config, lengths, 8) == (960, 8 * 120**2)


@pytest.mark.parametrize(
    ("quantization", "megabytes"), [("F16", 8.3), ("Q8_0", 4.46), ("Q6_K", 3.48), ("Q5_K_M", 3.13), ("Q4_K_M", 2.81)]
)
def test_gguf_sizes_are_those_measured_in_stack_md(quantization: str, megabytes: float) -> None:
    # Deviation: under 1.5 %; the tiny vocabulary's header (40 bytes a token, an estimate) is 6 % of the smallest file.
    assert gguf_bytes(shape_named("stack.md tiny"), quantization) / 1e6 == pytest.approx(megabytes, rel=0.015)


def test_rows_that_256_does_not_divide_take_the_fallback_types() -> None:
    # hidden 896: most of "Q4_K_M" becomes Q5_0 (stack.md, section 5), 22/32 bytes a weight.
    shape = shape_named("Qwen2.5-0.5B")
    bits = 8 * gguf_bytes(shape, "Q4_K_M") / shape.parameters
    assert 5.5 < bits < 6.9


def test_block_sizes_are_those_of_gguf() -> None:
    gguf = pytest.importorskip("gguf")
    for name, block in BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == block


def test_every_constant_says_where_it_comes_from() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert row.value > 0
        assert row.unit
        assert row.kind in ("format", "measured", "estimate")
        assert len(row.source) > 10


# Peak resident memory of two TRL 1.16 steps on CPU (float32, 2026-11-21, torch 2.13+cpu, one thread), the shape of
# `pebble-like`, rows of 300 tokens. Deviation: -2 % to +6 % padded, +26 % and +34 % packed, +24 % at one row, where the
# process counts most. Rough, and meant to be over.
@pytest.mark.parametrize(
    ("rows", "packed", "recompute", "measured"),
    [
        (1, False, True, 0.728),
        (4, False, True, 1.154),
        (8, False, True, 1.471),
        (8, False, False, 1.873),
        (4, True, True, 1.096),
        (8, True, True, 1.497),
    ],
)
def test_on_cpu_it_is_between_5_percent_under_and_40_over(
    rows: int, packed: bool, recompute: bool, measured: float
) -> None:
    train = {"adapter": "lora", "sample_packing": packed, "gradient_checkpointing": recompute}
    config = run_config(sequence_len=512, train=train)
    lengths = Lengths.of(config, {"train": [300] * 60, "valid": [300]})
    parts = memory.train_memory(shape_named("pebble-like"), config, lengths, rows, on_gpu=False)
    assert 0.95 <= sum(parts.values()) / GIB / measured <= 1.40


@pytest.mark.parametrize(("use", "copies"), [("auto", 8), ("never", 6)])
def test_ram_is_counted_for_every_copy_of_the_adapter(use: str, copies: int) -> None:
    """Measured with r 4096 on pebble: 8.4 times the adapter, 5.5 with `never`."""
    shape = shape_named("Qwen2.5-7B")
    names = ("adapter", "optimizer", "gradients", "adapter as it began", "checkpoint", "adapter copies")

    def adapter(rank: int) -> int:
        config = run_config(train={"lora_r": rank, "kernels": {"use": use}})
        parts = memory.train_memory(shape, config, lengths_of(config), 1, on_gpu=False)
        assert memory.adapter_parameters(shape, config.train) * 4 == parts["adapter"]
        return sum(parts.get(name, 0) for name in names)

    assert adapter(64) == copies * 4 * 64 * 2_523_136
    assert adapter(128) == 2 * adapter(64)
