"""Which device models run on: `plan.gpu: cpu` hides the cards from every library, in this process and its children."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def planned_device(gpu: str) -> Iterator[None]:
    """Around all that loads models, before the first of them: with `plan.gpu: cpu` no card is to be seen.

    CUDA reads the variable when it is first used, so it is set for a whole command, not for single stages.
    """
    if not means_cpu(gpu):
        yield
        return
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before


def means_cpu(gpu: str) -> bool:
    """Whether `plan.gpu` asks for this machine without its cards (`cpu-32GB` is another machine)."""
    return gpu.strip().lower() == "cpu"
