"""report.json: what was found in the data, with the first examples of each finding and the count of all."""

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.config import RunConfig
from holdfast.core.records import SPLITS, Split
from holdfast.dataset.audit import Tally, summarise
from holdfast.dataset.columns import in_order_of_id, parts
from holdfast.dataset.divide import Divided, strata_of
from holdfast.dataset.lengths import Fitted
from holdfast.dataset.repeats import describe_known_answers
from holdfast.dataset.sampling import Sampled
from holdfast.dataset.similarity import Pair
from holdfast.dataset.split import TEST, TRAIN
from holdfast.dataset.table import Lookup

if TYPE_CHECKING:
    from holdfast.dataset.extend import Extension

SHOWN_PAIRS = 50
# Dropped rows that are named; all are counted.
NAMED = 1000


class Prepared(NamedTuple):
    """All that the report tells. trained: train and valid together."""

    divided: Divided
    sampled: Sampled | None
    fitted: dict[Split, Fitted]
    trained: Tally
    extension: "Extension"


def describe(config: RunConfig, prepared: Prepared, lookup: Lookup) -> dict[str, Any]:
    """The report without contract and warnings."""
    import numpy as np

    divided = prepared.divided
    dropped = divided.dropped
    groups = divided.groups
    sizes = np.zeros(0) if groups is None else np.bincount(groups[divided.splits >= 0])
    threshold = config.prepare.near_duplicate_threshold
    kept = {name: len(prepared.fitted[name].tally.tokens) for name in SPLITS}
    return {
        "rows": {"read": len(divided.table), **kept},
        "violations": [],
        "duplicates": {
            "exact_dropped_rows": len(dropped.rows),
            "exact_dropped": [
                {"dropped": lookup[row].source, "kept": lookup[kept_row].source}
                for row, kept_row in zip(dropped.rows[:NAMED].tolist(), dropped.kept[:NAMED].tolist(), strict=True)
            ],
            "near_pairs": divided.near_count,
            "near_groups": int((sizes > 1).sum()),
            "threshold": threshold,
            "method": divided.grouping_method,
            "examples": [_show(divided, pair, lookup) for pair in divided.near.select(slice(SHOWN_PAIRS))],
        },
        "split_proof": _describe_proof(config, divided, lookup),
        "sampling": {
            "temperature": config.prepare.sampling_temperature,
            "balance_by": config.prepare.balance_by,
            "domains": prepared.sampled.domains if prepared.sampled else [],
        },
        "fit": {
            "on_too_long": config.prepare.on_too_long,
            "sequence_len": config.sequence_len,
            "split_conversations": sum(fitted.divided for fitted in prepared.fitted.values()),
            "parts": sum(fitted.parts for fitted in prepared.fitted.values()),
            "dropped": sum(fitted.dropped for fitted in prepared.fitted.values()),
        },
        "token_audit": {
            **summarise(prepared.trained),
            "dropped_too_long": sorted(name for f in prepared.fitted.values() for name in f.dropped_rows)[:NAMED],
            "splits": {name: summarise(prepared.fitted[name].tally) for name in SPLITS},
            "example": prepared.fitted["train"].sample,
        },
    }


def _describe_proof(config: RunConfig, divided: Divided, lookup: Lookup) -> dict[str, Any]:
    import numpy as np

    closest = [pair for pair in divided.proof.values() if pair]
    kept = divided.splits >= 0
    fixed = sum(
        (np.bincount(own[kept[place]], minlength=4) for place, (own,) in parts(divided.table.rows, "fixed")),
        start=np.zeros(4, dtype=np.int64),
    ).tolist()
    strata = strata_of(divided)
    labels: dict[str, dict[str, int]] = {name: {} for name in SPLITS}
    domains: dict[str, dict[str, int]] = {name: {} for name in SPLITS}
    for stratum, counts in strata:
        for name, count in counts.items():
            if count:
                labels[name][stratum.label] = labels[name].get(stratum.label, 0) + count
                domains[name][stratum.domain] = domains[name].get(stratum.domain, 0) + count
    return {
        "largest": _show(divided, max(closest, key=lambda p: p.similarity), lookup) if closest else None,
        "by_splits": {name: _show(divided, pair, lookup) if pair else None for name, pair in divided.proof.items()},
        "method": divided.proof_method,
        "threshold": config.prepare.near_duplicate_threshold,
        "groups": int(kept.sum()) if divided.groups is None else len(np.unique(divided.groups[kept])),
        "split_by": config.prepare.split_by,
        "seed": config.seed,
        "digest": split_digest(divided),
        "fixed_rows": {name: fixed[1 + place] for place, name in enumerate(SPLITS) if fixed[1 + place]},
        "labels": {name: dict(sorted(found.items())) for name, found in labels.items()},
        "domains": {name: dict(sorted(found.items())) for name, found in domains.items()},
    }


def split_digest(divided: Divided) -> str:
    """Digest of which row is in which split, whatever the order of the rows."""
    digest = hashlib.sha256()
    for ids, _ in in_order_of_id(divided.table.rows, divided.splits):
        digest.update(ids.astype("<u8").tobytes())
    for _, splits in in_order_of_id(divided.table.rows, divided.splits):
        digest.update(splits.tobytes())
    return f"sha256:{digest.hexdigest()}"


def find_warnings(config: RunConfig, prepared: Prepared, lookup: Lookup, few: int) -> list[str]:
    """What the user should look at."""
    divided, fitted = prepared.divided, prepared.fitted
    found = [
        f"only {len(fitted[name].tally.tokens)} rows in {name}; below {few} a score says little"
        for name in SPLITS
        if len(fitted[name].tally.tokens) < few
    ]
    limit = config.sequence_len
    if dropped := sum(f.dropped for f in fitted.values()):
        found.append(f"{dropped} rows longer than sequence_len {limit} were dropped")
    if parted := sum(f.divided for f in fitted.values()):
        parts = sum(f.parts for f in fitted.values())
        found.append(f"{parted} conversations longer than sequence_len {limit} were split into {parts} at turn borders")
    if pairs := sum(f.tally.pairs for f in fitted.values()):
        found.append(
            f"{pairs} preference row{'s' if pairs > 1 else ''}: only the chosen answer is trained and scored; the "
            "rejected one stays in the row and is not used"
        )
    across = divided.near.select(divided.splits[divided.near.a] != divided.splits[divided.near.b])
    for pair in across.select(slice(1)):
        a, b = lookup[pair.a].source, lookup[pair.b].source
        found.append(
            f"{len(across)} near duplicates across splits, for example {a} and {b} ({pair.similarity:.2f}); "
            "the validation loss looks better than it is"
        )
    found += describe_known_answers(divided, lookup)
    test = fitted["test"].tally
    if test.long:
        found.append(f"{test.long} test rows are longer than sequence_len {limit}, for example {test.long_rows[0][0]}")
    tested = {s.domain for s, counts in strata_of(divided) if counts[SPLITS[TEST]]}
    untested = sorted({s.domain for s, counts in strata_of(divided) if counts[SPLITS[TRAIN]]} - tested)
    if untested and tested != {""}:
        names = ", ".join(name or "(no domain)" for name in untested[:10])
        found.append(f"{len(untested)} domain{'s' if len(untested) > 1 else ''} without a test row: {names}")
    return found


def _show(divided: Divided, pair: Pair, lookup: Lookup) -> dict[str, Any]:
    return {
        "similarity": round(pair.similarity, 4),
        "a": lookup[pair.a].source,
        "b": lookup[pair.b].source,
        "splits": [SPLITS[int(divided.splits[row])] for row in (pair.a, pair.b)],
    }
