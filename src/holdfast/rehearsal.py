"""Before hours of training: does the real server read the base model's prompts as training will write them?

A model of one small layer of zeros gets the base model's tokenizer and chat template, goes through export's converter
and into llama.cpp's server, and `verify`'s comparison of tokens is made there. It takes seconds. What it finds would
otherwise be found by `verify`, after training.
"""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from holdfast import models
from holdfast.core.chat_template import settle_in
from holdfast.core.errors import HoldfastError, IntegrityError, ModelError, ServerError
from holdfast.core.records import read_examples
from holdfast.evaluate.parity import check_parity
from holdfast.export.checkpoint import read_checkpoint
from holdfast.export.gguf import convert_to_gguf
from holdfast.export.model_files import COPIED
from holdfast.runtime import start_server

ROWS = 50
WIDTH = 64
CONTEXT = 512  # tokens, and at least the longest prompt with some of an answer
ANSWER = 8
MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
NORMS = ("input_layernorm", "post_attention_layernorm")


@cache
def rehearse(base: Path, items: Path) -> int:
    """Raise ModelError when llama.cpp cannot serve the tokenizer and chat template of `base`, or reads prompts of the
    file `items` as other tokens than training. Returns the tokens of the longest prompt. Once for each process."""
    examples = read_examples(items)
    if not examples:
        return 0
    tokenizer = models.load_tokenizer(base)
    longest = max(len(models.encode_prompt(tokenizer, list(example.prompt))) for example in examples)
    examples = examples[:: max(1, len(examples) // ROWS)][:ROWS]
    with tempfile.TemporaryDirectory(prefix="holdfast-rehearsal-") as name:
        model, gguf = Path(name) / "model", Path(name) / "model.gguf"
        write_stand_in(base, model)
        try:
            convert_to_gguf(model, gguf, name="rehearsal", threads=1)
            with start_server(gguf, n_ctx=max(CONTEXT, longest + ANSWER), parallel=1, threads=1) as server:
                check_parity(tokenizer, server, examples)
        except (IntegrityError, ServerError) as error:
            raise ModelError(
                f"what is trained with the base model in {base} would not be what is served; its tokenizer and chat "
                f"template were tried in llama.cpp: {error.message.replace(str(gguf), 'a stand-in model')}",
                hint=_next_step(error),
            ) from None
    return longest


def _next_step(error: HoldfastError) -> str:
    """What `verify` would say, unless that is to export again: the model is the cause here."""
    if error.hint and "holdfast export" not in error.hint:
        return error.hint
    return (
        f"{models.EDIT_TEMPLATE} is one that llama.cpp reads alike (without tools, for example), or use another base "
        "model; only verify needs this: holdfast export -c FILE goes without it"
    )


def write_stand_in(base: Path, folder: Path) -> None:
    """A checkpoint of one layer of zeros with the vocabulary of `base`: tokenizer, template and special tokens."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    for name in COPIED:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    settle_in(folder)
    size = read_checkpoint(base).vocab_size
    special = {k: v for k, v in json.loads((base / "config.json").read_bytes()).items() if k.endswith("_token_id")}
    config = special | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": size, "hidden_size": WIDTH,
        "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": True,
        "dtype": "float16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    layer = "model.layers.0"
    tensors: dict[str, np.ndarray[Any, Any]] = {
        f"{layer}.{name}.weight": np.zeros((WIDTH, WIDTH), np.float16) for name in MATRICES
    }
    tensors |= {f"{layer}.{name}.weight": np.ones(WIDTH, np.float16) for name in NORMS}
    tensors["model.norm.weight"] = np.ones(WIDTH, np.float16)
    tensors["model.embed_tokens.weight"] = np.zeros((size, WIDTH), np.float16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
