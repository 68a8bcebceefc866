"""A tiny SentencePiece vocabulary (320 entries) for the checkpoints of tiny_checkpoint.py."""

import json
import struct
from pathlib import Path
from typing import Any

from tiny_checkpoint import CHATML, SPECIAL

SPACE = "\u2581"
BASE = ("<unk>", "<s>", "</s>")
LETTERS = (SPACE, *"abcdefghijklmnopqrstuvwxyz0123456789")
MERGES = (
    (SPACE, "t"), ("h", "e"), (SPACE + "t", "he"), ("i", "n"), ("e", "r"), (SPACE, "a"), ("o", "n"), (SPACE, "s"),
    ("t", "i"), ("c", "k"), ("e", "t"), ("ti", "ck"), ("tick", "et"), (SPACE, "ticket"), ("1", "2"), (SPACE, "i"),
    ("u", "s"), ("us", "er"), (SPACE, SPACE), ("l", "o"),
)  # fmt: skip


def write_sentencepiece(folder: Path, *, model_file: bool = True, template: str = CHATML) -> dict[str, int]:
    """Replace the tokenizer of a checkpoint; returns the ids. `model_file`: also write tokenizer.model."""
    words = [*BASE, *(f"<0x{n:02X}>" for n in range(256)), *LETTERS, *("".join(m) for m in MERGES)]
    ids = {word: number for number, word in enumerate([*words, *SPECIAL])}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": ids[text], "content": text, **plain} for text in (*BASE, *SPECIAL)]
    first = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    single, pair = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    document: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, space]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing", "single": [first, single], "pair": [first, single, first, pair],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [ids["<s>"]], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            back, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {word: ids[word] for word in words}, "merges": [list(m) for m in MERGES],
        },
    }  # fmt: skip
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0], "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False, "legacy": True,
        "clean_up_tokenization_spaces": False, "model_max_length": 2048,
        "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in special},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(template)
    if model_file:
        (folder / "tokenizer.model").write_bytes(model_bytes(words))
    config = json.loads((folder / "config.json").read_text())
    config |= {"bos_token_id": ids["<s>"], "eos_token_id": ids[SPECIAL[2]], "pad_token_id": ids[SPECIAL[0]]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return ids


def model_bytes(words: list[str]) -> bytes:
    """A tokenizer.model that the sentencepiece library loads: pieces, a BPE trainer and an identity normaliser."""
    first_merge = len(words) - len(MERGES)
    pieces = b""
    for number, word in enumerate(words):
        kind = 2 if number == 0 else 3 if number < 3 else 6 if number < 259 else 1
        score = -float(number - first_merge) if number >= first_merge else -100.0 if number >= 259 else 0.0
        piece = _bytes(1, word.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)
        pieces += _bytes(1, piece)
    trainer = _number(3, 2) + _number(35, 1) + _number(40, 0) + _number(41, 1) + _number(42, 2)
    normaliser = _bytes(1, b"identity") + _number(3, 1) + _number(4, 0) + _number(5, 1)
    return pieces + _bytes(2, trainer) + _bytes(3, normaliser)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value
