"""This machine: what is there, what fits, and the one verb that may use the network."""

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from holdfast import models
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.environment import describe_environment
from holdfast.core.errors import ModelError
from holdfast.core.files import require_new_folder


def doctor(console: Console) -> int:
    """Say whether this machine can do the main job: Python, packages, processor, GPU, memory, disk, runtime, model."""
    from holdfast.plan.hardware import probe

    environment = describe_environment()
    hardware = probe(Path.cwd())
    missing = [name for name, version in environment["packages"].items() if version is None]
    pebble = models.find_base_model("pebble")
    findings = {
        "python": sys.version_info[:2] == (3, 11),
        "packages": not missing,
        "bundled model": len(models.digest_base_model(pebble)) >= 4,
        "a llama.cpp runtime": bool(shutil.which("llama-server") or environment["packages"]["xllamacpp"]),
    }
    document = {
        "ok": all(findings.values()),
        "findings": findings,
        "missing_packages": missing,
        "gpus": environment["gpus"],
        "hardware": asdict(hardware),
        "environment": environment,
    }
    lines = [f"{'ok     ' if good else 'MISSING'} {name}" for name, good in findings.items()]
    lines += [f"gpu     {gpu}" for gpu in environment["gpus"]] or ["gpu     none: training runs on the CPU"]
    lines.append(f"memory  {hardware.ram_available_bytes / 2**30:.1f} GiB free")
    lines.append(f"disk    {hardware.disk_free_bytes / 2**30:.1f} GiB free here")
    lines += [f"missing {name}: pip install -r requirements/run.txt" for name in missing]
    console.result(document, "\n".join(lines))
    return 0 if document["ok"] else 1


def config_schema(console: Console) -> int:
    """Print the JSON Schema of the configuration file."""
    schema = RunConfig.model_json_schema()
    console.result(schema, json.dumps(schema, indent=2))
    return 0


def fetch(model: str, to: Path, console: Console) -> int:
    """Download a model's safetensors, configuration and tokenizer. The only verb that may use the network.

    `to` appears when all is there; until then the files lie beside it, where the same command goes on with them.
    """
    require_new_folder(to)
    part = to.absolute().with_name(f"{to.absolute().name}.{model.replace('/', '--')}.part")
    os.environ["HF_HUB_OFFLINE"] = "0"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot_download(model, local_dir=part, allow_patterns=list(models.MODEL_FILES) + ["LICENSE*", "README.md"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        hint = f"the same command goes on where it stopped; what is there lies in {part}" if part.exists() else ""
        raise ModelError(f"{model} could not be fetched: {error}", hint) from None
    models.find_base_model(str(part))
    part.replace(to)
    console.result(
        {"model": model, "folder": str(to)}, f"{model} is in {to}\nnext: base_model: {to} in the configuration"
    )
    return 0
