"""SHA-256 digests of files, folders and JSON documents, written `sha256:<hex>`."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def digest_bytes(data: bytes) -> str:
    """Digest of bytes in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Digest of a file's content; its size does not matter."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(document: Any) -> bytes:
    """The one byte form of a JSON document: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_document(document: Any) -> str:
    """Digest of a JSON document that does not depend on key order or spacing."""
    return digest_bytes(canonical_json(document))


def digest_tree(folder: Path, skip: Iterable[str] = ()) -> dict[str, str]:
    """Digest of every file below `folder` by POSIX path relative to it; `skip` names files at its top."""
    left_out = set(skip)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    names = {p.relative_to(folder).as_posix(): p for p in files}
    return {name: digest_file(path) for name, path in names.items() if name not in left_out}
