"""The pipeline that is trained: a small tokenizer for operations text, hashed embeddings, a transition-based tagger."""

from __future__ import annotations

import re
from dataclasses import dataclass

import spacy
from spacy.language import Language
from spacy.lookups import Lookups
from spacy.tokenizer import Tokenizer


@dataclass(frozen=True)
class Shape:
    """Size of the network; rows are those of the hashed tables of `attributes`."""

    width: int = 64
    depth: int = 3
    attributes: tuple[str, ...] = ("NORM", "PREFIX", "SUFFIX", "SHAPE")
    rows: tuple[int, ...] = (4000, 500, 2500, 1000)
    window: int = 1
    pieces: int = 2
    hidden: int = 32
    characters: int = 0


def tokenizer(nlp: Language) -> Tokenizer:
    """Splits at spaces and at every mark, save those inside words (O'Brien, Jean-Luc, db-1.internal, snake_case)."""
    return Tokenizer(
        nlp.vocab,
        rules={},
        prefix_search=re.compile(r"^[^\w\s]").search,
        suffix_search=re.compile(r"(?:['’][sS]|[^\w\s])$").search,
        infix_finditer=re.compile(r"[^\w\s'’.\-]|(?<=[a-z0-9])\.(?=[A-Z])").finditer,
        token_match=None,
        url_match=None,
    )


def build(shape: Shape, seed: int, known: dict[str, str]) -> Language:
    """An untrained pipeline; `known` maps spellings to the norm that stands for their class."""
    spacy.util.fix_random_seed(seed)
    nlp = spacy.blank("xx")
    if known:
        lookups = Lookups()
        lookups.add_table("lexeme_norm", known)
        nlp.vocab.lookups = lookups
    nlp.tokenizer = tokenizer(nlp)
    embed: dict[str, object] = {
        "@architectures": "spacy.MultiHashEmbed.v2", "width": shape.width, "attrs": list(shape.attributes),
        "rows": list(shape.rows), "include_static_vectors": False,
    }  # fmt: skip
    if shape.characters:
        embed = {
            "@architectures": "spacy.CharacterEmbed.v2", "width": shape.width, "rows": shape.rows[0],
            "nM": shape.characters, "nC": 8, "include_static_vectors": False, "feature": "NORM",
        }  # fmt: skip
    encode = {
        "@architectures": "spacy.MaxoutWindowEncoder.v2", "width": shape.width, "window_size": shape.window,
        "maxout_pieces": shape.pieces, "depth": shape.depth,
    }  # fmt: skip
    model = {
        "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False,
        "hidden_width": shape.hidden, "maxout_pieces": 2, "use_upper": True,
        "tok2vec": {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode},
    }  # fmt: skip
    ner = nlp.add_pipe("ner", config={"model": model})
    for label in ("PERSON", "ORG", "LOC"):
        ner.add_label(label)
    return nlp
