"""Balance the domains of the training rows: how often each row is trained on, decided by a temperature."""

from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.dataset.similarity import mix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

# More copies of one row teach the row, not the domain.
MOST_COPIES = 4


class Sampled(NamedTuple):
    """times: how often each row is written (0 = left out); domains: for the report."""

    times: "IntArray"
    domains: list[dict[str, Any]]


def balance(
    domain: "IntArray", names: list[str], ids: "NDArray[np.uint64]", temperature: float, seed: int
) -> Sampled | None:
    """Draw each domain with probability in proportion to rows ** (1 / temperature), keeping the number of rows.

    Temperature 1 changes nothing (None); a high one makes all domains equal (Devlin et al., multilingual BERT; Conneau
    et al. 2020, section 3.1). Deterministic: which rows are left out or copied depends on seed and ids alone. A row is
    there at most MOST_COPIES times, so a very small domain stays below its share.
    """
    import numpy as np

    if temperature == 1 or not len(domain):
        return None
    rows = np.bincount(domain, minlength=len(names))
    weights = np.where(rows > 0, rows.astype(np.float64) ** (1 / temperature), 0.0)
    wanted = np.round(len(domain) * weights / weights.sum()).astype(np.int64)
    wanted = np.minimum(np.maximum(wanted, rows > 0), rows * MOST_COPIES)
    times = np.zeros(len(domain), dtype=np.int64)
    order = np.lexsort((mix(ids, seed), domain))
    ends = np.cumsum(rows)
    for number, end in enumerate(ends.tolist()):
        own = order[end - rows[number] : end]
        if len(own):
            times[own] = wanted[number] // len(own)
            times[own[: wanted[number] % len(own)]] += 1
    counts = [
        {"domain": name, "rows": int(rows[n]), "left_out": int((times[domain == n] == 0).sum()),
         "copies": int(np.maximum(times[domain == n] - 1, 0).sum()), "trained_rows": int(wanted[n])}
        for n, name in enumerate(names)
    ]  # fmt: skip
    return Sampled(times, counts)
