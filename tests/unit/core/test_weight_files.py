"""A model folder with a half-copied file is refused before any work begins."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.core.errors import ModelError
from holdfast.core.weight_files import read_header, require_whole_weights

HEADER = json.dumps({
    "__metadata__": {"format": "pt"}, "a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
    "b": {"dtype": "F16", "shape": [1], "data_offsets": [4, 6]},
}).encode()  # fmt: skip
WHOLE = len(HEADER).to_bytes(8, "little") + HEADER + b"123456"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model-1.safetensors").write_bytes(WHOLE)
    return tmp_path


def test_a_whole_file_gives_its_tensors(folder: Path) -> None:
    assert list(read_header(folder / "model-1.safetensors")) == ["a", "b"]
    require_whole_weights(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
        (WHOLE[:-1], f"is not whole: it has {len(WHOLE) - 1} bytes, its header says {len(WHOLE)}"),
        (WHOLE + b"7", "is not whole"),
        (WHOLE[:40], "header cannot be read"),
        (b"", "header cannot be read"),
        (b"\x02\0\0\0\0\0\0\0[]", "header cannot be read"),
        (b"\xff" * 100, "header cannot be read"),
    ],
)
def test_a_file_that_is_not_whole_is_named(folder: Path, content: bytes, message: str) -> None:
    (folder / "model-1.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="model-1.safetensors") as caught:
        require_whole_weights(folder)
    assert message in caught.value.message and caught.value.hint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(0, len(WHOLE)))
def test_no_content_is_taken_for_a_bug(folder: Path, tail: bytes, kept: int) -> None:
    (folder / "model-1.safetensors").write_bytes(WHOLE[:kept] + tail)
    try:
        read_header(folder / "model-1.safetensors")
    except ModelError:
        assert WHOLE[:kept] + tail != WHOLE


def test_a_shard_that_the_index_names_must_be_there(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "c": "model-2.safetensors"}}')
    with pytest.raises(ModelError, match=r"has no model-2\.safetensors, which model\.safetensors\.index\.json names"):
        require_whole_weights(folder)
    index.write_text("[]")
    with pytest.raises(ModelError, match="cannot be read"):
        require_whole_weights(folder)
