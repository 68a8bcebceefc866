"""Random bf16 weights as a safetensors file, written tensor by tensor: what the merge and GGUF benchmarks read."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

POOL = 1 << 22  # random values; every tensor starts at another place of them


def write_random_weights(path: Path, shapes: dict[str, tuple[int, ...]], deviation: float, seed: int) -> int:
    """Write the file, never more than the pool in memory; the number of weights."""
    random = np.random.default_rng(seed).normal(0, deviation, POOL).astype(np.float32)
    pool = (random.view(np.uint32) >> 16).astype(np.uint16)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for number, shape in enumerate(shapes.values()):
            turned = np.roll(pool, 9973 * number)
            left = int(np.prod(shape))
            while left > 0:
                out.write(turned[:left].data)
                left -= len(turned)
    return offset // 2
