"""Digests: known values, and no dependence on order, spacing or chunk size."""

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.digest import canonical_json, digest_bytes, digest_document, digest_file, digest_tree
from holdfast.core.manifest import stage_key

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def shuffled(document: Any, seed: int) -> Any:
    if isinstance(document, dict):
        items = list(document.items())
        random.Random(seed).shuffle(items)
        return {key: shuffled(value, seed + 1) for key, value in items}
    return [shuffled(item, seed + 1) for item in document] if isinstance(document, list) else document


def test_the_digest_of_nothing_is_the_published_one() -> None:
    assert digest_bytes(b"") == EMPTY


def test_a_document_has_one_byte_form() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()


@given(JSON, st.integers(0, 9))
def test_the_digest_of_a_document_does_not_depend_on_key_order(document: Any, seed: int) -> None:
    assert digest_document(shuffled(document, seed)) == digest_document(document)


@given(st.dictionaries(TEXT, TEXT), st.dictionaries(TEXT, JSON, max_size=4), st.integers(0, 9))
def test_a_key_does_not_depend_on_the_order_of_materials_or_settings(
    materials: dict[str, str], config: dict[str, Any], seed: int
) -> None:
    key = stage_key("train", 1, config, materials)
    assert stage_key("train", 1, shuffled(config, seed), shuffled(materials, seed)) == key


def test_a_key_depends_on_each_of_its_parts() -> None:
    keys = {
        stage_key("train", 1, {"a": 1}, {"x": "d"}), stage_key("plan", 1, {"a": 1}, {"x": "d"}),
        stage_key("train", 2, {"a": 1}, {"x": "d"}), stage_key("train", 1, {"a": 2}, {"x": "d"}),
        stage_key("train", 1, {"a": 1}, {"x": "e"}), stage_key("train", 1, {"a": 1}, {"y": "d"}),
        stage_key("train", 1, {"a": 1}, {}),
    }  # fmt: skip
    assert len(keys) == 7


def test_the_order_of_a_list_counts() -> None:
    assert digest_document([1, 2]) != digest_document([2, 1])


def test_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_document({"x": float("nan")})


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    assert digest_file(tmp_path / "f") == digest_bytes(data) == "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_tree_is_listed_by_posix_path_whatever_the_order_of_writing(tmp_path: Path) -> None:
    names = ["b", "a/z", "a/b/c", "manifest.json", "a/manifest.json"]
    for folder, order in (("one", names), ("two", names[::-1])):
        for name in order:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(name)
    one = digest_tree(tmp_path / "one", skip=("manifest.json",))
    assert one == digest_tree(tmp_path / "two", skip=("manifest.json",))
    assert list(one) == ["a/b/c", "a/manifest.json", "a/z", "b"]
    assert one["b"] == digest_bytes(b"b")
