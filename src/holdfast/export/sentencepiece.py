"""The SentencePiece kind of vocabulary (Llama 2, Mistral 7B, TinyLlama): BPE over characters, bytes as a fallback.

llama.cpp joins pieces by score, Hugging Face by the rank of a merge. The scores are read from `tokenizer.model` when it
is there (as llama.cpp's converter does); else the rank of the merge that makes a piece is its score, negated. For a
folder without tokenizer.model llama.cpp's converter writes the same score for every piece, and reads wrong tokens.
Source of the format: google/sentencepiece, src/sentencepiece_model.proto; llama.cpp v0.5.0, conversion/base.py
(_create_vocab_sentencepiece).
"""

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.errors import ModelError

SPACE = "\u2581"  # how a space is written in a piece
PADDING_SCORE, ADDED_SCORE = -10000.0, -1000.0
# types of sentencepiece_model.proto → gguf.TokenType; a user-defined piece counts as normal, as in llama.cpp
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")


class Piece(NamedTuple):
    """One piece: its text, its score (higher joins first), its gguf.TokenType number."""

    text: str
    score: float
    kind: int


def is_sentencepiece(model: Mapping[str, Any]) -> bool:
    """Whether the `model` part of a tokenizer.json is of this kind."""
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def read_pieces(folder: Path, document: Mapping[str, Any], added: Mapping[int, Mapping[str, Any]]) -> dict[int, Piece]:
    """Pieces by id, without the added tokens that stand outside the vocabulary.

    document: parsed tokenizer.json; added: id → its entry in added_tokens. Raises ModelError for a damaged
    tokenizer.model, and for one whose pieces are not those of tokenizer.json.
    """
    words = document["model"]["vocab"]
    path = folder / "tokenizer.model"
    if not path.is_file():
        scores = _merge_scores(document["model"].get("merges") or [])
        return {
            number: Piece(text, scores.get(text, PADDING_SCORE), _kind(text, number, added, document["model"]))
            for text, number in words.items()
        }
    pieces = dict(enumerate(_parse(path)))
    foreign = [n for text, n in words.items() if n in pieces and n not in added and pieces[n].text != text]
    if foreign:
        raise ModelError(
            f"{path} and tokenizer.json have different pieces: {len(foreign)}, for example id {foreign[0]} "
            f"{pieces[foreign[0]].text!r}",
            hint="copy both files from the same source",
        )
    return pieces


def check_normaliser(path: Path, document: Mapping[str, Any]) -> bool | None:
    """Whether a space is put before a text that begins one: True, False, or None when tokenizer.json does not say.

    Raises ModelError for steps that llama.cpp does not have for this kind of vocabulary.
    """
    steps = _steps(document.get("normalizer"), "normalizers") + _steps(document.get("pre_tokenizer"), "pretokenizers")
    prefix: bool | None = False if steps else None
    for step in steps:
        kind = step.get("type")
        if kind == "Prepend" and step.get("prepend") == SPACE:
            prefix = True
        elif kind == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == SPACE:
            continue
        elif kind == "Metaspace" and step.get("replacement", SPACE) == SPACE and not step.get("split"):
            prefix = step.get("prepend_scheme", "always") != "never"
        else:
            raise ModelError(
                f"{path}: llama.cpp has no step {kind!r} for a SentencePiece vocabulary; the served model would read "
                "other tokens than the trained one",
                hint="use a base model of the Llama 2 or Mistral 7B family",
            )
    return prefix


def _merge_scores(merges: list[Any]) -> dict[str, float]:
    """Score of each piece that a merge makes: minus the rank of the first one."""
    scores: dict[str, float] = {}
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        scores.setdefault(left + right, -float(rank))
    return scores


def _kind(text: str, number: int, added: Mapping[int, Mapping[str, Any]], model: Mapping[str, Any]) -> int:
    if _BYTE_PIECE.fullmatch(text):
        return _BYTE
    if text == model.get("unk_token"):
        return _UNKNOWN
    return _CONTROL if added.get(number, {}).get("special") else _NORMAL


def _steps(step: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    if not step:
        return []
    return list(step[inner]) if step.get("type") == "Sequence" else [step]


def _parse(path: Path) -> Iterator[Piece]:
    """Pieces of a tokenizer.model: field 1 of the message, each with text (1), score (2) and type (3)."""
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1 and isinstance(value, bytes):
                text, score, kind = "", 0.0, _NORMAL
                for field, content in _fields(value):
                    if field == 1 and isinstance(content, bytes):
                        text = content.decode()
                    elif field == 2 and isinstance(content, bytes):
                        (score,) = struct.unpack("<f", content)
                    elif field == 3 and isinstance(content, int):
                        kind = content
                yield Piece(text, score, _NORMAL if kind == _USER else kind)
    except (IndexError, ValueError, struct.error) as error:
        raise ModelError(f"{path} is no SentencePiece model: {error}", hint="copy the file again") from None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protocol buffer message: varints as numbers, all else as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + length > len(data):
            raise ValueError(f"cut off at byte {len(data)}")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"number too long at byte {at}")
