"""Parameter counts from config.json alone. Run: pytest tests/unit/plan/test_shape.py"""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import ModelError
from holdfast.plan.shape import read_shape
from plan_shapes import CONFIGS, shape_named

# As in the safetensors headers of the public models.
PARAMETERS = {
    "Qwen2.5-7B": 7_615_616_512,
    "Llama-3-8B": 8_030_261_248,
    "Qwen2.5-0.5B": 494_032_768,
    "Mistral-7B-v0.1": 7_241_732_096,
    "Llama-3.2-1B": 1_235_814_400,
    "Qwen3-0.6B": 596_049_920,
    "gemma-2b": 2_506_172_416,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_exactly(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name]))
    if name == "gemma-2b":
        (tmp_path / "config.json").write_text(json.dumps({**CONFIGS[name], "head_dim": 256}))
    assert read_shape(tmp_path).parameters == PARAMETERS[name]


def test_the_matrices_of_a_7b_that_take_part_in_products() -> None:
    shape = shape_named("Qwen2.5-7B")
    assert shape.linear_weights + shape.vocabulary * shape.hidden == pytest.approx(7.07e9, rel=0.001)


def test_a_missing_config_names_the_file_and_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="config.json cannot be read") as caught:
        read_shape(tmp_path)
    assert "holdfast plan --model" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "expected an object"),
        ('{"model_type": "mixtral"}', "'mixtral'; the plan knows llama, mistral"),
        ('{"model_type": "llama", "hidden_size": 0}', "hidden_size: 0, intermediate_size: None"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_config_that_is_no_known_model_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        read_shape(tmp_path)


def test_the_text_part_of_a_multimodal_config_is_read(tmp_path: Path) -> None:
    text = {**CONFIGS["Qwen2.5-0.5B"], "model_type": "gemma3_text", "head_dim": 256}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    assert read_shape(tmp_path).family == "gemma3_text"


def test_what_a_multimodal_gemma_3_leaves_unsaid_is_known(tmp_path: Path) -> None:
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    shape = read_shape(tmp_path)
    assert shape.parameters == 3_880_263_168  # google/gemma-3-4b-it without its vision part
    assert shape.text_part


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_position_embeddings": "8192"}, "above 0, found max_position_embeddings: '8192'"),
        ({"num_attention_heads": 24}, "hidden_size 4096 cannot be divided among 24 attention heads"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"already quantised \(awq\)"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings: expected true or false, found 'false'"),
    ],
)
def test_a_config_that_no_training_could_use_is_refused(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGS["Llama-3-8B"], **changed}))
    with pytest.raises(ModelError, match=words) as caught:
        read_shape(tmp_path)
    assert caught.value.hint
