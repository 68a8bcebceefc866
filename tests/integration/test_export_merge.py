"""Facts about merging a LoRA adapter, with real PEFT adapters on tiny checkpoints."""

import json
import struct
from pathlib import Path

import pytest

from holdfast.core.digest import digest_tree
from holdfast.core.errors import ModelError, StageError
from holdfast.export.merge import check_merge, measure_change, merge_adapter, storage_type
from tiny_checkpoint import make_adapter, make_checkpoint

PROMPTS = [[5, 6, 7, 8, 9, 10], list(range(40, 70)), [287, 1, 2, 3]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "tiny", tied=True)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "adapter")


@pytest.fixture(scope="module")
def merged(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "merged"
    merge_adapter(base, adapter, folder)
    return folder


def test_merged_model_answers_like_base_with_adapter(base: Path, adapter: Path, merged: Path) -> None:
    check = check_merge(base, adapter, merged, PROMPTS)
    assert check.largest_difference / check.scale < 0.02
    assert check.divergence < 0.02 * check.adapter_divergence
    assert check.positions == 40


def test_exactly_the_adapted_weights_change(base: Path, adapter: Path, merged: Path) -> None:
    change = measure_change(base, adapter, merged)
    assert (change.tensors, change.modules, change.lost) == (6, 6, 0)
    assert change.largest > 0


def test_same_input_gives_same_bytes(base: Path, adapter: Path, merged: Path, tmp_path: Path) -> None:
    merge_adapter(base, adapter, tmp_path / "again")
    assert digest_tree(tmp_path / "again") == digest_tree(merged)


def test_tokenizer_files_and_template_are_copied_byte_for_byte(base: Path, merged: Path) -> None:
    for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        assert (merged / name).read_bytes() == (base / name).read_bytes()


def test_merged_config_is_16_bit_and_not_quantised(merged: Path) -> None:
    config = json.loads((merged / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "quantization_config" not in config
    assert not list(merged.glob("*.bin"))


@pytest.mark.parametrize(("dtype", "wanted"), [("BF16", "bfloat16"), ("F16", "float16"), ("F32", "bfloat16")])
def test_merged_type_is_16_bit(tmp_path: Path, dtype: str, wanted: str) -> None:
    base = make_checkpoint(tmp_path / "base", dtype=dtype, shards=2)
    adapter = make_adapter(base, tmp_path / "adapter")
    merge_adapter(base, adapter, tmp_path / "merged")
    assert storage_type(base) == storage_type(tmp_path / "merged") == wanted
    assert check_merge(base, adapter, tmp_path / "merged", PROMPTS).divergence < 1e-3


def test_untrained_adapter_is_an_error(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", scale=0.0)
    with pytest.raises(StageError, match="changed none of the"):
        merge_adapter(base, adapter, tmp_path / "merged")


def test_adapter_that_is_lost_in_rounding_is_measured(base: Path, adapter: Path, merged: Path, tmp_path: Path) -> None:
    weak = make_adapter(base, tmp_path / "adapter", scale=1e-5)
    assert merge_adapter(base, weak, tmp_path / "merged").relative < 1e-4
    assert check_merge(base, weak, tmp_path / "merged", PROMPTS).lost_share > 0.5
    assert check_merge(base, adapter, merged, PROMPTS).lost_share < 0.02


def test_merge_with_another_adapter_is_noticed(base: Path, adapter: Path, tmp_path: Path) -> None:
    other = make_adapter(base, tmp_path / "other", scale=0.05)
    merge_adapter(base, other, tmp_path / "merged")
    with pytest.raises(StageError, match="not base \\+ adapter"):
        check_merge(base, adapter, tmp_path / "merged", PROMPTS)


def test_change_of_a_weight_without_adapter_is_noticed(base: Path, adapter: Path, tmp_path: Path) -> None:
    merge_adapter(base, adapter, tmp_path / "merged")
    file = tmp_path / "merged" / "model.safetensors"
    data = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    begin = json.loads(data[8 : 8 + length])["model.norm.weight"]["data_offsets"][0]
    data[8 + length + begin + 1] ^= 1
    file.write_bytes(data)
    with pytest.raises(StageError, match=r"model\.norm\.weight"):
        measure_change(base, adapter, tmp_path / "merged")


def test_pickled_base_and_adapter_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    pickled = make_checkpoint(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pytorch_model.bin"):
        merge_adapter(pickled, adapter, tmp_path / "a")
    bad = tmp_path / "adapter"
    bad.mkdir()
    (bad / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    (bad / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="adapter_model.bin"):
        merge_adapter(base, bad, tmp_path / "b")


def test_quantised_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="quantised"):
        merge_adapter(base, adapter, tmp_path / "merged")
