"""Facts about the documents that stages hand to each other."""

from pathlib import Path

import pytest

from holdfast.core.documents import deployed_quantization
from holdfast.core.errors import IntegrityError


def test_a_named_quantisation_is_deployed(tmp_path: Path) -> None:
    assert deployed_quantization("Q8_0", tmp_path / "nowhere") == "Q8_0"


def test_auto_deploys_what_verify_chose(tmp_path: Path) -> None:
    (tmp_path / "ladder.json").write_text('{"deploy": "Q5_K_M"}')
    assert deployed_quantization("auto", tmp_path) == "Q5_K_M"


def test_auto_without_a_measurement_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"ladder\.json is missing"):
        deployed_quantization("auto", tmp_path)
