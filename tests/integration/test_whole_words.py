"""Which words llama.cpp takes whole is its own rule, by the name of the pre-tokenizer: each is asked."""

import json
from pathlib import Path

import pytest

from holdfast.export import vocabulary
from holdfast.export.gguf import convert_to_gguf
from holdfast.runtime import start_server
from tiny_checkpoint import make_checkpoint

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
STEPS = {
    "bytes": {**BYTES, "use_regex": False},
    "bytes:gpt2": {**BYTES, "use_regex": True},
    "digits": {"type": "Digits", "individual_digits": True},
}


@pytest.mark.parametrize(("steps", "name"), vocabulary.PRE_TOKENIZERS.items(), ids=vocabulary.PRE_TOKENIZERS.values())
def test_llama_cpp_takes_words_whole_where_we_say_so(steps: tuple[str, ...], name: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", "llama", hidden=64)
    document = json.loads((folder / "tokenizer.json").read_text())
    rules = [STEPS.get(step) or {"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated", "invert": False}
             for step in steps]  # fmt: skip
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": rules}
    document["model"]["ignore_merges"] = name in vocabulary.WHOLE_WORDS
    words = document["model"]["vocab"]
    words["zqz"] = words.pop("\u0100")  # a word that no merges make, in place of byte 0
    (folder / "tokenizer.json").write_text(json.dumps(document))
    convert_to_gguf(folder, tmp_path / "model.gguf", name=name, threads=1)
    with start_server(tmp_path / "model.gguf", n_ctx=64, parallel=1, threads=1) as server:
        ids = server.tokenize("zqz", parse_special=True, add_special=False)
    assert (ids == [words["zqz"]]) == (name in vocabulary.WHOLE_WORDS)
    assert len(ids) in (1, 3)
