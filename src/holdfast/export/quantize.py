"""Quantise an F16 GGUF file to Q4_K_M, Q5_K_M, Q6_K or Q8_0 with the C code of llama.cpp.

The kernels are called in xllamacpp's library (ggml_quantize_chunk); which tensor gets which type is repeated here
from llama.cpp v0.5.0, src/llama-quant.cpp, for dense models, with or without an importance matrix (which changes no
type here). The result is byte for byte that of llama_model_quantize; tests/reference_gguf.py compares them. The source
is mapped, a few slabs of rows are in memory at a time.
"""

import math
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from mmap import ACCESS_READ, MADV_DONTNEED, PAGESIZE, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import ModelError, StageError
from holdfast.export.ggml import kernels
from holdfast.export.gguf_file import Header, Tensor, aligned, number_field, pad, read_header, write_header

if TYPE_CHECKING:
    import numpy as np

SLAB_VALUES = 1 << 20  # values given to one thread at a time: 4 MiB of float32
AHEAD = 16  # slabs in the making: the writer never waits long, and memory stays at about 100 MiB
Importance = Mapping[str, "np.ndarray[Any, Any]"]


class Job(NamedTuple):
    """One tensor to write as ggml type `kind`. Bytes are of one row, in the source and in the target."""

    tensor: Tensor
    kind: int
    rows: int
    columns: int
    source_bytes: int
    row_bytes: int
    importance: "np.ndarray[Any, Any] | None"


class Mix(NamedTuple):
    """`base`: type of most tensors. `more`: also give some layers' attn_v and ffn_down 6 bits (the _M in a name)."""

    base: str
    file_type: str
    more: bool


MIXES = {
    "Q4_K_M": Mix("Q4_K", "MOSTLY_Q4_K_M", more=True),
    "Q5_K_M": Mix("Q5_K", "MOSTLY_Q5_K_M", more=True),
    "Q6_K": Mix("Q6_K", "MOSTLY_Q6_K", more=False),
    "Q8_0": Mix("Q8_0", "MOSTLY_Q8_0", more=False),
}
BLOCK_VALUES = {"Q4_K": 256, "Q5_K": 256, "Q6_K": 256, "Q8_0": 32, "Q5_0": 32, "Q5_1": 32}
FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def quantize_gguf(
    source: Path, target: Path, quantization: str, *, threads: int = 0, importance: Importance | None = None
) -> None:
    """Write `target` from the F16 file `source`.

    quantization: Q4_K_M, Q5_K_M, Q6_K or Q8_0. threads: 0 = one for each processor; the bytes do not depend on it.
    importance: GGUF tensor name → weight of each column (imatrix.py); tensors without an entry are done without.
    Raises ModelError for a source that is not a 16- or 32-bit GGUF or an importance that does not fit it, StageError
    when the library lacks the kernels.
    """
    kernels()
    header = _open(source)
    architecture = header.value("general.architecture")
    shapes = {t.name: t.shape for t in header.tensors}
    layers = int(header.value(f"{architecture}.block_count"))
    chosen = choose_types(shapes, quantization, layers, is_70b=_is_70b(header, architecture, layers))
    jobs = [_job(tensor, chosen[tensor.name], importance or {}) for tensor in sorted(header.tensors, key=_by_layer)]
    infos, offset = [], 0
    for job in jobs:
        infos.append(job.tensor._replace(kind=job.kind, offset=offset))
        offset += aligned(job.rows * job.row_bytes)
    with source.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as view, target.open("wb") as out:
        write_header(out, _fields(header, MIXES[quantization].file_type), infos)
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            for job, slabs in groupby(_in_order(pool, view, header.data, jobs), key=lambda pair: pair[0]):
                out.writelines(data for _, data in slabs)
                pad(out)
                _forget(view, header.data + job.tensor.offset, job)


def count_types(path: Path) -> dict[str, int]:
    """How many tensors of each type a GGUF file has."""
    from gguf import GGMLQuantizationType

    return dict(sorted(Counter(GGMLQuantizationType(t.kind).name for t in read_header(path).tensors).items()))


def choose_types(
    shapes: Mapping[str, tuple[int, ...]], quantization: str, layers: int, *, is_70b: bool = False
) -> dict[str, str | None]:
    """Type of each tensor by name; None = as it is. `shapes` are in ggml's order: columns first.

    is_70b: llama.cpp counts the model among those whose small attn_v it gives 5 bits instead of 4.
    """
    mix = MIXES[quantization]
    tied = "output.weight" not in shapes
    seen = {"attn_v": 0, "ffn_down": 0}
    totals = {"attn_v": sum(name.endswith("attn_v.weight") for name in shapes), "ffn_down": layers}
    chosen: dict[str, str | None] = {}
    for name in sorted(shapes, key=_order):
        shape = shapes[name]
        if len(shape) < 2 or not name.endswith("weight") or name.endswith("_norm.weight"):
            chosen[name] = None
            continue
        kind = mix.base
        part = name.split(".")[-2]
        if name == "output.weight" or (tied and name == "token_embd.weight"):
            kind = "Q8_0" if mix.base == "Q8_0" or shape[0] % BLOCK_VALUES[mix.base] else "Q6_K"
        elif part in seen:
            if mix.more and _wants_more_bits(seen[part], totals[part]):
                kind = "Q6_K"
            elif part == "attn_v" and kind == "Q4_K" and is_70b:
                kind = "Q5_K"
            seen[part] += 1
        if shape[0] % BLOCK_VALUES[kind]:
            kind = FALLBACKS.get(kind, kind)
        chosen[name] = "F16" if shape[0] % BLOCK_VALUES[kind] else kind
    return chosen


