"""Do the weights of a base model belong to its config.json? Names and shapes in the safetensors headers, nothing else.

What is missing is made up at random while a model is loaded, and what is left over is dropped, both with no more than a
warning of the library: a run would measure and train another model than the one that was meant.
"""

import re
from pathlib import Path

from holdfast.core.errors import ModelError
from holdfast.core.weight_files import read_header
from holdfast.plan.shape import ModelShape, read_shape

REMEDY = "copy config.json and the weights from the same model again: holdfast fetch MODEL --to DIR"
SHOWN = 3
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def require_weights_of_config(folder: Path) -> None:
    """Raises ModelError when a matrix that config.json asks for is missing or has another shape, or when there are more
    layers. Weights under other names (the text part of a multimodal model) are not judged."""
    shape = read_shape(folder)
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= {name: tuple(tensor["shape"]) for name, tensor in read_header(file).items()}
    if _EMBEDDING not in found:
        return
    wanted = _matrices(shape)
    wrong = [
        f"{name} is {_size(found.get(name))}, config.json says {_size(size)}"
        for name, size in wanted.items()
        if found.get(name) != size
    ]
    numbers = {int(match.group(1)) for name in found if (match := _LAYER.match(name))}
    if len(numbers) > shape.layers:
        wrong.append(f"there are {len(numbers)} layers, config.json says {shape.layers}")
    if wrong:
        more = f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
        raise ModelError(
            f"the weights in {folder} are not those of its config.json: {'; '.join(wrong[:SHOWN])}{more}", hint=REMEDY
        )


def _matrices(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Name → shape of the embedding, the head and every matrix of the layers, with biases."""
    wanted: dict[str, tuple[int, ...]] = {_EMBEDDING: (shape.vocabulary, shape.hidden)}
    if not shape.tied:
        wanted[_HEAD] = (shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        for linear in shape.linears:
            block = "mlp" if linear.name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            name = f"model.layers.{layer}.{block}.{linear.name}"
            wanted[f"{name}.weight"] = (linear.rows, linear.columns)
            if linear.bias:
                wanted[f"{name}.bias"] = (linear.rows,)
    return wanted


def _size(size: tuple[int, ...] | None) -> str:
    return "missing" if size is None else " x ".join(map(str, size))
