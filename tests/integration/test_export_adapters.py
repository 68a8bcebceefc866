"""Facts about kinds of adapters and about memory: each merge is compared with PEFT's own model, unmerged."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import ModelError, StageError
from holdfast.export.base_choice import choose_base
from holdfast.export.lora import read_adapter
from holdfast.export.lora_gguf import convert_adapter
from holdfast.export.merge import check_merge, measure_change, merge_adapter
from holdfast.export.streamed import Streamed
from holdfast.export.weights import base_weights, stored_weights
from holdfast.models import TrainingTokens
from tiny_checkpoint import make_checkpoint

PROMPTS = [[5, 6, 7, 8, 9, 10], list(range(40, 70)), [287, 1, 2, 3]]
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True, "r": 9},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 24}},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "whole module": {"modules_to_save": ["lm_head"]},
}


def make(base: Path, folder: Path, **settings: Any) -> Path:
    """A PEFT adapter whose values are all random."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    defaults = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    model = get_peft_model(model, LoraConfig(**(defaults | settings)))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "tiny", "qwen3", shards=3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_merges_to_what_peft_computes(base: Path, tmp_path: Path, kind: str) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = make(base, tmp_path / "adapter", **KINDS[kind])
    merge_adapter(base, adapter, tmp_path / "merged")
    peft: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    ids = torch.tensor([PROMPTS[1]])
    with torch.inference_mode():
        wanted, found, before = (m.eval()(input_ids=ids).logits for m in (peft, merged, plain))
    rounding, change = float((wanted - found).norm()), float((wanted - before).norm())
    assert rounding < 0.06 * change
    assert check_merge(base, adapter, tmp_path / "merged", PROMPTS).lost_share < 0.02


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_layer_by_layer_is_what_transformers_computes(tmp_path: Path, model_type: str, tied: bool) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = make_checkpoint(tmp_path / "base", model_type, tied=tied)
    adapter = make(base, tmp_path / "adapter")
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft: Any = PeftModel.from_pretrained(model, adapter).eval()
    streamed = Streamed(base, stored_weights(base), adapter=adapter)
    for plain in (False, True):
        found = list(streamed.logits(PROMPTS, plain=plain))
        with torch.inference_mode():
            for prompt, logits in zip(PROMPTS, found, strict=True):
                ids = torch.tensor([prompt])
                if plain:
                    with peft.disable_adapter():
                        wanted = peft(input_ids=ids).logits[0]
                else:
                    wanted = peft(input_ids=ids).logits[0]
                assert torch.allclose(wanted, logits, atol=1e-5)


