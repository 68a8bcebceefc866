"""Which files a source is: a file, a folder or a glob, in one order on every machine; and how they are opened."""

import glob
import io
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from holdfast.core.errors import ContractError, UsageError
from holdfast.core.source_config import Source

ROW_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"})
COMPRESSED = frozenset({".gz", ".zst"})
KINDS = {
    **dict.fromkeys(ROW_SUFFIXES, "rows"),
    **dict.fromkeys((".md", ".markdown"), "runbooks"),
    **dict.fromkeys((".yaml", ".yml"), "yaml"),
    ".pl": "prolog",
}
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Files(NamedTuple):
    """What a path stands for. `base` is the folder that was searched, None when the path is one file.

    left_out: files of a folder that no reader knows, and linked folders, which are not entered.
    """

    files: list[Path]
    base: Path | None
    left_out: list[Path]


def find_files(path: str) -> Files:
    """The files of a file name, a folder (all below it, but hidden ones) or a glob, sorted.

    Raises UsageError when nothing is there, naming the path or pattern.
    """
    place = Path(path)
    if _exists(place):
        if place.is_dir():
            return _walk(place)
        if not place.is_file():
            raise UsageError(f"{path} is neither a file nor a folder", hint="give a regular file")
        return Files([place], None, [])
    if place.is_symlink():
        raise UsageError(f"{path} is a link to {place.readlink()}, which is not there", hint="correct the link")
    if not glob.has_magic(path):
        raise UsageError(f"there is no file or folder {path}", hint="correct the path")
    try:
        found = sorted(map(Path, glob.iglob(path, recursive=True)), key=lambda p: p.parts)  # noqa: PTH207 (any pattern)
    except (OSError, ValueError) as error:  # a pattern with a zero byte, a name too long
        raise UsageError(f"{path!r} cannot be searched: {error}", hint="correct the pattern") from None
    files = [name for name in found if name.is_file()]
    if not files:
        folders = f" ({len(found)} folders do, but a folder is no file; end the pattern in /**/*)" if found else ""
        raise UsageError(f"no file matches the pattern {path}{folders}", hint="correct the pattern")
    fixed = place.parts[: next(n for n, part in enumerate(place.parts) if glob.has_magic(part))]
    return Files(files, Path(*fixed), [])


def source_files(source: Source) -> list[Path]:
    """Every file that a source reads, runbooks beside rules included: the materials of `collect`."""
    files = find_files(source.path).files
    if source.prometheus.runbooks is not None:
        files = files + find_files(source.prometheus.runbooks).files
    return sorted(set(files))


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(place)!r} cannot be looked for: {error}", hint="correct the path") from None


def _walk(folder: Path) -> Files:
    files: list[Path] = []
    left_out: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        left_out += (Path(place) / name for name in folders if (Path(place) / name).is_symlink())
        for name in names:
            file = Path(place) / name
            if not name.startswith(".") and file.is_file():
                (files if kind_of(file) else left_out).append(file)
    if not files:
        known = ", ".join(sorted(KINDS))
        linked = [path for path in left_out if path.is_dir()]
        more = f"; linked folders are not entered, here {linked[0]}" if linked else ""
        raise UsageError(
            f"the folder {folder} holds no file that a reader knows ({known}){more}", hint="correct the path"
        )
    return Files(sorted(files, key=lambda p: p.parts), folder, sorted(left_out, key=lambda p: p.parts))


def kind_of(path: Path) -> str:
    """`rows`, `runbooks`, `yaml`, `prolog`, or empty when the suffix says nothing; `.gz`, `.zst` are skipped."""
    return KINDS.get(inner_suffix(path), "")


def inner_suffix(path: Path) -> str:
    """The suffix before `.gz` or `.zst`, in lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def open_data(raw: BinaryIO, path: Path) -> BinaryIO:
    """A reader of the plain bytes of an open file, whether gzip, Zstandard or neither (told from its first bytes).

    Reading a damaged stream raises OSError, EOFError or zlib.error. Raises ContractError for a file that is named as
    compressed and is not.
    """
    head = raw.read(4)
    raw.seek(0)
    if head.startswith(GZIP):
        import gzip

        return cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
    if head.startswith(ZSTD):
        import pyarrow as pa

        return cast(
            BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"), 1 << 20)
        )
    if path.suffix.lower() in COMPRESSED and head:
        raise ContractError(f"{path} is not a {path.suffix} file: it begins with {head!r}", hint="correct its name")
    return raw


def read_bytes(path: Path, name: str, limit: int) -> bytes:
    """A whole file, unpacked. Raises ContractError when it is damaged or has more than `limit` bytes."""
    try:
        with path.open("rb") as raw:
            data = open_data(raw, path).read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ContractError(f"{name} cannot be read: {error}", hint="copy the file again") from None
    if len(data) > limit:
        raise ContractError(f"{name} has more than {limit >> 20} MiB", hint="split the file")
    return data


def read_text(path: Path, name: str, limit: int) -> str:
    """As `read_bytes`, decoded. Raises ContractError with the line of the first byte that is not UTF-8."""
    data = read_bytes(path, name, limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"{name}:{line}: not UTF-8: byte {data[error.start]:#04x}"
        raise ContractError(what, hint="save the file as UTF-8") from None


def display_names(paths: Sequence[str] | Sequence[Path]) -> list[str]:
    """File names; with as many parent folders before them as it takes to tell two files apart."""
    parts = [Path(path).parts for path in paths]
    names: dict[tuple[str, ...], str] = {}
    left: Iterable[tuple[str, ...]] = set(parts)
    everything = list(left)
    count = 1
    while left:
        ends = Counter(own[-count:] for own in everything)
        done = {own for own in left if ends[own[-count:]] == 1 or count >= len(own)}
        names |= {own: Path(*own[-count:]).as_posix() for own in done}
        left = set(left) - done
        count += 1
    return [names[own] for own in parts]
