"""People, organisations and places in text: the bundled spaCy pipeline, another one, or Presidio. Never downloads.

spaCy is MIT-licensed. The bundled pipeline was trained by `tools/ner` on text made there; its card, with what it finds
and misses, is `names_model/README.md`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.digest import digest_tree
from holdfast.core.documents import read_json
from holdfast.core.errors import ConfigError, IntegrityError
from holdfast.redact.spans import RANKS, Span

if TYPE_CHECKING:
    from spacy.language import Language

BUNDLED = Path(__file__).parent / "names_model"
RECORD = "record.json"
PRESIDIO_INSTALL = "pip install presidio-analyzer==2.2.366"
BATCH_TEXTS = 256  # texts that the pipeline computes together
ZONE_TEXTS = 4096  # texts after which spaCy forgets the words it met, so that memory stays flat
CHUNK = 1000  # characters; longer texts are cut at line, sentence or word borders
# Labels of spaCy pipelines in several languages and of Presidio; others are not names.
LABELS = {
    "PERSON": "PERSON", "PER": "PERSON", "ORG": "ORG", "ORGANIZATION": "ORG", "LOC": "PLACE", "LOCATION": "PLACE",
    "GPE": "PLACE", "FAC": "PLACE",
}  # fmt: skip
# Pipes that find no names; skipping them makes a general pipeline several times as fast.
UNUSED_PIPES = ("tagger", "morphologizer", "parser", "senter", "attribute_ruler", "lemmatizer", "trainable_lemmatizer")
PRESIDIO_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TAKEN = re.compile(r"<[A-Z][A-Z0-9_]*_\w+>")  # a placeholder is not a name
_EDGE = re.compile(r"^[\W_]+|[^\w.)]+$")


def find_names(texts: Sequence[str], model: str) -> Iterator[list[Span]]:
    """The names in each text, in order of the texts, as sorted spans that do not overlap.

    model: "bundled", "presidio", or the folder of a spaCy pipeline. Raises ConfigError when it cannot be used,
    IntegrityError when a bundled file was changed.
    """
    if model == "presidio":
        yield from _presidio(texts)
        return
    nlp = _pipeline(model)
    for first in range(0, len(texts), ZONE_TEXTS):
        yield from _zone(nlp, texts[first : first + ZONE_TEXTS])


def pieces(text: str) -> list[tuple[int, str]]:
    """The text in pieces of at most CHUNK characters, each with its place; together they are the text."""
    found = []
    start = 0
    while len(text) - start > CHUNK:
        window = text[start + CHUNK // 2 : start + CHUNK]
        cut = max((window.rfind(mark) + len(mark) for mark in ("\n", ". ") if mark in window), default=0)
        end = start + CHUNK // 2 + (cut or window.rfind(" ") + 1 or len(window))
        found.append((start, text[start:end]))
        start = end
    return [*found, (start, text[start:])]


def _zone(nlp: "Language", texts: Sequence[str]) -> list[list[Span]]:
    spans: list[list[Span]] = [[] for _ in texts]
    parts = [
        (piece, (row, start)) for row, text in enumerate(texts) if text for start, piece in pieces(_encodable(text))
    ]
    with nlp.memory_zone():
        for doc, (row, start) in nlp.pipe(parts, as_tuples=True, batch_size=BATCH_TEXTS):
            spans[row] += [
                Span(start + e.start_char, start + e.end_char, LABELS[e.label_]) for e in doc.ents if e.label_ in LABELS
            ]
    return [clean(text, found) for text, found in zip(texts, spans, strict=True)]


def clean(text: str, spans: Iterable[Span]) -> list[Span]:
    """The spans without marks at their ends, none that has no letter, none inside a placeholder."""
    taken = [match.span() for match in _TAKEN.finditer(text)] if "<" in text else []
    kept = []
    for span in spans:
        value = text[span.start : span.end]
        if edges := _EDGE.search(value):
            head = edges.end() if edges.start() == 0 else 0
            value = value[head:]
            span = Span(span.start + head, span.start + head + len(_EDGE.sub("", value)), span.type)
            value = text[span.start : span.end]
        if any(c.isalpha() for c in value) and not any(a < span.end and span.start < b for a, b in taken):
            kept.append(Span(span.start, span.end, span.type, RANKS[span.type]))
    return kept


def _encodable(text: str) -> str:
    """The text with lone surrogates replaced, which spaCy cannot hash; lengths stay."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


