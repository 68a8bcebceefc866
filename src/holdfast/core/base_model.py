"""Where the base model lies, and the digests of its files."""

import os
from pathlib import Path

from holdfast.core.digest import digest_file
from holdfast.core.errors import ModelError

BUNDLED = {"pebble": Path(__file__).parents[1] / "pebble"}
# What makes a model what it is; a model card beside it may change freely.
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
               "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")  # fmt: skip
_DIGESTS: dict[tuple[str, int, int, int, int], str] = {}


def find_base_model(name: str) -> Path:
    """Folder of a base model: `pebble`, a folder, or a Hub id that is already in the local cache.

    Raises ModelError when it is missing or lacks config.json, safetensors weights or tokenizer.json.
    """
    folder = BUNDLED.get(name) or Path(name).expanduser()
    if not folder.is_dir():
        folder = _find_in_cache(name) or folder
    if not folder.is_dir():
        raise ModelError(
            f"base model {name!r} is neither a folder here nor in the local Hugging Face cache; nothing is downloaded",
            hint="give a folder in base_model:, or on a connected machine: holdfast fetch MODEL --to DIR",
        )
    missing = [file for file in ("config.json", "tokenizer.json") if not (folder / file).is_file()]
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        missing.append("*.safetensors" + (" (pickled .bin weights are refused: they can run code)" if pickled else ""))
    if missing:
        raise ModelError(
            f"{folder} is not a usable model folder: no {', no '.join(missing)}",
            hint="copy what is missing into that folder, or fetch the whole model again: holdfast fetch MODEL --to DIR",
        )
    return folder


def _find_in_cache(name: str) -> Path | None:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    entry = Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / f"models--{name.replace('/', '--')}"
    reference = entry / "refs" / "main"
    return entry / "snapshots" / reference.read_text().strip() if reference.is_file() else None


def digest_base_model(folder: Path) -> dict[str, str]:
    """Digest of every file that makes the model, by name."""
    files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})
    return {path.name: _digest_once(path) for path in files}


def _digest_once(path: Path) -> str:
    """Every stage asks, a large model takes a minute: a file is read again when its entry on the disk has changed."""
    stat = path.stat()
    entry = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if entry not in _DIGESTS:
        _DIGESTS[entry] = digest_file(path)
    return _DIGESTS[entry]
