"""The digests of the base model are true to its files, and large files are read once."""

from pathlib import Path

import pytest

from holdfast.core import base_model


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    read: list[Path] = []
    digest = base_model.digest_file
    monkeypatch.setattr(base_model, "digest_file", lambda path: read.append(path) or digest(path))
    before = base_model.digest_base_model(tmp_path)
    assert base_model.digest_base_model(tmp_path) == before
    assert len(read) == 1
    (tmp_path / "config.json").write_text("[]")
    assert base_model.digest_base_model(tmp_path) != before
    assert len(read) == 2
