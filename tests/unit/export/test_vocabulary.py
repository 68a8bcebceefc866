"""Facts about the tokenizer part of the converter."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from holdfast.core.errors import ModelError
from holdfast.export.gguf import convert_to_gguf
from holdfast.export.vocabulary import name_pre_tokenizer, read_vocabulary
from tiny_checkpoint import SPLIT, make_checkpoint, write_tokenizer

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def document(*steps: dict[str, Any], normalizer: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}, "normalizer": normalizer}


def split(regex: str, behavior: str = "Isolated") -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": False}


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([split(SPLIT.replace("DIGITS", r"\p{N}")), BYTES], "qwen2"),
        ([split(SPLIT.replace("DIGITS", r"\p{N}{1,3}")), BYTES], "llama-bpe"),
        ([{"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}], "smollm"),
        ([{**BYTES, "use_regex": True}], "gpt-2"),
    ],
)
def test_known_rules_have_a_name(steps: list[dict[str, Any]], name: str) -> None:
    assert name_pre_tokenizer(Path("t"), document(*steps)) == name


@pytest.mark.parametrize(
    "steps",
    [
        [split(r"\w+"), BYTES],
        [split(SPLIT.replace("DIGITS", r"\p{N}"), "Removed"), BYTES],
        [{**BYTES, "add_prefix_space": True, "use_regex": True}],
        [{"type": "Metaspace"}],
        [],
    ],
)
def test_unknown_rules_are_refused(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(ModelError, match="unknown pre-tokenizer"):
        name_pre_tokenizer(Path("t"), document(*steps))


def test_unknown_normaliser_is_refused() -> None:
    with pytest.raises(ModelError, match="normaliser 'Lowercase'"):
        name_pre_tokenizer(Path("t"), document(BYTES, normalizer={"type": "Lowercase"}))


def test_vocabulary_is_padded_to_the_embedding(tmp_path: Path) -> None:
    ids = write_tokenizer(tmp_path, SPLIT.replace("DIGITS", r"\p{N}"))
    vocabulary = read_vocabulary(tmp_path, 320)
    assert len(vocabulary.tokens) == 320
    assert vocabulary.tokens[-1] == "[PAD319]"
    assert vocabulary.types[-1] == gguf.TokenType.UNUSED
    assert vocabulary.types[ids["<|im_end|>"]] == gguf.TokenType.CONTROL
    assert vocabulary.types[ids["the"]] == gguf.TokenType.NORMAL


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, SPLIT.replace("DIGITS", r"\p{N}"))
    with pytest.raises(ModelError, match="only 100 embeddings"):
        read_vocabulary(tmp_path, 100)


def test_added_token_that_is_not_special_is_user_defined(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, SPLIT.replace("DIGITS", r"\p{N}"))
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 300, "content": "<tool>", "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    vocabulary = read_vocabulary(tmp_path, 320)
    assert (vocabulary.tokens[300], vocabulary.types[300]) == ("<tool>", gguf.TokenType.USER_DEFINED)


def whole_words(folder: Path, digits: str, *, ignore_merges: bool, word: str) -> Path:
    """A tokenizer with one word that no merges make: `word` in place of " an"."""
    write_tokenizer(folder, SPLIT.replace("DIGITS", digits))
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["ignore_merges"] = ignore_merges
    model = document["model"]
    model["vocab"][word] = model["vocab"].pop("\u0120an")
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) != "\u0120an"]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("digits", "ignore_merges", "refused"),
    [
        (
            r"\p{N}{1,3}",
            False,
            r"ignore_merges is false, but with the pre-tokenizer 'llama-bpe' .* 1 of the vocabulary \(' zqz'\)",
        ),
        (r"\p{N}{1,3}", True, ""),
        (
            r"\p{N}",
            True,
            r"ignore_merges is true, but with the pre-tokenizer 'qwen2' .* 1 of the vocabulary \(' zqz'\)",
        ),
        (r"\p{N}", False, ""),
    ],
)
def test_words_that_llama_cpp_would_not_read_as_trained_are_refused(
    digits: str, ignore_merges: bool, refused: str, tmp_path: Path
) -> None:
    folder = whole_words(tmp_path, digits, ignore_merges=ignore_merges, word="\u0120zqz")
    if not refused:
        assert "\u0120zqz" in read_vocabulary(folder, 320).tokens
        return
    with pytest.raises(ModelError, match=refused) as caught:
        read_vocabulary(folder, 320)
    assert f"set ignore_merges to {'false' if ignore_merges else 'true'} in a copy" in caught.value.hint


def test_words_that_no_text_holds_as_one_piece_are_no_reason_to_refuse(tmp_path: Path) -> None:
    folder = whole_words(tmp_path, r"\p{N}{1,3}", ignore_merges=False, word="zq.zq")
    assert "zq.zq" in read_vocabulary(folder, 320).tokens


def test_a_tokenizer_that_is_not_bpe_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, SPLIT.replace("DIGITS", r"\p{N}"))
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"] |= {"type": "Unigram"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="kind 'Unigram'; only BPE"):
        read_vocabulary(tmp_path, 320)


@pytest.mark.parametrize("bos", [True, False])
def test_beginning_token_follows_the_post_processor(tmp_path: Path, bos: bool) -> None:
    folder = make_checkpoint(tmp_path / "m", "llama", bos=bos)
    convert_to_gguf(folder, tmp_path / "m.gguf", name="m")
    assert gguf.GGUFReader(tmp_path / "m.gguf").fields["tokenizer.ggml.add_bos_token"].contents() is bos


def test_missing_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        read_vocabulary(tmp_path, 320)
