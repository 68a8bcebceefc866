"""What stage plan chose for the stages that ask the models (evaluate.json)."""

from pathlib import Path

from holdfast.core.config import EvaluateConfig, RunConfig
from holdfast.core.documents import read_json

FILE = "evaluate.json"


def answering(config: RunConfig, plan: Path) -> EvaluateConfig:
    """How items are answered, with as many at once as the plan found room for. plan: the folder of that stage; in one
    of an older version the configuration alone says it."""
    if not (plan / FILE).is_file():
        return config.evaluate
    planned = max(1, int(read_json(plan / FILE).get("batch_size", 1)))
    return config.evaluate.model_copy(update={"batch_size": min(config.evaluate.batch_size, planned)})


def merged_fits(plan: Path) -> bool:
    """Whether there is room for the merged 16-bit model in transformers. It is one rung more, and no reason to do a
    finished stage again: so it does not stand in FILE."""
    return bool(read_json(plan / "plan.json").get("evaluation", {}).get("merged"))
