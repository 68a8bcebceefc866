"""What a merged model has beside its weights: config.json, and the tokenizer's files, copied byte for byte, so that the
original chat template ships and not one that a library wrote; thoughts and date are settled (core/chat_template.py).
"""

import json
import shutil
from pathlib import Path

from holdfast.core.chat_template import settle_in
from holdfast.core.errors import ModelError
from holdfast.export.added_tokens import brings_tokens
from holdfast.export.lora import Adapter

COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json", "LICENSE", "LICENSE.txt",
)  # fmt: skip


def copy_the_rest(base: Path, adapter: Adapter, target: Path, dtype: str) -> None:
    """config.json and the tokenizer's files: the base's own, or the adapter's when it brings new tokens.

    Raises ModelError when there are new embeddings and no tokenizer beside the adapter.
    """
    config = json.loads((base / "config.json").read_bytes())
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    rows = adapter.replaced["model.embed_tokens.weight"].shape[0] if adapter.grows(config["vocab_size"]) else 0
    tokenizer = adapter.folder if rows or brings_tokens(base, adapter.folder) else base
    if not (tokenizer / "tokenizer.json").is_file():
        raise ModelError(
            f"{adapter.folder} has {rows} embeddings, the base model {config['vocab_size']}, and no tokenizer.json "
            "that says which tokens the new ones are for",
            hint="save the tokenizer into the adapter's folder",
        )
    config["vocab_size"] = rows or config["vocab_size"]
    (target / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    for name in COPIED:
        folder = tokenizer if (tokenizer / name).is_file() else base
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    if (base / "additional_chat_templates").is_dir():
        shutil.copytree(base / "additional_chat_templates", target / "additional_chat_templates")
    settle_in(target)