def test_attention_holds_no_number_for_each_pair_of_positions(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card has no fused kernel for grouped heads in float32, and none for a mask: both would take heads x T² numbers.
    How much it takes is measured in tests/gpu/test_export.py."""
    import torch

    plain, calls = torch.nn.functional.scaled_dot_product_attention, []

    def attend(query: Any, key: Any, value: Any, **options: Any) -> Any:
        calls.append((query.shape, key.shape, options))
        return plain(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    streamed = Streamed(base, stored_weights(base))
    streamed.states(PROMPTS)
    config = streamed._plain.config
    assert config.num_key_value_heads < config.num_attention_heads
    assert len(calls) == len(PROMPTS) * config.num_hidden_layers
    for query, key, options in calls:
        assert query == key
        assert options["is_causal"]
        assert not {"attn_mask", "enable_gqa"} & set(options)


@pytest.mark.parametrize("dora", [False, True])
def test_the_adapter_lies_where_the_layers_are_put(tmp_path: Path, dora: bool) -> None:
    base = make_checkpoint(tmp_path / "base", "qwen2", tied=True)
    adapter = make(base, tmp_path / "adapter", use_dora=dora)
    for device in ("meta", "cpu"):  # `meta` stands for a card: any device but the CPU
        wrapped = Streamed(base, stored_weights(base), adapter=adapter, device=device)._wrapped
        found = {name: value.device.type for name, value in wrapped.named_parameters() if ".default" in name}
        assert len(found) > 4
        assert set(found.values()) == {device}


def test_nf4_and_back_is_what_a_4_bit_model_computes(base: Path) -> None:
    import torch

    from holdfast import models

    model = models.load_model(base, quantization="nf4")
    with torch.inference_mode():
        wanted = model(input_ids=torch.tensor([PROMPTS[1]])).logits[0].float().cpu()
    found = next(iter(Streamed(base, base_weights(base, "nf4")).logits([PROMPTS[1]])))
    plain = next(iter(Streamed(base, stored_weights(base)).logits([PROMPTS[1]])))
    assert float((wanted - found).norm()) < 0.01 * float((wanted - plain).norm())


def test_merge_into_nf4_and_back_keeps_what_was_trained(base: Path, tmp_path: Path) -> None:
    adapter = make(base, tmp_path / "adapter")
    merge_adapter(base, adapter, tmp_path / "merged", kind="nf4")
    assert measure_change(base, adapter, tmp_path / "merged", kind="nf4").tensors == 6
    assert check_merge(base, adapter, tmp_path / "merged", PROMPTS, kind="nf4").lost_share < 0.02
    with pytest.raises(StageError, match="no adapter"):
        measure_change(base, adapter, tmp_path / "merged")


def test_the_base_with_the_lower_loss_is_chosen(base: Path, tmp_path: Path) -> None:
    adapter = make(base, tmp_path / "adapter")
    streamed = Streamed(base, base_weights(base, "nf4"), adapter=adapter)
    talks = []
    for prompt in PROMPTS:  # answers that the 4-bit model finds likeliest: the NF4 base must win
        best = next(iter(streamed.logits([prompt]))).argmax(-1).tolist()
        talks += [TrainingTokens([*prompt[: n + 1], best[n]], [-100] * (n + 1) + [best[n]]) for n in range(len(prompt))]
    choice = choose_base(base, adapter, talks, ("original", "nf4"), "nf4")
    assert choice.chosen == "nf4"
    assert choice.measured["nf4"].loss < choice.measured["original"].loss
    assert choice.measured["nf4"].loss == pytest.approx(choice.trained.loss, abs=0.01)
    assert choice.trained.token_accuracy == 1.0


@pytest.mark.parametrize("change", [{"use_rslora": True}, {"lora_alpha": 16}])
def test_an_adapter_scaled_by_other_settings_is_noticed(base: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    adapter = make(base, tmp_path / "adapter")
    merge_adapter(base, adapter, tmp_path / "merged")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(StageError, match="not base \\+ adapter"):
        check_merge(base, adapter, tmp_path / "merged", PROMPTS)


def test_head_of_a_tied_model_is_not_adapted(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", tied=True)
    untied = make_checkpoint(tmp_path / "untied")
    adapter = make(untied, tmp_path / "adapter", target_modules=["lm_head"])
    with pytest.raises(ModelError, match="one tensor \\(tied\\)"):
        merge_adapter(base, adapter, tmp_path / "merged")


def test_an_embedding_trained_apart_from_its_tied_head_is_refused(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", tied=True)
    adapter = make(base, tmp_path / "adapter", modules_to_save=["embed_tokens"])
    with pytest.raises(ModelError, match="one tensor \\(tied\\)") as error:
        merge_adapter(base, adapter, tmp_path / "merged")
    assert "ensure_weight_tying" in error.value.hint


def test_an_embedding_trained_as_one_with_its_tied_head_is_merged(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = make_checkpoint(tmp_path / "base", tied=True)
    adapter = make(base, tmp_path / "adapter", modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    merge_adapter(base, adapter, tmp_path / "merged")
    check_merge(base, adapter, tmp_path / "merged", PROMPTS)
    peft: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    with torch.inference_mode():
        wanted, found = (m.eval()(input_ids=torch.tensor([PROMPTS[1]])).logits for m in (peft, merged))
    assert float((wanted - found).norm()) < 0.02 * float(wanted.norm())


def test_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", "qwen3", hidden=320, layers=3)
    adapter = make(other, tmp_path / "adapter")
    with pytest.raises(ModelError, match="that the base model does not have"):
        merge_adapter(base, adapter, tmp_path / "merged")
    shallow = make(make_checkpoint(tmp_path / "wide", "qwen3", hidden=320), tmp_path / "adapter2")
    with pytest.raises(ModelError, match="the base model has"):
        merge_adapter(base, shallow, tmp_path / "merged2")


def test_settings_that_cannot_be_merged_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = make(base, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"layer_replication": [[0, 1]]}))
    with pytest.raises(ModelError, match="layer_replication"):
        read_adapter(adapter)


class Malicious:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "owned"))


def test_pickled_weights_are_never_opened(base: Path, tmp_path: Path) -> None:
    proof = tmp_path / "owned"
    adapter = make(base, tmp_path / "adapter")
    bad_base = make_checkpoint(tmp_path / "base", "qwen3")
    (bad_base / "model.safetensors").unlink()
    bad_adapter = tmp_path / "bad"
    bad_adapter.mkdir()
    (bad_adapter / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    for file in (bad_base / "pytorch_model.bin", bad_adapter / "adapter_model.bin"):
        file.write_bytes(pickle.dumps(Malicious(proof)))
    with pytest.raises(ModelError, match="pytorch_model.bin"):
        merge_adapter(bad_base, adapter, tmp_path / "a")
    with pytest.raises(ModelError, match="adapter_model.bin"):
        merge_adapter(base, bad_adapter, tmp_path / "b")
    assert not proof.exists()
    pickle.loads((bad_adapter / "adapter_model.bin").read_bytes())  # it would have worked
    assert proof.exists()


def test_rslora_in_gguf_has_the_alpha_that_llama_cpp_divides(base: Path, tmp_path: Path) -> None:
    import gguf

    adapter = make(base, tmp_path / "adapter", use_rslora=True)
    convert_adapter(base, adapter, tmp_path / "a.gguf", name="a")
    assert gguf.GGUFReader(tmp_path / "a.gguf").fields["adapter.lora.alpha"].contents() == 16.0  # 8 · √4


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, KINDS["patterns"]])
def test_adapter_that_llama_cpp_cannot_apply_is_refused(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = make(base, tmp_path / "adapter", **settings)
    with pytest.raises(ModelError, match="llama.cpp"):
        convert_adapter(base, adapter, tmp_path / "a.gguf", name="a")


def add_tokens(base: Path, folder: Path, texts: list[str], start: int) -> None:
    """The base's tokenizer with more tokens, in the adapter's folder, as PEFT users save it."""
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((base / name).read_bytes())
    document = json.loads((base / "tokenizer.json").read_text())
    kind = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"] += [{"id": start + n, "content": text, **kind} for n, text in enumerate(texts)]
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False))


@pytest.mark.parametrize("rows", [320, 328])
def test_added_tokens_with_trained_embeddings_stay_right_through_merge_and_gguf(tmp_path: Path, rows: int) -> None:
    """320 rows: the new token takes a spare one. 328: the embedding has grown."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from holdfast import models
    from holdfast.export.gguf import convert_to_gguf
    from holdfast.runtime import start_server

    def resized() -> Any:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if rows != 320:
            torch.manual_seed(1)
            model.resize_token_embeddings(rows, mean_resizing=False)
        return model

    base, adapter = make_checkpoint(tmp_path / "base", "qwen2"), tmp_path / "adapter"
    torch.manual_seed(0)
    peft: Any = get_peft_model(
        resized(), LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    )
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    peft.save_pretrained(adapter)
    spare = [f"<unused{n}>" for n in range(31)] if rows != 320 else []
    add_tokens(base, adapter, [*spare, "<tool>"], 289)
    number = 289 + len(spare)
    merge_adapter(base, adapter, tmp_path / "merged")
    check_merge(base, adapter, tmp_path / "merged", PROMPTS)

    tokenizer = models.load_tokenizer(tmp_path / "merged")
    ids = list(tokenizer("the <tool> in")["input_ids"])
    assert number in ids
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    wanted: Any = PeftModel.from_pretrained(resized(), adapter)
    with torch.inference_mode():
        logits = [m.eval()(input_ids=torch.tensor([ids])).logits[0] for m in (merged, wanted)]
    assert logits[0].shape == logits[1].shape == (len(ids), rows)
    assert float((logits[0] - logits[1]).norm()) < 0.02 * float(logits[1].norm())

    convert_to_gguf(tmp_path / "merged", tmp_path / "m.gguf", name="m")
    with start_server(tmp_path / "m.gguf", n_ctx=256, parallel=1, threads=1) as server:
        assert server.tokenize("the <tool> in", parse_special=True) == ids
        found = server.post("/completion", {"prompt": ids, "n_predict": 1, "n_probs": 5, "temperature": 0, "seed": 0})
    top = found["completion_probabilities"][0]["top_logprobs"][0]
    best = logits[0][-1].log_softmax(-1)
    assert top["logprob"] == pytest.approx(float(best[top["id"]]), abs=0.02)


MEASURED = """
import resource, sys
from pathlib import Path
from holdfast.export.merge import check_merge, merge_adapter
base, adapter, merged, kind = sys.argv[1:]
import torch, peft, transformers, bitsandbytes
from holdfast.export.weights import nf4_round_trip
nf4_round_trip(torch.ones(64, 64))
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
merge_adapter(Path(base), Path(adapter), Path(merged), kind=kind)
check_merge(Path(base), Path(adapter), Path(merged), [[1, 2, 3, 4, 5, 6, 7, 8]], kind=kind)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_memory_of_merge_and_check_is_that_of_a_layer(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", "llama", hidden=512, layers=20, shards=6)
    adapter = make(base, tmp_path / "adapter")
    total = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    arguments = [str(base), str(adapter), str(tmp_path / "merged"), "nf4"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True)
    assert len(list((tmp_path / "merged").glob("*.safetensors"))) == 6
    assert int(done.stdout) < total / 2, f"{int(done.stdout) / 2**20:.0f} of {total / 2**20:.0f} MiB"