def _wants_more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's use_more_bits: the first and last eighth, and every third layer between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _order(name: str) -> tuple[int, str]:
    """llama.cpp's order of weights: by layer, then by name."""
    parts = name.split(".")
    return (int(parts[1]) if parts[0] == "blk" else -1, name)


def _by_layer(tensor: Tensor) -> tuple[int, str]:
    return _order(tensor.name)


def _job(tensor: Tensor, chosen: str | None, importance: Importance) -> Job:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    kind = GGMLQuantizationType[chosen] if chosen else GGMLQuantizationType(tensor.kind)
    columns, rows = tensor.shape[0], math.prod(tensor.shape[1:])
    block, size = GGML_QUANT_SIZES[kind]
    source = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)][1] * columns
    weights = importance.get(tensor.name) if kind != tensor.kind else None
    if weights is not None and len(weights) != columns:
        raise ModelError(
            f"the importance matrix has {len(weights)} values for {tensor.name}, the tensor {columns} columns",
            hint="it belongs to another model: holdfast export -c FILE computes it anew",
        )
    return Job(tensor, int(kind), rows, columns, source, columns // block * size, weights)


def _in_order(pool: ThreadPoolExecutor, view: mmap, data: int, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
    """(job, bytes) slab by slab in file order; a few slabs more than there are threads are in the making."""
    waiting: deque[tuple[Job, Future[Any]]] = deque()
    for job in jobs:
        for start in range(0, job.rows, step := max(1, SLAB_VALUES // job.columns)):
            place = data + job.tensor.offset + start * job.source_bytes
            waiting.append((job, pool.submit(_slab, view, place, min(step, job.rows - start), job)))
            if len(waiting) > AHEAD:
                job_, future = waiting.popleft()
                yield job_, future.result()
    for job_, future in waiting:
        yield job_, future.result()


def _slab(view: mmap, place: int, rows: int, job: Job) -> "bytes | np.ndarray[Any, Any]":
    """The bytes of some rows in the type of the job; the kernels run outside the GIL."""
    import numpy as np

    if job.kind == job.tensor.kind:
        return view[place : place + rows * job.source_bytes]
    count = rows * job.columns
    raw = np.frombuffer(view, np.uint8, rows * job.source_bytes, place)
    if job.source_bytes == 2 * job.columns:
        values = np.empty(count, np.float32)
        kernels().half_to_float(raw.ctypes.data, values.ctypes.data, count)
    else:
        values = raw.view(np.float32)
    out = np.empty(rows * job.row_bytes, np.uint8)
    weights = None if job.importance is None else job.importance.ctypes.data
    size = kernels().quantize_chunk(job.kind, values.ctypes.data, out.ctypes.data, 0, rows, job.columns, weights)
    if size != out.nbytes:
        raise StageError(f"quantising {job.tensor.name} gave {size} bytes, expected {out.nbytes}")
    return out


def _forget(view: mmap, offset: int, job: Job) -> None:
    """Give the pages of a tensor that is done back to the system, so that memory does not grow with the file."""
    begin = offset + -offset % PAGESIZE
    end = (offset + job.rows * job.source_bytes) // PAGESIZE * PAGESIZE
    if end > begin:
        view.madvise(MADV_DONTNEED, begin, end - begin)


def _fields(header: Header, file_type: str) -> list[bytes]:
    """Every field of the source in its order, except the two that llama.cpp sets anew, which it puts last."""
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    version, kind = "general.quantization_version", "general.file_type"
    kept = [raw for key, raw in header.fields.items() if key not in (version, kind)]
    return [*kept, number_field(version, GGML_QUANT_VERSION), number_field(kind, int(LlamaFileType[file_type]))]


def _open(source: Path) -> Header:
    from gguf import GGMLQuantizationType

    header = read_header(source)
    foreign = {GGMLQuantizationType(t.kind).name for t in header.tensors} - {"F16", "F32"}
    if foreign:
        raise ModelError(f"{source} holds {', '.join(sorted(foreign))}; only an F16 file can be quantised")
    return header


def _is_70b(header: Header, architecture: str, layers: int) -> bool:
    """llama.cpp's LLM_TYPE_70B: 80 layers, and for Llama grouped heads (the 65B of Llama 1 had none)."""
    heads = [header.value(f"{architecture}.attention.{key}") for key in ("head_count", "head_count_kv")]
    return layers == 80 and (architecture == "qwen2" or (architecture == "llama" and heads[0] != heads[1]))
