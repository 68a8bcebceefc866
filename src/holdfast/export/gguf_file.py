"""A GGUF file's header, read and written as bytes: a vocabulary of 150,000 words is copied, never taken apart.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little endian.
"""

import mmap
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from holdfast.core.errors import ModelError

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
_TEXT, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SIZES = {kind: struct.calcsize(f"<{letter}") for kind, letter in _FORMATS.items()}


class Tensor(NamedTuple):
    """One tensor. `shape` is in ggml's order (columns first), `kind` ggml's type number, `offset` in the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class Header(NamedTuple):
    """`fields`: key → the bytes of key, type and value as they stand in the file. `data`: where the tensors begin."""

    fields: dict[str, bytes]
    tensors: list[Tensor]
    data: int

    def value(self, key: str) -> Any:
        """A number, truth value or text. Raises ModelError when it is not there."""
        raw = self.fields.get(key)
        if raw is None:
            raise ModelError(f"the GGUF file has no {key}", hint="holdfast export -c FILE makes it anew")
        at = 8 + len(key.encode())
        (kind,) = struct.unpack_from("<I", raw, at)
        if kind == _TEXT:
            return raw[at + 12 :].decode()
        return struct.unpack_from(f"<{_FORMATS[kind]}", raw, at + 4)[0]


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file. Raises ModelError for anything else, and for a file that is cut off."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _parse(view)
    except (OSError, ValueError, struct.error, KeyError, IndexError) as error:
        raise ModelError(f"{path} is no readable GGUF file: {error}", hint="holdfast export -c FILE makes it") from None


def write_header(file: IO[bytes], fields: Iterable[bytes], tensors: Iterable[Tensor]) -> None:
    """Write magic, fields and tensor infos, padded so that the data may begin."""
    parts, infos = list(fields), list(tensors)
    file.write(MAGIC + struct.pack("<IQQ", VERSION, len(infos), len(parts)))
    file.writelines(parts)
    for tensor in infos:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        file.write(_packed(tensor.name) + shape + struct.pack("<IQ", tensor.kind, tensor.offset))
    pad(file)


def number_field(key: str, value: int) -> bytes:
    """The bytes of a field with an unsigned 32-bit number."""
    return _packed(key) + struct.pack("<II", 4, value)


def text_field(key: str, value: str) -> bytes:
    """The bytes of a field with a text."""
    return _packed(key) + struct.pack("<I", _TEXT) + _packed(value)


def text_list_field(key: str, values: Sequence[str]) -> bytes:
    """The bytes of a field with a list of texts."""
    return _packed(key) + struct.pack("<IIQ", _ARRAY, _TEXT, len(values)) + b"".join(map(_packed, values))


def pad(file: IO[bytes]) -> None:
    """Zeros up to the next multiple of the alignment."""
    file.write(b"\0" * (-file.tell() % ALIGNMENT))


def aligned(size: int) -> int:
    """`size` rounded up to the alignment."""
    return size + -size % ALIGNMENT


def _packed(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _parse(view: mmap.mmap) -> Header:
    if view[:4] != MAGIC:
        raise ValueError(f"it begins with {view[:4]!r}")
    version, tensors, fields = struct.unpack_from("<IQQ", view, 4)
    if version != VERSION:
        raise ValueError(f"version {version}, known is {VERSION}")
    at = 24
    found: dict[str, bytes] = {}
    for _ in range(fields):
        key, after = _text(view, at)
        end = _skip(view, after + 4, *struct.unpack_from("<I", view, after))
        found[key] = view[at:end]
        at = end
    infos = []
    for _ in range(tensors):
        name, at = _text(view, at)
        (count,) = struct.unpack_from("<I", view, at)
        shape = struct.unpack_from(f"<{count}Q", view, at + 4)
        kind, offset = struct.unpack_from("<IQ", view, at + 4 + 8 * count)
        infos.append(Tensor(name, shape, kind, offset))
        at += 16 + 8 * count
    alignment = _alignment(found)
    if alignment != ALIGNMENT:
        raise ValueError(f"alignment {alignment}, known is {ALIGNMENT}")
    if infos and max(t.offset for t in infos) + aligned(at) >= len(view):
        raise ValueError(f"it is cut off at {len(view)} bytes")
    return Header(found, infos, aligned(at))


def _text(view: mmap.mmap, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", view, at)
    end = at + 8 + length
    if end > len(view):
        raise ValueError("it is cut off in its header")
    return view[at + 8 : end].decode(), end


def _skip(view: mmap.mmap, at: int, kind: int) -> int:
    """Where the value of this type at `at` ends."""
    if kind == _TEXT:
        (length,) = struct.unpack_from("<Q", view, at)
        end: int = at + 8 + length
    elif kind == _ARRAY:
        inner, count = struct.unpack_from("<IQ", view, at)
        end = at + 12
        if inner == _TEXT:
            read = struct.Struct("<Q").unpack_from
            for _ in range(count):
                end += 8 + read(view, end)[0]
        else:
            end += count * _SIZES[inner]
    else:
        end = at + _SIZES[kind]
    if end > len(view):
        raise ValueError("it is cut off in its header")
    return end


def _alignment(fields: Mapping[str, bytes]) -> int:
    raw = fields.get("general.alignment")
    return ALIGNMENT if raw is None else int(struct.unpack_from("<I", raw, len(raw) - 4)[0])
