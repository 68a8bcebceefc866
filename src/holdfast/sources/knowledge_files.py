"""Which files a knowledge base is made of."""

from pathlib import Path

from holdfast.core.config import Source
from holdfast.core.errors import UsageError


def knowledge_files(source: Source) -> list[Path]:
    """The files that a source of format `prolog` or `knowledge` is made of. Raises UsageError when there is none."""
    path = Path(source.path)
    files = sorted(path.glob("*.pl")) if path.is_dir() and source.format == "prolog" else [path]
    if not files or not files[0].is_file():
        kind = "no .pl file in" if path.is_dir() else "no file"
        raise UsageError(f"there is {kind} {path}", hint="correct the path of the source")
    return files
