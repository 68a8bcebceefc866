"""Redaction: rows a second, recall and precision on held-out locales, beside Presidio when that is installed.

    PYTHONPATH=src python bench/redact.py [--locales untouched|held-out|validation|development] [--rows 6000] [--misses]

Prints one JSON line. A label counts as found when all its letters and digits are masked; a mask is right when it
touches a label. `holdfast` rates are for rows that nearly all hold a secret; `typical` has rows of about 140
characters, of which a share holds a sentence with a secret. `with_names` adds the bundled name finder.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from labelled import DEVELOPMENT, HELD_OUT, UNTOUCHED, VALIDATION, Labelled, make_corpus, make_typical  # noqa: E402

from holdfast.core.config import RedactConfig  # noqa: E402
from holdfast.core.records import Example, Message  # noqa: E402
from holdfast.redact.redactor import Redactor  # noqa: E402

Spans = list[tuple[int, int, str]]


def score(corpus: Sequence[tuple[str, Labelled]], find: Callable[[str], Spans], show: bool) -> dict[str, Any]:
    """Recall by type and locale, and precision, of `find` on the corpus."""
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    masks = right = 0
    for locale, row in corpus:
        spans = find(row.text)
        for start, end, kind in row.labels:
            open_ = [i for i in range(start, end) if row.text[i].isalnum() and not any(a <= i < b for a, b, _ in spans)]
            for key in ("all", f"type {kind}", f"locale {locale}"):
                wanted[key] += 1
                found[key] += not open_
            if open_ and show:
                print("MISSED", locale, kind, row.text[start:end], "|", row.text, file=sys.stderr)
        for a, b, kind in spans:
            masks += 1
            if any(a < end and start < b for start, end, _ in row.labels):
                right += 1
            else:
                wrong[kind] += 1
                if show:
                    print("WRONG", locale, kind, row.text[a:b], "|", row.text, file=sys.stderr)
    return {
        "labels": wanted["all"], "recall": round(found["all"] / wanted["all"], 5),
        "precision": round(right / max(masks, 1), 5), "masks": masks, "wrong": dict(wrong),
        "recall_by": {key: round(found[key] / wanted[key], 4) for key in sorted(wanted) if key != "all"},
    }  # fmt: skip


def rate(work: Callable[[], object], rows: int, repeats: int = 3) -> int:
    """Rows a second of processor time, best of `repeats`."""
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = max(best, rows / (time.process_time() - start))
    return round(best)


def presidio() -> Callable[[str], Spans] | None:
    """Presidio's recognisers without its language model, or None when it is not installed."""
    try:
        import tldextract
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError:
        return None
    import spacy

    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.nlp = {"en": spacy.blank("en")}
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    registry.recognizers = [r for r in registry.recognizers if "Spacy" not in type(r).__name__]
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    return lambda text: [(r.start, r.end, r.entity_type) for r in analyzer.analyze(text, language="en")]


def examples_of(texts: Sequence[str]) -> list[Example]:
    """One row for each text."""
    return [Example(messages=(Message(role="user", content=t),), source=f"x:{n}") for n, t in enumerate(texts)]


def measure_typical(
    config: RedactConfig, locales: tuple[str, ...], share: float, rows: int, seed: int
) -> dict[str, float]:
    """Rows a second for rows of about 140 characters of which `share` holds a secret."""
    texts = make_typical(locales, rows, seed, share, 140)
    few = examples_of(texts[:2000])
    named = Redactor(config.model_copy(update={"ner": "bundled"}))
    named.mask_examples(few[:10])
    return {
        "rows_with_a_secret": share, "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
        **measure_speed(config, examples_of(texts)),
        "with_names_rows_per_second": rate(lambda: named.mask_examples(few), len(few), 1),
    }  # fmt: skip


def measure_speed(config: RedactConfig, examples: list[Example]) -> dict[str, int]:
    """Rows a second, each time with a redactor that has not seen the rows."""

    def mask(scanner: bool) -> None:
        Redactor(config.model_copy(update={"scanner": scanner})).mask_examples(examples)

    return {
        "mask_rows_per_second": rate(lambda: mask(False), len(examples)),
        "mask_and_scan_rows_per_second": rate(lambda: mask(True), len(examples)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locales", choices=("untouched", "held-out", "validation", "development"), default="held-out")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--misses", action="store_true", help="print what was missed or masked wrongly on stderr")
    options = parser.parse_args()
    locales = {"untouched": UNTOUCHED, "held-out": HELD_OUT, "validation": VALIDATION, "development": DEVELOPMENT}[
        options.locales
    ]
    corpus = make_corpus(locales, options.rows, options.seed)
    texts = [row.text for _, row in corpus]
    examples = examples_of(texts)
    with tempfile.TemporaryDirectory() as folder:
        config = RedactConfig(pseudonym_key_file=str(Path(folder) / "key"))
        redactor = Redactor(config)
        ours = score(corpus, lambda t: [(s.start, s.end, s.type) for s in redactor.find(t)], options.misses)
        speed = measure_speed(config, examples)
        typical = [
            measure_typical(config, locales, share, options.rows, options.seed) for share in (0.0, 0.1, 0.3, 1.0)
        ]
    other = presidio()
    report: dict[str, Any] = {
        "bench": "redact", "rows": len(texts), "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
        "locales": list(locales), "holdfast": ours | speed, "typical": typical, "presidio": "not installed",
    }  # fmt: skip
    if other is not None:
        sample = corpus[: max(200, len(corpus) // 20)]
        report["presidio"] = score(sample, other, False) | {
            "rows_per_second": rate(lambda: [other(row.text) for _, row in sample], len(sample), 1)
        }
    names = ("Faker", "detect-secrets", "presidio-analyzer")
    report["versions"] = {name: _version(name) for name in names} | {"python": platform.python_version()}
    report["machine"] = platform.processor() or platform.machine()
    print(json.dumps(report))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