@lru_cache(maxsize=2)
def _pipeline(model: str) -> "Language":
    folder = BUNDLED if model == "bundled" else Path(model)
    if not (folder / "config.cfg").is_file():
        raise ConfigError(
            f"no spaCy pipeline in {model!r}: {folder / 'config.cfg'} does not exist",
            hint='redact.ner is "bundled", "presidio" or the folder of a spaCy pipeline, which holds config.cfg',
        )
    if model == "bundled":
        check_bundled()
    import spacy

    try:
        nlp = spacy.load(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"spaCy {version('spacy')} cannot load the pipeline in {folder}: {first}",
            hint="python -m spacy validate; retrain or convert the pipeline for this version of spaCy",
        ) from error
    labels = {label for pipe in nlp.pipe_labels.values() for label in pipe}
    if not labels & LABELS.keys():
        raise ConfigError(
            f"the pipeline in {folder} finds no names: its labels are {', '.join(sorted(labels)[:8]) or 'none'}",
            hint=f"use one with an entity recogniser for {', '.join(LABELS)}",
        )
    nlp.select_pipes(disable=[name for name in nlp.pipe_names if name in UNUSED_PIPES])
    return nlp


def check_bundled() -> None:
    """Raises IntegrityError unless every file of the bundled pipeline has the digest of its record."""
    wanted = read_json(BUNDLED / RECORD).get("files")
    found = digest_tree(BUNDLED, skip=(RECORD, "README.md"))
    if found != wanted:
        known = wanted if isinstance(wanted, dict) else {}
        wrong = sorted(name for name in found.keys() | known.keys() if found.get(name) != known.get(name))
        raise IntegrityError(
            f"bundled name finder: {', '.join(wrong[:3])} differs from {RECORD} ({len(wrong)} files)",
            hint="pip install --force-reinstall holdfast",
        )


def _presidio(texts: Sequence[str]) -> Iterator[list[Span]]:
    engine = _presidio_engine()
    entities = ["PERSON", "ORGANIZATION", "LOCATION"]
    for first in range(0, len(texts), ZONE_TEXTS):
        part = [_encodable(text) for text in texts[first : first + ZONE_TEXTS]]
        answers = engine.analyze_iterator(part, language="en", entities=entities, batch_size=BATCH_TEXTS)
        for text, answer in zip(part, answers, strict=True):
            spans = [Span(a.start, a.end, LABELS[a.entity_type]) for a in answer if a.entity_type in LABELS]
            yield _apart(clean(text, sorted(spans)))


def _apart(spans: list[Span]) -> list[Span]:
    """The spans without those that overlap an earlier one."""
    kept: list[Span] = []
    for span in spans:
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


@lru_cache(maxsize=1)
def _presidio_engine() -> Any:
    """Presidio's batch analyser with its spaCy recogniser alone, over an installed English pipeline or the bundled one.

    Two doors to the network are shut: a model that is there is given by its folder (for a missing name Presidio calls
    spacy.cli.download), and tldextract uses the suffix list that it ships.
    """
    try:
        import tldextract
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer
    except ImportError as error:
        raise ConfigError(
            f'redact.ner is "presidio", but Presidio is not installed ({error.name})', hint=PRESIDIO_INSTALL
        ) from None
    import spacy.util

    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    installed = next((name for name in PRESIDIO_MODELS if spacy.util.is_package(name)), None)
    if installed is None:
        check_bundled()
    names = {"PERSON": "PERSON", "ORG": "ORGANIZATION", "LOC": "LOCATION", "GPE": "LOCATION", "FAC": "LOCATION"}
    engine = SpacyNlpEngine(
        models=[{"lang_code": "en", "model_name": installed or str(BUNDLED)}],
        ner_model_configuration=NerModelConfiguration(model_to_presidio_entity_mapping=names, labels_to_ignore=[]),
    )
    recogniser = SpacyRecognizer(supported_entities=["PERSON", "ORGANIZATION", "LOCATION"])
    registry = RecognizerRegistry(recognizers=[recogniser], supported_languages=["en"])
    return BatchAnalyzerEngine(AnalyzerEngine(nlp_engine=engine, registry=registry, supported_languages=["en"]))
