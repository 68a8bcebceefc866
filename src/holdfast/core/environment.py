"""What a stage ran on: recorded in every manifest, never part of a key."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "gguf", "xllamacpp")


@cache
def describe_environment() -> dict[str, Any]:
    """Python, packages, processor, GPU and driver (by nvidia-smi, if there is one), and our own git revision."""
    return {
        "holdfast": _version("holdfast"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gpus": _gpus(),
        "revision": _revision(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _run(*command: str, folder: Path | None = None) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, cwd=folder, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _gpus() -> list[str]:
    text = _run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return text.splitlines() if text else []


def _revision() -> dict[str, Any] | None:
    """Commit and whether the tree is dirty, when holdfast runs from a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    commit = _run("git", "rev-parse", "HEAD", folder=root)
    return {"commit": commit, "dirty": bool(_run("git", "status", "--porcelain", folder=root))} if commit else None
