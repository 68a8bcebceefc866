"""The headers of safetensors files: are the weights of a model whole? Nothing but the headers is read.

Format: https://huggingface.co/docs/safetensors#format (8 bytes of length, JSON, then the tensors).
"""

import json
from pathlib import Path
from typing import Any

from holdfast.core.errors import ModelError

LARGEST_HEADER = 100 << 20  # bytes; the format's own limit
POINTER = b"version https://git-lfs"
REMEDY = "copy the file again, or fetch the whole model again: holdfast fetch MODEL --to DIR"


def read_header(file: Path) -> dict[str, Any]:
    """Tensor name → `dtype`, `shape`, `data_offsets` of a whole safetensors file.

    Raises ModelError for a file that is cut off, damaged or only a Git LFS pointer.
    """
    with file.open("rb") as stream:
        begin = stream.read(len(POINTER))
        if begin == POINTER:
            raise ModelError(f"{file} is a Git LFS pointer, not the weights", hint="git lfs pull, in that folder")
        length = int.from_bytes(begin[:8], "little")
        stream.seek(8)
        try:
            header: Any = json.loads(stream.read(length)) if length <= LARGEST_HEADER else None
            tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
            end = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
            raise ModelError(f"{file} is no safetensors file: its header cannot be read", hint=REMEDY) from None
    size = file.stat().st_size
    if size != end:
        raise ModelError(f"{file} is not whole: it has {size:,} bytes, its header says {end:,}", hint=REMEDY)
    return tensors


def require_whole_weights(folder: Path) -> None:
    """Raise ModelError unless every safetensors file of a model folder is whole, and every one that its index names is
    there."""
    files = {file.name for file in folder.glob("*.safetensors")}
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            named = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ModelError(f"{index} cannot be read", hint=REMEDY) from None
        if missing := sorted(named - files):
            raise ModelError(f"{folder} has no {', '.join(missing)}, which {index.name} names", hint=REMEDY)
    for name in sorted(files):
        read_header(folder / name)
