"""Facts about the whole export stage, and that llama.cpp loads and reads what it makes."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from export_context import make_context
from holdfast.core.context import StageContext
from holdfast.core.digest import digest_tree
from holdfast.core.records import Message
from holdfast.export import stage
from holdfast.export.gguf import convert_to_gguf
from holdfast.export.modelfile import derive_format
from tiny_checkpoint import CHATML, make_adapter, make_checkpoint
from tiny_sentencepiece import write_sentencepiece

TEXTS = [
    "The high and the low: 12 000 it's I'LL we'Ve", "  two   spaces\n\n\nand\tlines \r\n", "naïve café über 中文",
    "🚀 😶\u200d🌫️ ok", "x = [1,2,3]; // a+b !!! ... ---", "123456789 3.14 1e-5", "<|im_start|>user\nhi<|im_end|>\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> StageContext:
    folder = tmp_path_factory.mktemp("export")
    base = make_checkpoint(folder / "base", tied=True)
    context = make_context(folder / "run", base, make_adapter(base, folder / "adapter"))
    stage.run(context)
    return context


def read_export(context: StageContext) -> dict[str, Any]:
    return dict(json.loads((context.out.path / "export.json").read_text()))


def test_every_promised_file_is_there(context: StageContext) -> None:
    names = {path.name for path in context.out.path.iterdir()}
    assert names == {
        "intent.json", "merged", "triage-F16.gguf", "triage-Q4_K_M.gguf", "triage-Q8_0.gguf", "Modelfile", "README.md",
        "export.json", "SHA256SUMS",
    }  # fmt: skip


def test_sums_are_what_sha256sum_checks(context: StageContext) -> None:
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=context.out.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": OK") == len(digest_tree(context.out.path)) - 2


def test_report_holds_the_checks(context: StageContext) -> None:
    merge = read_export(context)["merge"]
    assert merge["weights"]["tensors"] == merge["weights"]["modules"] == 6
    assert 0 <= merge["logits"]["divergence"] < merge["logits"]["adapter_divergence"]
    assert read_export(context)["files"]["triage-Q4_K_M.gguf"]["tensors"]["Q6_K"] > 0


def test_modelfile_serves_the_deployed_file_with_the_system_prompt(context: StageContext) -> None:
    text = (context.out.path / "Modelfile").read_text()
    assert "FROM ./triage-Q4_K_M.gguf\n" in text
    assert 'SYSTEM """Be brief."""' in text


def test_interrupted_export_ends_with_the_same_bytes(context: StageContext) -> None:
    before = digest_tree(context.out.path)
    for name in ("triage-Q8_0.gguf", "Modelfile", "SHA256SUMS"):
        (context.out.path / name).unlink()
    stage.run(context)
    assert digest_tree(context.out.path) == before


def test_export_from_scratch_gives_the_same_bytes(context: StageContext, tmp_path: Path) -> None:
    adapter = (context.inputs["train"] / "adapter").resolve()
    again = make_context(tmp_path / "run", Path(context.config.base_model), adapter)
    stage.run(again)
    assert digest_tree(again.out.path) == digest_tree(context.out.path)


@pytest.mark.parametrize("quantization", ["F16", "Q4_K_M", "Q8_0"])
def test_llama_cpp_loads_and_answers(context: StageContext, quantization: str) -> None:
    from holdfast.runtime import start_server

    with start_server(context.out.path / f"triage-{quantization}.gguf", n_ctx=256, parallel=1) as server:
        reply = server.chat([Message(role="user", content="ticket 1")], 8)
        assert 0 < reply.tokens <= 8
        assert (
            server.render([Message(role="user", content="a")])
            == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
        )


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "qwen3", "mistral"])
def test_llama_cpp_reads_the_same_tokens_as_transformers(tmp_path: Path, model_type: str) -> None:
    from transformers import AutoTokenizer

    from holdfast.runtime import start_server

    folder = make_checkpoint(tmp_path / "m", model_type)
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with start_server(tmp_path / "m.gguf", n_ctx=256, parallel=1) as server:
        for text in TEXTS:
            wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert server.tokenize(text, parse_special=True) == wanted, text


@pytest.mark.parametrize("model_file", [True, False])
def test_llama_cpp_reads_sentencepiece_like_transformers(tmp_path: Path, model_file: bool) -> None:
    from transformers import AutoTokenizer

    from holdfast.runtime import start_server

    folder = make_checkpoint(tmp_path / "m", "llama")
    write_sentencepiece(folder, model_file=model_file)
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with start_server(tmp_path / "m.gguf", n_ctx=256, parallel=1) as server:
        for text in (*TEXTS, "the tickets  12 of the user", "ticketticket us er loloonn"):
            wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert server.tokenize(text, parse_special=True) == wanted, text


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "mistral"])
def test_llama_cpp_computes_the_same_next_token(tmp_path: Path, model_type: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from holdfast.runtime import start_server

    folder = make_checkpoint(tmp_path / "m", model_type)
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    same = 0
    with start_server(tmp_path / "m.gguf", n_ctx=256, parallel=1) as server:
        for text in TEXTS[:6]:
            prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
            ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                token = int(model(input_ids=ids).logits[0, -1].argmax())
            reply = server.chat([Message(role="user", content=text)], 1)
            same += reply.text == tokenizer.decode([token], skip_special_tokens=True)
    assert same >= 5  # random weights make near-ties; a wrong rotation or permutation gives 0


def test_derived_template_renders_like_transformers(context: StageContext) -> None:
    from transformers import AutoTokenizer

    merged = context.out.path / "merged"
    assert (merged / "chat_template.jinja").read_text() == CHATML
    tokenizer = AutoTokenizer.from_pretrained(merged)
    talk = [("system", "S"), ("user", "a\nb"), ("assistant", "c"), ("user", "d")]
    messages = [{"role": role, "content": text} for role, text in talk]
    format_ = derive_format(merged)
    assert format_ is not None
    assert format_.render(talk) == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
