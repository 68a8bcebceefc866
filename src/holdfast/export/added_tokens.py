"""Tokens that an adapter's tokenizer knows and its base's does not: the merged model must keep them."""

import json
from pathlib import Path


def brings_tokens(base: Path, adapter: Path) -> bool:
    """Whether the adapter's folder holds a tokenizer with tokens that the base's lacks. They may fill spare rows of the
    embedding (Qwen's has hundreds), so its size need not tell."""
    return bool(_tokens(adapter).items() - _tokens(base).items())


def _tokens(folder: Path) -> dict[str, int]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {}
    document = json.loads(path.read_bytes())
    return {token["content"]: token["id"] for token in document.get("added_tokens") or ()}
