"""Facts about what export makes when it is asked: importance matrix, adapter as GGUF, BF16; and about distributions."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from export_context import make_context
from holdfast import models
from holdfast.core.errors import ModelError
from holdfast.core.records import Example, Message
from holdfast.distributions import forced_answers, think_in_server, think_in_transformers
from holdfast.evaluate.ladder import mean_divergence
from holdfast.export import stage
from holdfast.export.gguf import convert_to_gguf
from holdfast.export.imatrix import compute_importance, read_importance, write_importance
from holdfast.export.lora_gguf import convert_adapter
from holdfast.export.merge import merge_adapter
from holdfast.export.quantize import quantize_gguf
from holdfast.runtime import start_server
from tiny_checkpoint import make_adapter, make_checkpoint

PROMPTS = [list(range(3, 60)), list(range(80, 100))]


def tensors(path: Path) -> dict[str, Any]:
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def test_importance_is_the_mean_square_of_each_input_column(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    base = make_checkpoint(tmp_path / "base", "llama")
    found = compute_importance(base, PROMPTS)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    seen: list[Any] = []
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0][0]))
    with torch.inference_mode():
        for prompt in PROMPTS:
            model(input_ids=torch.tensor([prompt]))
    wanted = torch.cat(seen).square().mean(0).numpy()
    assert np.allclose(found.values["blk.1.ffn_down.weight"], wanted, rtol=1e-4)
    assert len(found.values) == 14
    assert (found.tokens, found.prompts) == (77, 2)


def test_importance_survives_its_file(tmp_path: Path) -> None:
    matrix = compute_importance(make_checkpoint(tmp_path / "base"), PROMPTS)
    write_importance(matrix, tmp_path / "imatrix.gguf", data="train.jsonl")
    again = read_importance(tmp_path / "imatrix.gguf")
    assert again.values.keys() == matrix.values.keys()
    assert all(np.allclose(again.values[name], matrix.values[name], rtol=1e-6) for name in matrix.values)
    assert gguf.GGUFReader(tmp_path / "imatrix.gguf").fields["general.type"].contents() == "imatrix"


def test_importance_moves_the_error_to_columns_that_matter_less(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base")
    convert_to_gguf(base, tmp_path / "f16.gguf", name="m")
    name = "blk.0.ffn_down.weight"
    weights = np.ones(512, np.float32)
    weights[::4] = 1000
    quantize_gguf(tmp_path / "f16.gguf", tmp_path / "plain.gguf", "Q4_K_M")
    quantize_gguf(tmp_path / "f16.gguf", tmp_path / "weighted.gguf", "Q4_K_M", importance={name: weights})
    before = gguf.dequantize(tensors(tmp_path / "f16.gguf")[name].data, gguf.GGMLQuantizationType.F16)
    errors = {}
    for kind in ("plain", "weighted"):
        tensor = tensors(tmp_path / f"{kind}.gguf")[name]
        errors[kind] = float(np.square(gguf.dequantize(tensor.data, tensor.tensor_type) - before)[:, ::4].sum())
    assert errors["weighted"] < 0.9 * errors["plain"]


def test_importance_of_another_model_is_refused(tmp_path: Path) -> None:
    convert_to_gguf(make_checkpoint(tmp_path / "base"), tmp_path / "f16.gguf", name="m")
    wrong = {"blk.0.ffn_down.weight": np.ones(7, np.float32)}
    with pytest.raises(ModelError, match="7 values for blk.0.ffn_down.weight, the tensor 512 columns"):
        quantize_gguf(tmp_path / "f16.gguf", tmp_path / "q.gguf", "Q4_K_M", importance=wrong)


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_adapter_in_gguf_makes_the_merged_weights(tmp_path: Path, model_type: str) -> None:
    base = make_checkpoint(tmp_path / "base", model_type, dtype="F32")
    adapter = make_adapter(base, tmp_path / "adapter", modules=("q_proj", "k_proj", "down_proj"))
    merge_adapter(base, adapter, tmp_path / "merged")
    convert_adapter(base, adapter, tmp_path / "lora.gguf", name="a")
    for folder in ("base", "merged"):
        convert_to_gguf(tmp_path / folder, tmp_path / f"{folder}.gguf", name="m")
    before, after, parts = (tensors(tmp_path / f"{name}.gguf") for name in ("base", "merged", "lora"))
    for name in ("blk.0.attn_q.weight", "blk.1.attn_k.weight", "blk.1.ffn_down.weight"):
        change = 2.0 * parts[f"{name}.lora_b"].data @ parts[f"{name}.lora_a"].data  # alpha / r = 8 / 4
        found = after[name].data.astype(np.float32) - before[name].data.astype(np.float32)
        assert np.corrcoef(found.ravel(), change.ravel())[0, 1] > 0.9


def test_everything_that_was_asked_for_is_made(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", tied=True)
    context = make_context(tmp_path / "run", base, make_adapter(base, tmp_path / "adapter"))
    export = context.config.export.model_copy(
        update={"imatrix": True, "lora_gguf": True, "quantizations": ("BF16", "Q4_K_M")}
    )
    verify = context.config.verify.model_copy(update={"deploy": "auto"})
    config = context.config.model_copy(update={"export": export, "verify": verify})
    stage.run(type(context)(config, context.out, context.inputs, context.console, context.run_dir))
    out = context.out.path
    assert {p.name for p in out.glob("*.gguf")} == {
        "imatrix.gguf", "triage-adapter.gguf", "triage-F16.gguf", "triage-BF16.gguf", "triage-Q4_K_M.gguf",
    }  # fmt: skip
    plain = tmp_path / "plain.gguf"
    quantize_gguf(out / "triage-F16.gguf", plain, "Q4_K_M")
    assert plain.read_bytes() != (out / "triage-Q4_K_M.gguf").read_bytes()
    report = json.loads((out / "export.json").read_text())
    assert report["merge"]["base"]["chosen"] in report["merge"]["base"]["measured"]
    assert "FROM ./triage-Q4_K_M.gguf" in (out / "Modelfile").read_text()
    assert "--lora triage-adapter.gguf" in (out / "README.md").read_text()


def test_both_runtimes_think_the_same_of_the_same_answer(tmp_path: Path) -> None:
    base = models.find_base_model("pebble")
    convert_to_gguf(base, tmp_path / "m.gguf", name="m")
    talks = [("The disk is full.", '{"priority": "high"}'), ("Printer 日本語 🚀", "ok then"), ("x", "a b c d e f")]
    examples = [
        Example(messages=(Message(role="user", content=q), Message(role="assistant", content=a)), source=f"t:{n}")
        for n, (q, a) in enumerate(talks)
    ]
    forced = forced_answers(models.load_tokenizer(base), examples)
    wanted = think_in_transformers(base, None, "none", forced)
    with start_server(tmp_path / "m.gguf", parallel=1, threads=1) as server:
        found = think_in_server(server, forced)
    assert [len(t.distributions) for t in found] == [len(item.answer) + 1 for item in forced]
    assert mean_divergence(wanted, found)["mean"] < 1e-4
    for left, right in zip(wanted, found, strict=True):
        assert right.own[:-1] == pytest.approx(left.own[:-1], abs=0.05)
