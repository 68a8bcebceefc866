"""Train pebble's byte-level BPE on its own corpus and save it in Hugging Face layout.

Run:  python tools/pebble/tokenizer.py OUT_DIR [--documents 200000] [--seed 1000000]
The three special tokens are the last ids: <|endoftext|> = padding, <|im_start|>, <|im_end|> = end of a turn.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import corpus
from shape import CHAT_TEMPLATE, END_OF_TEXT, IM_END, SPECIAL_TOKENS, SPLIT_PATTERN, Shape


def texts(seed: int, count: int) -> Iterator[str]:
    """The words of the corpus without chat markup."""
    for document in corpus.documents(seed, count):
        yield corpus.flat(document)


def train_tokenizer(seed: int, count: int) -> Tokenizer:
    """Train; byte-level BPE always round-trips any text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, unk_token=None))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=Shape().vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(seed, count), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    if tokenizer.get_vocab_size() != Shape().vocab_size:
        raise SystemExit(f"the corpus gave {tokenizer.get_vocab_size()} tokens, wanted {Shape().vocab_size}")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": IM_END, "pad_token": END_OF_TEXT,
        "unk_token": None, "add_bos_token": False, "add_prefix_space": False, "model_max_length": Shape().context,
        "clean_up_tokenization_spaces": False, "split_special_tokens": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1_000_000)
    options = parser.parse_args()
    save_tokenizer(train_tokenizer(options.seed, options.documents), options.folder)


if __name__ == "__main__":
    main()
