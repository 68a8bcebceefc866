"""The tokenizer part of a GGUF file, straight from tokenizer.json.

Byte-level BPE is here, SentencePiece vocabularies in sentencepiece.py.

llama.cpp does not read the pre-tokenizer's rules from the file; it has them built in under a name. The name is
found by comparing the rules in tokenizer.json with the known ones, exactly. Source of names and rules: llama.cpp
v0.5.0, src/llama-vocab.cpp (llm_tokenizer_bpe) and conversion/base.py (get_vocab_base).
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.errors import ModelError
from holdfast.export.sentencepiece import (
    ADDED_SCORE,
    PADDING_SCORE,
    check_normaliser,
    is_sentencepiece,
    read_pieces,
)

if TYPE_CHECKING:
    from gguf import GGUFWriter

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Steps of the pre-tokenizer → llama.cpp's name for them. "bytes:gpt2" is ByteLevel with its own (GPT-2) regex.
PRE_TOKENIZERS: dict[tuple[str, ...], str] = {
    (_WORDS + r"\p{N}" + _REST, "bytes"): "qwen2",
    (_WORDS + r"\p{N}{1,3}" + _REST, "bytes"): "llama-bpe",
    (_TEKKEN, "bytes"): "tekken",
    ("digits", "bytes:gpt2"): "smollm",
    ("bytes:gpt2",): "gpt-2",
}
# With these llama.cpp takes a piece of text that is a word of the vocabulary whole; with the others it merges letters.
WHOLE_WORDS = frozenset({"llama-bpe", "tekken"})


class Vocabulary(NamedTuple):
    """Tokens in the order of their ids, gguf.TokenType of each, and llama.cpp's name of the pre-tokenizer.

    For SentencePiece also `scores`, and whether a text begins with a `space` (None = nobody says).
    """

    tokens: list[str]
    types: list[int]
    pre: str
    scores: list[float] | None = None
    space: bool | None = None


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Read tokenizer.json and pad the vocabulary with unused tokens up to `size` (the rows of the embedding).

    Raises ModelError for a tokenizer that is neither byte-level BPE nor SentencePiece BPE, whose pre-tokenizer or
    normaliser llama.cpp does not have, whose words it would read otherwise, or that has more tokens than the embedding
    has rows.
    """
    from gguf import TokenType

    path = folder / "tokenizer.json"
    document = read_object(path)
    model = document.get("model") or {}
    added = _added_tokens(folder, document)
    if is_sentencepiece(model):
        _check_size(path, [*model["vocab"].values(), *added], size)
        return _read_sentencepiece(folder, document, added, size)
    _check_kind(path, model)
    pre = name_pre_tokenizer(path, document)
    check_merges(path, document, pre)
    words = {number: word for word, number in model["vocab"].items()}
    _check_size(path, [*words, *added], size)
    tokens, types = [], []
    for number in range(size):
        if number in added:
            text, kind = _added(added[number])
            tokens.append(text)
            types.append(kind)
        elif number in words:
            tokens.append(words[number])
            types.append(int(TokenType.NORMAL))
        else:
            tokens.append(f"[PAD{number}]")
            types.append(int(TokenType.UNUSED))
    return Vocabulary(tokens, types, pre)


def _read_sentencepiece(
    folder: Path, document: dict[str, Any], added: dict[int, dict[str, Any]], size: int
) -> Vocabulary:
    """Pieces, then what added_tokens.json and tokenizer_config.json change: llama.cpp's order."""
    from gguf import TokenType

    space = check_normaliser(folder / "tokenizer.json", document)
    settings = read_object(folder / "tokenizer_config.json")
    tokens = [f"[PAD{number}]" for number in range(size)]
    types, scores = [int(TokenType.UNUSED)] * size, [PADDING_SCORE] * size
    for number, piece in read_pieces(folder, document, added).items():
        if number < size:
            tokens[number], scores[number], types[number] = piece.text, piece.score, piece.kind
    has_decoder = bool(settings.get("added_tokens_decoder"))
    for number, token in added.items():
        if has_decoder or types[number] == int(TokenType.UNUSED):
            tokens[number], types[number] = _added(token)
            scores[number] = ADDED_SCORE
    stated = settings.get("add_prefix_space")
    # llama.cpp's default is a space; its converter writes the key only when tokenizer_config.json has it.
    return Vocabulary(tokens, types, "default", scores, stated if stated is not None else space and None)


def _added_tokens(folder: Path, document: dict[str, Any]) -> dict[int, dict[str, Any]]:
    added = {t["id"]: t for t in document.get("added_tokens") or []}
    for number, token in (read_object(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}).items():
        added.setdefault(int(number), token)
    return added


def _added(token: dict[str, Any]) -> tuple[str, int]:
    """Text and gguf.TokenType of an added token."""
    from gguf import TokenType

    if token.get("special") or _looks_special(token):
        return token["content"], int(TokenType.CONTROL)
    return token["content"].replace("\u2581", " "), int(TokenType.USER_DEFINED)


def _check_size(path: Path, numbers: list[int], size: int) -> None:
    if max(numbers) >= size:
        raise ModelError(
            f"{path} has a token with id {max(numbers)}, but the model has only {size} embeddings (vocab_size)",
            hint="the tokenizer does not belong to this model: copy both from the same source",
        )


