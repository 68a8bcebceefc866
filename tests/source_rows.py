"""Sound rows of every row format, and ways to write them; for tests of the readers and for fuzzing them."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

from holdfast.core.config import Source
from holdfast.core.records import Example
from holdfast.sources.defects import Defect, SourceReport
from holdfast.sources.readers import read_source

ASK = {"role": "user", "content": "Is pve3 up?"}
YES = {"role": "assistant", "content": "It is."}
HUMAN = {"from": "human", "value": "Is pve3 up?"}
GPT = {"from": "gpt", "value": "It is."}
EVENT = {
    "service": "exchange-api", "signal": "GET", "value": 500, "unit": "ms", "baseline": {"mean": 200, "stddev": 50},
    "context": {"cpu_percent": 12.5, "hour": 14, "weekend": False, "note": "after a deployment"},
}  # fmt: skip
ROWS: dict[str, list[dict[str, Any]]] = {
    "messages": [{"messages": [ASK, YES], "domain": "web"},
                 {"messages": [{"role": "system", "content": "s"}, ASK, YES]}],
    "sharegpt": [{"conversations": [HUMAN, GPT], "system": "Be short."}, {"conversations": [HUMAN, GPT, HUMAN, GPT]}],
    "instruction": [{"instruction": "Classify.", "input": "Disk full", "output": "high", "history": [["a", "b"]]}],
    "prompt_completion": [{"prompt": "Is it up?", "completion": "Yes."}, {"prompt": [ASK], "completion": [YES]}],
    "preference": [
        {"prompt": "Is it up?", "chosen": "Yes, since 9:00.", "rejected": "Maybe."},
        {"chosen": [ASK, YES], "rejected": [ASK, {"role": "assistant", "content": "Perhaps."}]},
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "Perhaps."}},
    ],
    "telemetry": [EVENT, {**EVENT, "baseline": 0, "interpretation": "A cold cache."}],
    "tickets": [{"subject": "Checkout fails", "body": "for all", "priority": "critical", "reason": "no sales"}],
}  # fmt: skip
TICKETS = {
    "instruction": "Classify the ticket.",
    "columns": {"input": ["subject", "body"], "output": ["priority", "reason"]},
}
PAGE = (
    "---\ntitle: Disk Full\n---\n\n# DiskFull\n\n## Meaning\n\nThe disk is full.\n\n"
    "## Mitigation\n\n```\n# df\ndf -h\n```\n"
)
RULES = """groups:
  - name: disks
    interval: 1m
    rules:
      - record: disk:free
        expr: sum(free) by (node)
      - alert: DiskFull
        expr: |
          # how much is left
          disk_free{mount="/"} / disk_size < 0.05
        for: 10m
        labels: {severity: critical}
        annotations:
          summary: The disk of {{ $labels.node }} is full
          runbook_url: https://runbooks.example/disks/diskfull
      - alert: Lonely
        expr: up == 0
"""


def read_all(path: Path | str, name: str = "rows", **options: Any) -> tuple[list[Example], list[Defect], SourceReport]:
    """Everything a source gives."""
    report = SourceReport()
    items = list(read_source(Source.model_validate({"path": str(path), **options}), name, report))
    examples = [item for item in items if isinstance(item, Example)]
    return examples, [item for item in items if isinstance(item, Defect)], report


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    """One row a line."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def as_zst(data: bytes) -> bytes:
    """Data in one Zstandard frame."""
    import pyarrow as pa

    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def as_gzip(data: bytes) -> bytes:
    """Data in gzip."""
    return gzip.compress(data, mtime=0)
