"""The corpus of pebble: a seeded stream of chats and plain documents, and a command line to look at it."""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import facets  # noqa: E402
import facts  # noqa: E402
import general  # noqa: E402
import lexfiles  # noqa: E402
import opstext  # noqa: E402
import tasks  # noqa: E402
import wording  # noqa: E402
import words  # noqa: E402
from labels import scale  # noqa: E402
from pick import Rng, chance  # noqa: E402
from tickets import TicketMaker  # noqa: E402

Document = list[dict[str, str]] | str
SHARE = 0.1
SENTENCE = "classify the support ticket priority and return strict json"
_KEY = re.compile(r"""["'\\]\s*priority\s*\\?["']""", re.I)
_FOUR = [re.compile(rf"\b{word}\b", re.I) for word in ("critical", "medium", "high", "low")]


def forbidden(text: str) -> bool:
    """Whether the text holds the reserved sentence, a "priority" key, or critical, high, medium and low together."""
    low = text.lower()
    if "priority" in low and (SENTENCE in " ".join(low.split()) or _KEY.search(text)):
        return True
    return "critical" in low and "medium" in low and all(word.search(low) for word in _FOUR)


def flat(document: Document) -> str:
    """All text of a document."""
    return document if isinstance(document, str) else "\n".join(message["content"] for message in document)


@lru_cache(maxsize=8)
def maker_for(keep: str, share: float) -> TicketMaker:
    """The ticket maker over the lexicon lines to use."""
    return TicketMaker(lexfiles.load(keep=keep, share=share), generic=keep != "held")


def ticket_line(rng: Rng, maker: TicketMaker) -> str:
    """Plain text: some tickets as a list, with their gist."""
    rows = [maker.ticket(rng) for _ in range(1 + int(rng.random() * 3))]
    if chance(rng, 0.5):
        return "\n".join(row.text for row in rows)
    return "\n\n".join(f"{row.text}\nIn short: {row.gist}." for row in rows)


def fact_text(rng: Rng) -> str:
    """Plain text: stated facts or a table."""
    return facts.story(rng) if chance(rng, 0.6) else facts.listing(rng)


# kind -> (maker, weight); weights are shares in percent
MIXTURE: dict[str, tuple[Callable[[Rng, TicketMaker], Document], float]] = {
    "severity chat": (tasks.severity_chat, 34),
    "facet chat": (facets.facet_chat, 16),
    "ops chat": (lambda rng, _: opstext.ops_chat(rng), 9),
    "fact chat": (lambda rng, _: facts.fact_chat(rng), 9),
    "word chat": (lambda rng, _: words.word_chat(rng), 6),
    "general chat": (lambda rng, _: general.general_chat(rng), 6),
    "ops text": (lambda rng, _: opstext.ops_text(rng), 9),
    "ticket text": (ticket_line, 4),
    "fact text": (lambda rng, _: fact_text(rng), 4),
    "word text": (lambda rng, _: words.entry(rng), 3),
}


def stream(seed: int, held_out: float) -> Iterator[tuple[str, Document]]:
    """Kind and document, endlessly."""
    rng, maker = random.Random(seed), maker_for("seen" if held_out else "all", held_out)
    names = list(MIXTURE)
    makers = [MIXTURE[name][0] for name in names]
    places = range(len(names))
    weights = list(accumulate(MIXTURE[name][1] for name in names))
    while True:
        place = rng.choices(places, cum_weights=weights)[0]
        document = makers[place](rng, maker)
        if not forbidden(flat(document)):
            yield names[place], document


def documents(seed: int, count: int, held_out: float = 0.0) -> Iterator[Document]:
    """Count documents, the same for a seed and lexicon; held_out keeps that share of the lexicon lines unused."""
    rows = stream(seed, held_out)
    for _ in range(count):
        yield next(rows)[1]


def held_out_documents(seed: int, count: int, share: float = SHARE) -> Iterator[tuple[Document, str]]:
    """Severity chats from the held-out lines only, without their last answer, and that expected answer."""
    rng, maker = random.Random(seed), maker_for("held", share)
    done = 0
    while done < count:
        ticket, levels = maker.ticket(rng), scale(rng)
        ask = wording.instruction(rng, levels.options) + " " + rng.choice(wording.BARE)
        chat = wording.chat(rng, ask, ticket.text, levels.label(ticket.severity), levels.explained)
        if not forbidden(flat(chat)):
            done += 1
            yield chat[:-1], chat[-1]["content"]


def stats(seed: int, count: int, held_out: float) -> None:
    """Print speed, size and the share of each kind."""
    maker = maker_for("seen" if held_out else "all", held_out)
    lexicon, kinds, size, start = maker.lexicon, Counter[str](), Counter[str](), time.perf_counter()
    rows = stream(seed, held_out)
    for _ in range(count):
        kind, document = next(rows)
        kinds[kind] += 1
        size[kind] += len(flat(document))
    took = time.perf_counter() - start
    total = sum(size.values())
    print(
        f"{count} documents in {took:.2f} s: {count / took:.0f} documents/s, "
        f"{total} characters, {total / count:.0f} each"
    )
    for kind, number in kinds.most_common():
        print(
            f"{kind:18} {100 * number / count:5.1f} %  {100 * size[kind] / total:5.1f} % of characters  "
            f"{size[kind] / number:6.0f} each"
        )
    print(
        f"lexicon: {lexicon.size()} lines, {len(lexicon.refused)} refused; "
        + ", ".join(f"{name} {len(lines)}" for name, lines in lexicon.lines.items())
    )
    for line in lexicon.refused[:20]:
        print("refused", line)


def show(document: Document) -> str:
    """A document for human eyes."""
    if isinstance(document, str):
        return document
    return "\n".join(f"<{message['role']}> {message['content']}" for message in document)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--held-out", type=float, default=0.0)
    parser.add_argument("--only", default="", help="only this kind of the mixture")
    parser.add_argument("--jsonl", action="store_true")
    parser.add_argument("--stats", action="store_true")
    given = parser.parse_args()
    if given.only:
        for name in [n for n in MIXTURE if given.only not in n]:
            del MIXTURE[name]
    if given.stats:
        stats(given.seed, given.count, given.held_out)
        return
    for document in documents(given.seed, given.count, given.held_out):
        print(json.dumps(document, ensure_ascii=False) if given.jsonl else show(document) + "\n" + "=" * 40)


if __name__ == "__main__":
    main()