def add_vocabulary(writer: "GGUFWriter", folder: Path, size: int) -> None:
    """Write the tokenizer's metadata: tokens, merges, special tokens and the chat template.

    `add_bos_token` is always written: without it llama.cpp takes the pre-tokenizer's default, which for `llama-bpe`
    puts a BOS before every prompt although the Hugging Face tokenizer does not. A plain byte-level post-processor
    adds nothing, whatever tokenizer_config.json says.
    """
    from gguf import SpecialVocab

    vocabulary = read_vocabulary(folder, size)
    if vocabulary.scores is not None and vocabulary.space is not None:
        writer.add_add_space_prefix(vocabulary.space)
    writer.add_tokenizer_model("gpt2" if vocabulary.scores is None else "llama")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    # It remarks on how pairs of texts are joined, which no conversation is.
    logging.getLogger("gguf.vocab").setLevel(logging.ERROR)
    special = SpecialVocab(folder, load_merges=vocabulary.scores is None, n_vocab=size)
    processor = read_object(folder / "tokenizer.json").get("post_processor") or {}
    if processor.get("type") == "ByteLevel":
        special.add_special_token |= {"bos": False, "eos": False}
    special.add_special_token.setdefault("bos", False)
    special.add_to_gguf(writer, quiet=True)


def name_pre_tokenizer(path: Path, document: dict[str, Any]) -> str:
    """llama.cpp's name for the splitting rules of a parsed tokenizer.json; ModelError when it has no such rules."""
    normaliser = document.get("normalizer")
    if normaliser is not None and normaliser.get("type") != "NFC":
        raise ModelError(
            f"{path}: llama.cpp has no normaliser {normaliser.get('type')!r} for BPE (known: none, NFC); "
            "the served model would read other tokens than the trained one",
            hint="use a base model of the Qwen2, Qwen3, Llama 3, SmolLM or Mistral-Nemo family",
        )
    steps = tuple(_steps(document.get("pre_tokenizer") or {}))
    if steps in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[steps]
    raise ModelError(
        f"{path}: unknown pre-tokenizer {' + '.join(steps) or 'none'} "
        f"(known: {', '.join(PRE_TOKENIZERS.values())}); with a wrong one other tokens are read than were trained",
        hint="use a base model of the Qwen2, Qwen3, Llama 3, SmolLM or Mistral-Nemo family",
    )


def check_merges(path: Path, document: dict[str, Any], pre: str) -> None:
    """Raise ModelError when words of the vocabulary are read whole on one side and merged from letters on the other.

    That is `ignore_merges` of tokenizer.json against llama.cpp's rule for `pre`; it matters for words that no merges
    make (Llama 3 has some hundred), and only they are counted.
    """
    whole = pre in WHOLE_WORDS
    if bool(document["model"].get("ignore_merges")) == whole or not (words := _unmerged_words(document)):
        return
    shown = ", ".join(map(repr, words[:3])) + (", …" if len(words) > 3 else "")
    rule = "takes words of the vocabulary whole" if whole else "makes every word by merges"
    given, needed = ("false", "true") if whole else ("true", "false")
    raise ModelError(
        f"{path}: ignore_merges is {given}, but with the pre-tokenizer {pre!r} llama.cpp {rule}: {len(words)} of the "
        f"vocabulary ({shown}) would be served as other tokens than were trained",
        hint=f"where the publisher's own tokenizer.json says so, set ignore_merges to {needed} in a copy of the "
        "model's folder; else use another base model",
    )


def _unmerged_words(document: dict[str, Any]) -> list[str]:
    """Words of a byte-level vocabulary that a text can hold as one piece and that merges do not make into one token."""
    from tokenizers import Tokenizer, decoders

    model = {**document["model"], "ignore_merges": False}
    tokenizer = Tokenizer.from_str(json.dumps({**document, "model": model}))
    added = {token["content"] for token in document.get("added_tokens") or []}
    found = []
    for word in model["vocab"]:
        if word in added or len(tokenizer.model.tokenize(word)) == 1:
            continue
        text = decoders.ByteLevel().decode([word])
        if [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)] == [word]:
            found.append(text)
    return found


def _check_kind(path: Path, model: dict[str, Any]) -> None:
    if model.get("type") != "BPE":
        raise ModelError(
            f"{path}: tokenizer of kind {model.get('type')!r}; only BPE (byte-level or SentencePiece) can be converted",
            hint="use a base model of the Qwen2, Qwen3, Llama, SmolLM or Mistral family",
        )


def _steps(step: dict[str, Any]) -> list[str]:
    """Flatten a pre-tokenizer into one string a step; what is unknown becomes its JSON, which matches nothing."""
    kind = step.get("type")
    if kind == "Sequence":
        return [text for inner in step["pretokenizers"] for text in _steps(inner)]
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        regex = step["pattern"].get("Regex")
        if regex is not None:
            return [str(regex)]
    if kind == "Digits" and step.get("individual_digits"):
        return ["digits"]
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return ["bytes:gpt2" if step.get("use_regex", True) else "bytes"]
    return [json.dumps(step, ensure_ascii=False)] if step else []


def _looks_special(token: dict[str, Any]) -> bool:
    """Some models leave control tokens unmarked; llama.cpp's converter goes by their look, so do we."""
    text = token["content"]
    pairs = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(
        text.startswith(left) and text.endswith(right) for left, right in pairs
    )


def read_object(path: Path) -> dict[str, Any]:
    """A tokenizer's file. Raises ModelError when it is not there, or no JSON object."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"there is no {path}", hint="copy the tokenizer files of the base model too") from None
    except ValueError as error:
        raise ModelError(
            f"the tokenizer in {path.parent} cannot be read: {path.name} is not JSON: {error}",
            hint="copy the file again, or fetch the whole model: holdfast fetch MODEL --to DIR",
        ) from None
    if not isinstance(document, dict):
        raise ModelError(
            f"{path} is not a JSON object",
            hint="copy the file again, or fetch the whole model: holdfast fetch MODEL --to DIR",
        )
    return document
