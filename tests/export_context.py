"""A run folder that looks as if the stages before export had finished."""

import json
from pathlib import Path

from holdfast.core.config import CollectConfig, ExportConfig, RunConfig, Source
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.records import Example, Message, examples_bytes
from holdfast.core.rundir import RunDir


def make_context(folder: Path, base: Path, adapter: Path) -> StageContext:
    """A run folder that looks as if the stages before export had finished."""
    config = RunConfig(
        name="triage", base_model=str(base), sequence_len=128, collect=CollectConfig(sources=(Source(path="a.jsonl"),)),
        export=ExportConfig(quantizations=("Q4_K_M", "Q8_0")),
    )  # fmt: skip
    run_dir = RunDir(folder)
    inputs = {name: run_dir.stage(name).path for name in ("prepare", "train", "evaluate", "plan")}
    for path in inputs.values():
        path.mkdir(parents=True)
    examples = [
        Example(
            messages=(Message(role="user", content=f"ticket {n}"), Message(role="assistant", content='{"a": 1}')),
            source=f"a.jsonl:{n + 1}",
        )
        for n in range(3)
    ]
    for split in ("train", "valid", "test"):
        (inputs["prepare"] / f"{split}.jsonl").write_bytes(examples_bytes(examples))
    task = {"task": "t", "instruction": "Classify.", "system_prompt": "Be brief."}
    (inputs["prepare"] / "task.json").write_text(json.dumps(task))
    (inputs["evaluate"] / "results.json").write_text(json.dumps({"valid_json": 1.0, "label_accuracy": 0.5, "n": 3}))
    (inputs["plan"] / "plan.json").write_text(json.dumps({"export": {"device": "cpu"}}))
    (inputs["train"] / "adapter").symlink_to(adapter)
    out = run_dir.stage("export")
    out.begin("sha256:key")
    return StageContext(config, out, inputs, Console(quiet=True), run_dir)
