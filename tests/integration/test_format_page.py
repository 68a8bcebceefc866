"""docs/format.md names every field of every document that a real run wrote."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from small_run import SmallRun

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
NOT_OURS = {"trainer_log.jsonl", "intent.json", "manifest.json", "general.jsonl"}  # rows of TRL; sections of their own


def rows_of_the_page() -> dict[str, str]:
    """File name → its row in the table of products."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {name: row for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def documents(run: Path) -> Iterator[tuple[Path, dict[str, object]]]:
    """Every JSON document of a run, and the first row of every JSONL file."""
    for path in sorted(run.glob("[0-9][0-9]-*/*.json*")):
        if path.name not in NOT_OURS:
            text = path.read_text(encoding="utf-8")
            yield path, json.loads(text.splitlines()[0] if path.suffix == ".jsonl" else text)


def test_every_field_of_a_run_is_on_the_page(small: SmallRun) -> None:
    rows = rows_of_the_page()
    missing = []
    for path, document in documents(small.folder):
        row = rows.get("samples-*.jsonl" if path.name.startswith("samples-") else path.name, "")
        missing += [f"{path.parent.name}/{path.name}: {name}" for name in document if f"`{name}`" not in row]
    assert not missing
