"""Manifests: round trip, damage, versions; products compared by content."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.digest import digest_bytes
from holdfast.core.documents import read_json
from holdfast.core.errors import IntegrityError, UsageError
from holdfast.core.manifest import (
    INTENT,
    MANIFEST,
    Manifest,
    Mismatch,
    describe_products,
    read_intent_key,
    read_manifest,
    verify_products,
    write_intent,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished stage with three products."""
    for name in ("a.txt", "sub/b.txt", "sub/manifest.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    write_intent(tmp_path, "sha256:k")
    write_manifest(tmp_path, manifest_of(tmp_path))
    return tmp_path


def manifest_of(folder: Path) -> Manifest:
    return Manifest(
        stage="train", stage_version=2, key="sha256:k", config={"train": {"learning_rate": 1e-5, "é": None}},
        materials={"prepare/train.jsonl": "sha256:m"}, products=describe_products(folder),
        environment={"gpus": []}, seed=7, started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:01Z",
        seconds=1.25,
    )  # fmt: skip


def change(folder: Path, **values: Any) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({k: v for k, v in (document | values).items() if v is not ...}))


def test_a_manifest_is_read_as_it_was_written(folder: Path) -> None:
    assert read_manifest(folder) == manifest_of(folder)
    assert read_json(folder / MANIFEST)["schema_version"] == 1


def test_products_are_all_files_but_the_intent_and_the_manifest_at_the_top(folder: Path) -> None:
    products = describe_products(folder)
    assert list(products) == ["a.txt", "sub/b.txt", "sub/manifest.json"]
    assert (products["a.txt"].digest, products["a.txt"].size_bytes) == (digest_bytes(b"a.txt"), 5)


def test_a_folder_without_manifest_is_not_finished(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None and read_manifest(tmp_path / "none") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b"\xff", b'{"schema_version": 1}', b"[" * 50000, b"9" * 5000]
)
def test_a_damaged_manifest_is_an_integrity_error(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"manifest\.json is damaged"):
        read_manifest(folder)


@pytest.mark.parametrize("field", ["key", "products", "seed", "environment"])
def test_a_manifest_that_lacks_a_field_is_damaged(folder: Path, field: str) -> None:
    change(folder, **{field: ...})
    with pytest.raises(IntegrityError, match="is damaged"):
        read_manifest(folder)


@pytest.mark.parametrize("version", [0, "1", None])
def test_a_schema_version_that_never_was_is_damage(folder: Path, version: Any) -> None:
    change(folder, schema_version=version)
    with pytest.raises(IntegrityError, match="is damaged"):
        read_manifest(folder)


def test_a_newer_holdfast_is_told_apart_from_damage_so_that_nothing_is_rebuilt(folder: Path) -> None:
    change(folder, schema_version=2)
    with pytest.raises(UsageError, match="newer holdfast: schema_version 2, this one reads 1"):
        read_manifest(folder)


def test_whole_products_have_no_mismatch(folder: Path) -> None:
    assert verify_products(folder, manifest_of(folder)) == []


def test_changed_missing_and_unexpected_products_are_all_named(folder: Path) -> None:
    manifest = manifest_of(folder)
    (folder / "a.txt").write_text("b.txt")  # same size
    (folder / "sub" / "b.txt").unlink()
    (folder / "sub" / "c.txt").write_text("x")
    assert verify_products(folder, manifest) == [
        Mismatch("a.txt", "changed"), Mismatch("sub/b.txt", "missing"), Mismatch("sub/c.txt", "unexpected")
    ]  # fmt: skip


def test_a_product_replaced_by_a_folder_is_missing(folder: Path) -> None:
    manifest = manifest_of(folder)
    (folder / "a.txt").unlink()
    (folder / "a.txt").mkdir()
    assert verify_products(folder, manifest) == [Mismatch("a.txt", "missing")]


def test_an_intent_gives_its_key_back(tmp_path: Path) -> None:
    write_intent(tmp_path, "sha256:abc")
    assert read_intent_key(tmp_path) == "sha256:abc"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 50000])
def test_a_missing_or_damaged_intent_has_no_key(tmp_path: Path, content: bytes) -> None:
    assert read_intent_key(tmp_path) is None
    (tmp_path / INTENT).write_bytes(content)
    assert read_intent_key(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "is missing"), (b"{", "is damaged"), (b"[" * 50000, "is damaged"), (b"[]", "is not a JSON object")],
)
def test_a_document_of_a_stage_that_cannot_be_read_is_an_integrity_error(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=problem):
        read_json(tmp_path / "plan.json")
