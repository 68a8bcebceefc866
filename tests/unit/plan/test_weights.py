"""Weights that do not belong to their config.json are refused by their headers alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import ModelError
from holdfast.plan.weights import require_weights_of_config
from tiny_checkpoint import CLASSES, make_checkpoint


def with_config(folder: Path, **changed: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | changed
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", CLASSES)
def test_weights_and_config_of_one_model_belong_together(family: str, tied: bool, tmp_path: Path) -> None:
    require_weights_of_config(make_checkpoint(tmp_path, family, hidden=64, tied=tied, shards=2))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"intermediate_size": 200}, "gate_proj.weight is 128 x 64, config.json says 200 x 64; .* more"),
        ({"vocab_size": 1000}, "embed_tokens.weight is 320 x 64, config.json says 1000 x 64"),
        ({"num_hidden_layers": 3}, "layers.2.self_attn.q_proj.weight is missing, config.json says 64 x 64"),
        ({"num_hidden_layers": 1}, "there are 2 layers, config.json says 1"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing, config.json says 320 x 64"),
        ({"model_type": "qwen2"}, "q_proj.bias is missing, config.json says 64"),
    ],
)
def test_weights_of_another_model_are_refused(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = with_config(make_checkpoint(tmp_path, "llama", hidden=64, tied=True), **changed)
    with pytest.raises(ModelError, match=words) as caught:
        require_weights_of_config(folder)
    assert "holdfast fetch" in caught.value.hint
