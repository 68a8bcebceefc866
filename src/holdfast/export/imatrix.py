"""The importance matrix: how strongly the training prompts drive each column of each weight.

For every linear layer the mean square of each input column over all tokens, as llama.cpp's own tool computes it
(tools/imatrix/imatrix.cpp, collect_imatrix: the sum of x² and the number of rows; embeddings and head are left out).
The file is in llama.cpp's format, so its tools can read it.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import StageError
from holdfast.export.checkpoint import ARCHITECTURES, read_checkpoint
from holdfast.export.gguf_file import Tensor, aligned, number_field, pad, text_field, text_list_field, write_header
from holdfast.export.streamed import Streamed
from holdfast.export.weights import stored_weights

if TYPE_CHECKING:
    import numpy as np
    import torch

LARGEST_TOKENS = 32768  # enough for stable means; llama.cpp's guides use 10,000 to 100,000
FLOAT32 = 0  # ggml type number


class ImportanceMatrix(NamedTuple):
    """`values`: GGUF tensor name → mean square of each input column, float32. `tokens` and `prompts` that were read."""

    values: "dict[str, np.ndarray[Any, Any]]"
    tokens: int
    prompts: int


def compute_importance(
    folder: Path, prompts: Sequence[Sequence[int]], *, device: str = "cpu", limit: int = LARGEST_TOKENS
) -> ImportanceMatrix:
    """Run the model of `folder` over prompts (token ids), at most `limit` tokens spread evenly over them.

    Raises StageError when there are no prompts, or a sum is not finite.
    """
    import numpy as np

    chosen = _spread(prompts, limit)
    if not chosen:
        raise StageError("there are no prompts for the importance matrix", hint="--set export.imatrix=false")
    sums: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}

    def watch(name: str, values: "torch.Tensor") -> None:
        flat = values.reshape(-1, values.shape[-1]).double()
        sums[name] = sums.get(name, 0) + flat.square().sum(0)
        rows[name] = rows.get(name, 0) + len(flat)

    Streamed(folder, stored_weights(folder), device=device).states(chosen, watch=watch)
    names = _gguf_names(folder, list(sums))
    values = {
        names[name]: np.ascontiguousarray((sums[name] / rows[name]).float().cpu().numpy()) for name in sorted(sums)
    }
    broken = sorted(name for name, mean in values.items() if not np.isfinite(mean).all())
    if broken:
        raise StageError(f"the activations of {broken[0]} are not finite", hint="look at the loss in trainer_log.jsonl")
    return ImportanceMatrix(values, sum(map(len, chosen)), len(chosen))


def write_importance(matrix: ImportanceMatrix, target: Path, *, data: str) -> None:
    """Write llama.cpp's imatrix file; `data` names the rows that were read. Sums stand there, so that files add up."""
    import numpy as np

    count = np.array([matrix.tokens], np.float32)
    pairs: list[tuple[str, Any]] = []
    for name, mean in matrix.values.items():
        pairs += [(f"{name}.counts", count), (f"{name}.in_sum2", mean * count[0])]
    infos, offset = [], 0
    for name, values in pairs:
        infos.append(Tensor(name, (len(values),), FLOAT32, offset))
        offset += aligned(values.nbytes)
    fields = [
        text_field("general.type", "imatrix"), text_list_field("imatrix.datasets", [data]),
        number_field("imatrix.chunk_count", matrix.prompts),
        number_field("imatrix.chunk_size", max(1, matrix.tokens // matrix.prompts)),
    ]  # fmt: skip
    with target.open("wb") as out:
        write_header(out, fields, infos)
        for _, values in pairs:
            out.write(struct.pack(f"<{len(values)}f", *values))
            pad(out)


def read_importance(path: Path) -> ImportanceMatrix:
    """Read a file of `write_importance` or of llama.cpp's tool."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(path)
    tensors = {t.name: np.array(t.data, np.float32).reshape(-1) for t in reader.tensors}
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    values = {name: tensors[f"{name}.in_sum2"] / tensors[f"{name}.counts"][0] for name in names}
    tokens = max((int(tensors[f"{name}.counts"][0]) for name in names), default=0)
    return ImportanceMatrix(values, tokens, int(reader.fields["imatrix.chunk_count"].contents()))


def _spread(prompts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
    """Whole prompts, evenly over the list, until `limit` tokens are reached."""
    total = sum(map(len, prompts))
    step = max(1.0, total / limit)
    chosen = [list(prompts[int(n * step)]) for n in range(int(len(prompts) / step))]
    return [ids for ids in chosen if ids]


def _gguf_names(folder: Path, names: Sequence[str]) -> dict[str, str]:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    config = read_checkpoint(folder)
    wanted = ARCHITECTURES[config.architectures[0]].name
    kind = next(k for k, text in MODEL_ARCH_NAMES.items() if text == wanted)
    table = get_tensor_name_map(kind, config.num_hidden_layers)
    return {name: str(table.get_name(name, try_suffixes=(".weight",))) for name in names}
