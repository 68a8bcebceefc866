"""`fetch` leaves either a whole model folder or nothing under that name."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from holdfast.core.console import Console
from holdfast.core.errors import ModelError, UsageError
from holdfast.operations.machine import fetch

FILES = ("config.json", "tokenizer.json", "model.safetensors")


def hub(files: tuple[str, ...], error: Exception | None = None) -> Any:
    def download(model: str, local_dir: Path, allow_patterns: list[str]) -> None:
        local_dir.mkdir(exist_ok=True)
        for name in files:
            (local_dir / name).write_text("{}")
        if error is not None:
            raise error

    return download


def test_a_broken_download_is_not_taken_for_a_model_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")  # put back at the end
    to = tmp_path / "model"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub(FILES[:2], ConnectionError("cut off")))
    with pytest.raises(ModelError, match="could not be fetched: cut off") as caught:
        fetch("some/model", to, Console(quiet=True))
    assert not to.exists() and str(tmp_path / "model.some--model.part") in caught.value.hint
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub(FILES))
    assert fetch("some/model", to, Console(quiet=True)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    with pytest.raises(UsageError, match="is not empty"):
        fetch("some/model", to, Console(quiet=True))
