"""Facts about the quantiser. Golden digests were equal to llama_model_quantize (tests/reference_gguf.py)."""

import platform
from pathlib import Path

import gguf
import numpy as np
import pytest

from holdfast.core.errors import ModelError
from holdfast.export.gguf import convert_to_gguf
from holdfast.export.quantize import choose_types, count_types, quantize_gguf
from tiny_checkpoint import digest_tensors, make_checkpoint

GOLDEN_Q4_K_M = {
    256: "46b5b64530feb2d6f6c3ddfd39809ec07582c26c2e6684965b2436b037c29b29",
    320: "4dc3e21e80b338c36fab657e3f98e1dc76880fd428324ab79b6e782cf83dd125",
}


def make_f16(folder: Path, hidden: int = 256) -> Path:
    checkpoint = make_checkpoint(folder / f"m{hidden}", "qwen2", hidden=hidden, layers=3, tied=True)
    convert_to_gguf(checkpoint, folder / "f16.gguf", name="m")
    return folder / "f16.gguf"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels round differently on other processors")
@pytest.mark.parametrize("hidden", GOLDEN_Q4_K_M)
def test_tensors_are_the_golden_ones(tmp_path: Path, hidden: int) -> None:
    quantize_gguf(make_f16(tmp_path, hidden), tmp_path / "q.gguf", "Q4_K_M")
    assert digest_tensors(tmp_path / "q.gguf") == GOLDEN_Q4_K_M[hidden]


@pytest.mark.parametrize("quantization", ["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"])
def test_values_stay_near_the_original(tmp_path: Path, quantization: str) -> None:
    source = make_f16(tmp_path)
    quantize_gguf(source, tmp_path / "q.gguf", quantization)
    before = {t.name: t for t in gguf.GGUFReader(source).tensors}
    for tensor in gguf.GGUFReader(tmp_path / "q.gguf").tensors:
        wanted = gguf.dequantize(before[tensor.name].data, before[tensor.name].tensor_type)
        found = gguf.dequantize(tensor.data, tensor.tensor_type)
        error = np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean())
        assert error < {"Q4_K_M": 0.09, "Q5_K_M": 0.05, "Q6_K": 0.03, "Q8_0": 0.01}[quantization]


def test_number_of_threads_does_not_change_the_file(tmp_path: Path) -> None:
    source = make_f16(tmp_path)
    for threads in (1, 3):
        quantize_gguf(source, tmp_path / f"{threads}.gguf", "Q4_K_M", threads=threads)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "3.gguf").read_bytes()


def test_columns_that_are_no_multiple_of_256_take_the_fallback_types(tmp_path: Path) -> None:
    quantize_gguf(make_f16(tmp_path, 320), tmp_path / "q.gguf", "Q4_K_M")
    assert set(count_types(tmp_path / "q.gguf")) == {"F32", "Q5_0", "Q8_0"}


def test_columns_that_are_no_multiple_of_32_stay_in_16_bits() -> None:
    assert choose_types({"blk.0.attn_q.weight": (40, 8)}, "Q8_0", 1) == {"blk.0.attn_q.weight": "F16"}


def test_tied_embedding_is_quantised_as_output() -> None:
    shapes = {"token_embd.weight": (256, 64)}
    assert choose_types(shapes, "Q4_K_M", 1)["token_embd.weight"] == "Q6_K"
    assert choose_types(shapes | {"output.weight": (256, 64)}, "Q4_K_M", 1)["token_embd.weight"] == "Q4_K"


def test_some_layers_get_more_bits_in_numeric_order() -> None:
    shapes = {f"blk.{n}.ffn_down.weight": (256, 256) for n in range(16)}
    chosen = choose_types(shapes, "Q5_K_M", 16)
    more = [n for n in range(16) if chosen[f"blk.{n}.ffn_down.weight"] == "Q6_K"]
    assert more == [0, 1, 4, 7, 10, 13, 14, 15]


def test_70b_models_get_5_bits_for_attention_values() -> None:
    shapes = {f"blk.{n}.attn_v.weight": (256, 256) for n in range(80)}
    assert "Q4_K" not in choose_types(shapes, "Q4_K_M", 80, is_70b=True).values()
    assert "Q5_K" not in choose_types(shapes, "Q4_K_M", 80).values()


def test_metadata_is_kept(tmp_path: Path) -> None:
    source = make_f16(tmp_path)
    quantize_gguf(source, tmp_path / "q.gguf", "Q8_0")
    before, after = (gguf.GGUFReader(p).fields for p in (source, tmp_path / "q.gguf"))
    changed = [n for n, f in before.items() if f.contents() != after[n].contents()]
    assert changed == ["general.file_type"]


def test_quantised_file_cannot_be_quantised_again(tmp_path: Path) -> None:
    quantize_gguf(make_f16(tmp_path), tmp_path / "q.gguf", "Q4_K_M")
    with pytest.raises(ModelError, match="only an F16 file"):
        quantize_gguf(tmp_path / "q.gguf", tmp_path / "again.gguf", "Q8_0")


def test_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"hello" * 100)
    with pytest.raises(ModelError, match="no readable GGUF"):
        quantize_gguf(tmp_path / "bad.gguf", tmp_path / "q.gguf", "Q4_K_M")
