"""Facts about the GGUF converter. Golden digests were equal to llama.cpp's own converter (tests/reference_gguf.py)."""

import json
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest

from holdfast.core.errors import ModelError
from holdfast.export.checkpoint import read_checkpoint, read_tensors
from holdfast.export.gguf import convert_to_gguf
from tiny_checkpoint import digest_tensors, make_checkpoint

GOLDEN_F16 = {
    "qwen2": "bb62259cfbf3b0639d422caf67bcc732083517930b1da7dd65c486d6b81d662d",
    "llama": "36e2e00bf5a7db17e0808d9216bbad9a5436984ef3e3855ed449b9cc2e757272",
    "qwen3": "5fbf4f5752fb67879c50804e649d95638415a9982606c7dcda0c582a84c5c278",
    "mistral": "2c1f3a793c55c31425fd6b4b564d4b15cf7639c84d1574f594aea64ee01e8a29",
}


def set_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def fields(path: Path) -> dict[str, object]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("model_type", GOLDEN_F16)
def test_tensors_are_the_golden_ones(tmp_path: Path, model_type: str) -> None:
    folder = make_checkpoint(tmp_path / "m", model_type, tied=model_type == "qwen2")
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m")
    assert digest_tensors(tmp_path / "m.gguf") == GOLDEN_F16[model_type]


def test_same_input_gives_same_file(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m")
    for name in ("a.gguf", "b.gguf"):
        convert_to_gguf(folder, tmp_path / name, name="m")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_shards_give_the_same_tensors(tmp_path: Path) -> None:
    counts = []
    for shards in (1, 3):
        folder = make_checkpoint(tmp_path / str(shards), shards=shards)
        counts.append(convert_to_gguf(folder, tmp_path / f"{shards}.gguf", name="m"))
    readers = [{t.name: t.data.tobytes() for t in gguf.GGUFReader(tmp_path / f"{n}.gguf").tensors} for n in (1, 3)]
    assert counts[0] == counts[1] == len(readers[0])
    assert readers[0] == readers[1]


def test_tied_model_has_no_output_weight(tmp_path: Path) -> None:
    for tied in (True, False):
        convert_to_gguf(make_checkpoint(tmp_path / str(tied), tied=tied), tmp_path / f"{tied}.gguf", name="m")
    names = [{t.name for t in gguf.GGUFReader(tmp_path / f"{tied}.gguf").tensors} for tied in (True, False)]
    assert names[1] - names[0] == {"output.weight"}


def test_llama_rows_are_interleaved_and_qwen_rows_are_not(tmp_path: Path) -> None:
    for kind, moved in (("llama", True), ("qwen2", False)):
        folder = make_checkpoint(tmp_path / kind, kind, dtype="F16")
        convert_to_gguf(folder, tmp_path / f"{kind}.gguf", name="m")
        source = read_tensors(folder)["model.layers.0.self_attn.q_proj.weight"]
        before = source.mmap_bytes().view(np.float16).reshape(source.shape)
        after = next(
            t.data for t in gguf.GGUFReader(tmp_path / f"{kind}.gguf").tensors if t.name == "blk.0.attn_q.weight"
        )
        assert np.array_equal(after[1], before[16 if moved else 1])


def test_a_few_slabs_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_checkpoint(tmp_path / "m", "llama", hidden=512, layers=8)
    convert_to_gguf(folder, tmp_path / "warm.gguf", name="m")
    total = sum(t.data_range.size for t in read_tensors(folder).values())
    monkeypatch.setattr("holdfast.export.gguf.SLAB_VALUES", 1 << 12)
    tracemalloc.start()
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m", threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < total / 8
    assert (tmp_path / "m.gguf").read_bytes() == (tmp_path / "warm.gguf").read_bytes()


def test_bf16_keeps_the_bytes_of_a_bf16_checkpoint(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", "qwen2")
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m", kind="BF16")
    source = read_tensors(folder)["model.layers.0.mlp.up_proj.weight"]
    found = {t.name: t for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}["blk.0.ffn_up.weight"]
    assert found.tensor_type == gguf.GGMLQuantizationType.BF16
    assert found.data.tobytes() == source.mmap_bytes().tobytes()
    assert fields(tmp_path / "m.gguf")["general.file_type"] == gguf.LlamaFileType.MOSTLY_BF16


def test_metadata_says_what_llama_cpp_needs(tmp_path: Path) -> None:
    convert_to_gguf(make_checkpoint(tmp_path / "m", "llama"), tmp_path / "m.gguf", name="triage")
    found = fields(tmp_path / "m.gguf")
    assert found["general.architecture"] == "llama"
    assert found["general.name"] == "triage"
    assert found["llama.rope.freq_base"] == 1e6
    assert found["llama.rope.dimension_count"] == 32
    assert found["tokenizer.ggml.pre"] == "llama-bpe"
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert found["tokenizer.chat_template"] == (tmp_path / "m" / "chat_template.jinja").read_text()


def test_rotary_parameters_of_transformers_4_are_read(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", "llama")
    old = {"rope_parameters": None, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}}
    set_config(folder, **old)
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m")
    found = fields(tmp_path / "m.gguf")
    assert (found["llama.rope.freq_base"], found["llama.rope.scaling.factor"]) == (5e5, 4.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["Gemma3ForCausalLM"]}, "Gemma3ForCausalLM"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0}}, "llama3"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes"),
        ({"vocab_size": "many"}, "vocab_size"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    folder = make_checkpoint(tmp_path / "m")
    set_config(folder, **change)
    with pytest.raises(ModelError, match=words):
        read_checkpoint(folder)


def test_foreign_tensor_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", "qwen2", layers=2)
    set_config(folder, num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"layers\.1.* has no place"):
        convert_to_gguf(folder, tmp_path / "m.gguf", name="m")


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", dtype="F32")
    place = read_tensors(folder)["model.layers.0.mlp.up_proj.weight"].data_range
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(place.offset)
        file.write(np.float32(1e5).tobytes())
    with pytest.raises(ModelError, match=r"largest 100000, limit 65504"):
        convert_to_gguf(folder, tmp_path / "m.gguf", name="m")


def test_cut_off_weights_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(ModelError, match="is cut off"):
        convert_to_gguf(folder, tmp_path / "m.gguf", name="m")


def test_missing_shard_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="model-00002-of-00002"):
        convert_to_gguf(folder, tmp_path / "m.gguf", name="m")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        convert_to_gguf(folder, tmp_path / "m.gguf", name="m")
