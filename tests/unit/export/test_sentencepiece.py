"""Facts about SentencePiece vocabularies in a GGUF file."""

import contextlib
import json
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ModelError
from holdfast.export.gguf import convert_to_gguf
from holdfast.export.sentencepiece import Piece, _parse
from holdfast.export.vocabulary import read_vocabulary
from tiny_checkpoint import make_checkpoint
from tiny_sentencepiece import MERGES, model_bytes, write_sentencepiece

KINDS = gguf.TokenType


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = make_checkpoint(tmp_path / "m", "llama")
    write_sentencepiece(folder)
    return folder


def change(folder: Path, name: str, **values: object) -> None:
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(document | values))


def test_scores_and_types_come_from_the_model_file(folder: Path) -> None:
    vocabulary = read_vocabulary(folder, 320)
    at = {text: number for number, text in enumerate(vocabulary.tokens)}
    assert vocabulary.scores is not None
    assert [vocabulary.scores[at["".join(m)]] for m in MERGES[:3]] == [0.0, -1.0, -2.0]
    kinds = [KINDS(vocabulary.types[at[t]]) for t in ("<0x0A>", "<s>", "a", "<|im_end|>", "[PAD319]")]
    assert kinds == [KINDS.BYTE, KINDS.CONTROL, KINDS.NORMAL, KINDS.CONTROL, KINDS.UNUSED]


def test_without_the_model_file_the_rank_of_the_merge_is_the_score(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", "llama")
    write_sentencepiece(folder, model_file=False)
    vocabulary = read_vocabulary(folder, 320)
    at = {text: number for number, text in enumerate(vocabulary.tokens)}
    assert vocabulary.scores is not None
    assert [vocabulary.scores[at["".join(m)]] for m in MERGES] == [-float(n) for n in range(len(MERGES))]


def test_metadata_names_the_kind_and_the_leading_space(folder: Path) -> None:
    convert_to_gguf(folder, folder / "m.gguf", name="m")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(folder / "m.gguf").fields.items()}
    assert fields["tokenizer.ggml.model"] == "llama"
    assert "tokenizer.ggml.add_space_prefix" not in fields  # a space is llama.cpp's default
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert "tokenizer.ggml.merges" not in fields


def test_no_leading_space_is_written_down(folder: Path) -> None:
    change(folder, "tokenizer.json", normalizer=None, pre_tokenizer={"type": "Metaspace", "prepend_scheme": "never"})
    convert_to_gguf(folder, folder / "m.gguf", name="m")
    assert gguf.GGUFReader(folder / "m.gguf").fields["tokenizer.ggml.add_space_prefix"].contents() is False


def test_foreign_normaliser_is_refused(folder: Path) -> None:
    change(folder, "tokenizer.json", normalizer={"type": "NFKC"})
    with pytest.raises(ModelError, match="no step 'NFKC'"):
        read_vocabulary(folder, 320)


def test_model_file_of_another_tokenizer_is_refused(folder: Path) -> None:
    words = ["<unk>", "<s>", "</s>", *("x" * n for n in range(1, 314))]
    (folder / "tokenizer.model").write_bytes(model_bytes(words))
    with pytest.raises(ModelError, match="different pieces"):
        read_vocabulary(folder, 320)


def test_cut_off_model_file_is_refused(folder: Path) -> None:
    data = (folder / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="no SentencePiece model"):
        read_vocabulary(folder, 320)


@given(st.binary(max_size=200))
def test_any_bytes_are_pieces_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.model"
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        assert all(isinstance(piece, Piece) for piece in _parse(path))
