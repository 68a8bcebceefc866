"""What a stage used and made. The intent is written first, the manifest last: a manifest means "finished".

Two hashes, two jobs. The *key* (from inputs) decides whether a stage may be skipped; the *product digests* (from
outputs) are what the next stage's key is made of and what gets signed. Format: docs/format.md. The words are
in-toto's (https://github.com/in-toto/attestation): materials, products.
"""

import json
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from holdfast.core.digest import canonical_json, digest_document, digest_file, digest_tree
from holdfast.core.errors import IntegrityError, UsageError
from holdfast.core.files import atomic_write

SCHEMA_VERSION: Final = 1
INTENT, MANIFEST = "intent.json", "manifest.json"


class Product(BaseModel):
    """One file that a stage made; the path is relative to the stage's folder, in POSIX form."""

    model_config = ConfigDict(frozen=True)
    digest: str
    size_bytes: int


class Manifest(BaseModel):
    """The record of one finished stage."""

    model_config = ConfigDict(frozen=True)
    schema_version: Literal[1] = SCHEMA_VERSION
    stage: str
    stage_version: int
    key: str
    config: dict[str, Any]
    materials: dict[str, str]
    products: dict[str, Product]
    environment: dict[str, Any]
    seed: int
    started_at: str
    finished_at: str
    seconds: float


class Mismatch(NamedTuple):
    """One file that is not what its manifest says."""

    path: str
    problem: Literal["changed", "missing", "unexpected"]


def stage_key(stage: str, version: int, config: dict[str, Any], materials: dict[str, str]) -> str:
    """Digest of everything that decides a stage's products. Time, host and driver are not in it."""
    return digest_document({"stage": stage, "version": version, "config": config, "materials": materials})


def describe_products(folder: Path) -> dict[str, Product]:
    """Digest and size of every file below a stage's folder except the intent and the manifest."""
    digests = digest_tree(folder, skip=(INTENT, MANIFEST))
    return {name: Product(digest=d, size_bytes=(folder / name).stat().st_size) for name, d in digests.items()}


def write_intent(folder: Path, key: str) -> None:
    """Say what this folder is going to hold, before anything is put into it."""
    atomic_write(folder / INTENT, canonical_json({"schema_version": SCHEMA_VERSION, "key": key}))


def is_begun_otherwise(folder: Path, key: str) -> bool:
    """Whether a stage folder holds unfinished work of another key, which a run with this key would remove."""
    return read_intent_key(folder) not in (None, key) and any(path.name != INTENT for path in folder.iterdir())


def read_intent_key(folder: Path) -> str | None:
    """The key of the stage that began here, or None."""
    try:
        key = json.loads((folder / INTENT).read_bytes())["key"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(key)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest; call it last."""
    text = json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    atomic_write(folder / MANIFEST, text.encode())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished stage, or None when the stage did not finish.

    Raises IntegrityError when there is one that cannot be understood, UsageError when a newer holdfast wrote it.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
        version = document.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UsageError(
                f"{path} was written by a newer holdfast: schema_version {version}, this one reads {SCHEMA_VERSION}",
                hint="use that holdfast, or another run folder; nothing was changed",
            )
        return Manifest.model_validate(document)
    except (ValueError, AttributeError, RecursionError, ValidationError):
        raise IntegrityError(f"{path} is damaged", hint="holdfast run -c FILE rebuilds the stage") from None


def verify_products(folder: Path, manifest: Manifest) -> list[Mismatch]:
    """Compare a stage's folder with its manifest, file by file, by content."""
    found = digest_tree(folder, skip=(INTENT, MANIFEST))
    problems = []
    for path, product in manifest.products.items():
        if path not in found:
            problems.append(Mismatch(path, "missing"))
        elif found[path] != product.digest:
            problems.append(Mismatch(path, "changed"))
    problems += [Mismatch(path, "unexpected") for path in found if path not in manifest.products]
    return sorted(problems)


def require_product(folder: Path, name: str) -> None:
    """Raise IntegrityError unless a product of a finished stage is there and what its manifest says."""
    manifest = read_manifest(folder)
    product = manifest.products.get(name) if manifest else None
    if product is None or not (folder / name).is_file() or digest_file(folder / name) != product.digest:
        raise IntegrityError(
            f"{folder / name} is not the file that was measured",
            hint="holdfast run -c FILE makes and measures it again",
        )


def looks_changed(folder: Path, name: str) -> bool:
    """Whether a product is certainly not what its manifest says. Its bytes are read only when its size or a time later
    than the manifest's gives reason to: what rots on the disk is found by `verify_products`."""
    manifest, path = read_manifest(folder), folder / name
    product = manifest.products.get(name) if manifest else None
    if product is None or not path.is_file() or path.stat().st_size != product.size_bytes:
        return True
    newer = path.stat().st_mtime_ns > (folder / MANIFEST).stat().st_mtime_ns
    return newer and digest_file(path) != product.digest
