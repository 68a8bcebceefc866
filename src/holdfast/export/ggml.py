"""ggml's own kernels, called in the library of the installed xllamacpp: conversions and quantisation, nothing else.

Opening the library starts nothing in it. The C calls run outside the GIL, so threads help.
"""

import ctypes
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.errors import StageError

VERSION = "xllamacpp==2026.10.11549"


class Kernels(NamedTuple):
    """C functions. quantize_chunk(type, float *, void *, start, rows, columns, float *importance) gives bytes written;
    the others convert `n` values from one buffer to another: (source, target, n)."""

    quantize_chunk: Any
    half_to_float: Any
    brain_to_float: Any
    float_to_half: Any
    float_to_brain: Any


@cache
def kernels() -> Kernels:
    """The functions of the installed library. Raises StageError when there is none, or it does not export them."""
    found = util.find_spec("xllamacpp")
    folder = Path(found.origin).parent if found and found.origin else None
    libraries = sorted(folder.glob("xllamacpp*.so")) if folder else []
    if not libraries:
        raise StageError("xllamacpp is not installed, and it has the quantiser", hint=f"pip install {VERSION}")
    library = ctypes.CDLL(str(libraries[0]))
    names = ("ggml_quantize_chunk", "ggml_fp16_to_fp32_row", "ggml_bf16_to_fp32_row", "ggml_fp32_to_fp16_row",
             "ggml_fp32_to_bf16_row_ref")  # fmt: skip
    missing = [name for name in names if not hasattr(library, name)]
    if missing:
        raise StageError(f"{libraries[0].name} does not export {missing[0]}", hint=f"pip install {VERSION}")
    functions = [getattr(library, name) for name in names]
    numbers = [ctypes.c_int64] * 3
    functions[0].restype = ctypes.c_size_t
    functions[0].argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *numbers, ctypes.c_void_p]
    for function in functions[1:]:
        function.restype = None
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    return Kernels(*functions)
