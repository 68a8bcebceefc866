"""Speed and quality of the bundled name finder: one JSON line.

Run:  OMP_NUM_THREADS=1 python bench/ner.py [--rows 6000]
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools" / "ner"))
sys.path.insert(0, str(ROOT / "src"))

import score  # noqa: E402
from holdfast.redact.names import BUNDLED, RECORD, find_names  # noqa: E402
from train import place_split  # noqa: E402

CHARACTERS = 140
LABELS = {"PERSON": "PERSON", "ORG": "ORG", "PLACE": "LOC"}


def find(texts: Any) -> list[list[tuple[int, int, str]]]:
    """Spans as the scorer wants them."""
    return [[(s.start, s.end, LABELS[s.type]) for s in spans] for spans in find_names(texts, "bundled")]


def texts_of(characters: int, count: int, sentences: list[score.Sentence]) -> list[str]:
    """Texts of that many characters on average, from test sentences laid end to end."""
    texts, text, total, at = [], "", 0, 0
    while len(texts) < count:
        text += (" " if text else "") + sentences[at % len(sentences)][0]
        at += 1
        if total + len(text) >= characters * (len(texts) + 1) - 30:
            texts.append(text)
            total, text = total + len(text), ""
    return texts


def main() -> None:
    """Measure and print."""
    score.fix_hashing()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6000)
    rows = parser.parse_args().rows
    sets = dict(score.sets(*place_split(json.loads((BUNDLED / RECORD).read_text(encoding="utf-8"))["recipe"]["seed"])))
    texts = texts_of(CHARACTERS, rows, sets["held-out templates, held-out locales"])
    start = time.perf_counter()
    find(["warm up"])
    load = time.perf_counter() - start
    rates, processor_rates = [], []  # the second: by processor time, for machines that others use too
    for _ in range(3):
        start, processor = time.perf_counter(), time.process_time()
        find(texts)
        rates.append(rows / (time.perf_counter() - start))
        processor_rates.append(rows / (time.process_time() - processor))
    print(
        json.dumps(
            {
                "bench": "ner",
                "rows": rows,
                "characters": round(sum(map(len, texts)) / rows),
                "rows_per_s": round(max(rates)),
                "rows_per_s_all": [round(rate) for rate in rates],
                "rows_per_processor_s": round(max(processor_rates)),
                "load_s": round(load, 2),
                "f1": {name: score.score(find, rows)["f"] for name, rows in sets.items()},
                "false_masks_per_1000_words": score.false_masks(find)["per_1000_words"],
                "spacy": version("spacy"),
                "thinc": version("thinc"),
                "python": platform.python_version(),
                "cpu": platform.machine(),
                "cpus": os.cpu_count(),
                "threads": os.environ.get("OMP_NUM_THREADS", "default"),
            }
        )  # fmt: skip
    )


if __name__ == "__main__":
    main()
