"""Stage plan: does the run fit this machine, and with which settings? Products: plan.json; for training
settings.json and device.json; evaluate.json."""

import json

from holdfast import models
from holdfast.core.context import StageContext
from holdfast.plan.choose import make_plan, refuse_unfit
from holdfast.plan.describe import describe
from holdfast.plan.expected import describe_expected
from holdfast.plan.hardware import probe


def run(context: StageContext) -> None:
    """Plan the run. plan.json is written even when nothing fits, so that it can be looked at.

    Raises DoesNotFitError (exit 21), ConfigError.
    """
    lengths = json.loads((context.inputs["prepare"] / "lengths.json").read_text(encoding="utf-8"))
    valid = lengths.get("valid") or []
    context.config.train.refuse_without_validation(len(valid) if isinstance(valid, list) else int(valid["rows"]))
    folder = models.find_base_model(context.config.base_model)
    plan = make_plan(folder, context.config, lengths, probe(context.out.path))
    context.out.write_json("plan.json", plan)
    refuse_unfit(plan)
    context.out.write_json("settings.json", plan["settings"])
    # All of it that is a material of training: how a batch is cut follows from the memory that is free at the moment.
    context.out.write_json("device.json", {name: plan["settings"][name] for name in ("device", "dtype")})
    context.out.write_json("evaluate.json", {"batch_size": plan["evaluation"]["batch_size"]})
    for line in (describe(plan).splitlines()[0], *describe_expected(plan["expected"])):
        context.console.say(f"  {line}")
    for remark in plan["remarks"]:
        context.console.say(f"  note: {remark}")
