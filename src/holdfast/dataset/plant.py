"""Canaries for the leak audit, as training rows that no check of the data has seen."""

from collections.abc import Sequence
from pathlib import Path

from holdfast.core.canaries import CANARIES_FILE, describe_canaries, draw_canaries, planted_rows
from holdfast.core.context import StageContext
from holdfast.core.records import encode_example


def plant_canaries(context: StageContext, train: Path, system_prompts: Sequence[str]) -> None:
    """Append the canaries to the file of training rows and write canaries.json; nothing unless `audit.enabled`.

    system_prompts: those of the data set; the canaries get it when there is just one.
    """
    audit = context.config.audit
    if not audit.enabled:
        return
    canaries = draw_canaries(audit)
    rows = planted_rows(canaries, system_prompts[0] if len(system_prompts) == 1 else "")
    with train.open("ab") as file:
        file.writelines(encode_example(row) for row in rows)
    context.out.write_json(CANARIES_FILE, describe_canaries(audit, canaries))
    context.console.say(f"  {len(rows)} canary rows planted for the leak audit (audit.enabled)")
