"""Rows to their split files, line by line, without holding them."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.records import SPLITS, Example, Split, encode_example
from holdfast.core.rundir import StageFolder
from holdfast.dataset.divide import Divided
from holdfast.dataset.sampling import Sampled, balance
from holdfast.dataset.split import TRAIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LINES_AT_ONCE = 10_000


def write_splits(path: Path, divided: Divided, temperature: float, seed: int, work: Path) -> Sampled | None:
    """Write `work/<split>.jsonl` from examples.jsonl; training rows as often as `balance` says, copies tagged."""
    import numpy as np

    sampled = _balance(divided, temperature, seed)
    times = None
    if sampled is not None:
        times = np.ones(len(divided.splits), dtype=np.int8)
        times[divided.splits == TRAIN] = sampled.times
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        source = stack.enter_context(path.open("rb"))
        files = [stack.enter_context((work / f"{split}.jsonl").open("wb")) for split in SPLITS]
        for begin in range(0, len(divided.splits), LINES_AT_ONCE):
            splits = divided.splits[begin : begin + LINES_AT_ONCE].tolist()
            counts = repeat(1) if times is None else times[begin : begin + LINES_AT_ONCE].tolist()
            parts: list[list[bytes]] = [[], [], []]
            for split, count, line in zip(splits, counts, source, strict=False):
                if split < 0 or not count:
                    continue
                parts[split].append(line)
                if count > 1:
                    parts[split] += _copies(line, count)
            for file, part in zip(files, parts, strict=True):
                file.writelines(part)
    return sampled


def write_fitted(out: StageFolder, path: Path, split: Split, texts: "Iterator[NDArray[np.uint8] | None]") -> None:
    """The product `<split>.jsonl`: the file as it was written, with the shards that changed in their place."""
    from holdfast.core.shards import cut

    with out.writing(f"{split}.jsonl") as temporary:
        first = list(islice(texts, 1))
        if not first:
            path.replace(temporary)
            return
        with path.open("rb") as source, temporary.open("wb") as file:
            for part, text in zip(cut(path), chain(first, texts), strict=True):
                source.seek(part.begin)
                file.write(source.read(part.end - part.begin) if text is None else text.tobytes())


def _copies(line: bytes, count: int) -> Iterator[bytes]:
    example = msgspec.json.decode(line, type=Example)
    for copy in range(2, count + 1):
        yield encode_example(msgspec.structs.replace(example, tags={**example.tags, "copy": copy}))


def _balance(divided: Divided, temperature: float, seed: int) -> Sampled | None:
    import numpy as np

    if temperature == 1:
        return None
    chosen = divided.splits == TRAIN
    stratum, ids = divided.table.rows["stratum"][chosen], divided.table.rows["id"][chosen]
    strata = divided.table.strata
    names = sorted({stratum.domain for stratum in strata.values()})
    numbers = np.array(sorted(strata), dtype=np.uint64)
    domains = np.array([names.index(strata[int(number)].domain) for number in numbers], dtype=np.int64)
    domain = domains[np.searchsorted(numbers, stratum)]
    return balance(domain, names, ids, temperature, seed)
