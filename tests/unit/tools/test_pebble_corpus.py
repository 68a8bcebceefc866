"""pebble's corpus: deterministic, balanced, clean, and independent of examples/triage. pytest tests/unit/tools"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOL, TRIAGE = ROOT / "tools" / "pebble", ROOT / "examples" / "triage"
COUNT, HELD_OUT, NEAR = 20_000, 0.1, 0.5
SENTENCE = "classify the support ticket priority and return strict json"
LEVELS = [re.compile(rf"\b{word}\b") for word in ("critical", "high", "medium", "low")]
SPLITS = ("train.jsonl", "train_chat.jsonl", "train_long.jsonl", "valid.jsonl", "test.jsonl")


class Tool(NamedTuple):
    """The generator's modules that the tests need."""

    corpus: ModuleType
    lexfiles: ModuleType
    tickets: ModuleType


@pytest.fixture(scope="module")
def tool() -> Iterator[Tool]:
    """tools/pebble is no package: its modules are found by path, and forgotten afterwards."""
    names = {path.stem for path in TOOL.glob("*.py")}
    shadowed = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    path = list(sys.path)
    sys.path.insert(0, str(TOOL))
    try:
        import corpus
        import lexfiles
        import tickets

        yield Tool(corpus, lexfiles, tickets)
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)


class Made(NamedTuple):
    """20,000 documents, and the tickets that were drawn for them."""

    documents: list[Any]
    texts: list[str]
    tickets: list[Any]


@pytest.fixture(scope="module")
def made(tool: Tool) -> Made:
    tickets: list[Any] = []
    build = tool.tickets.TicketMaker.build

    def noted(*arguments: Any) -> Any:
        tickets.append(build(*arguments))
        return tickets[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool.tickets.TicketMaker, "build", noted)
        documents = list(tool.corpus.documents(11, COUNT))
    return Made(documents, [tool.corpus.flat(document) for document in documents], tickets)


@pytest.fixture(scope="module")
def lines(tool: Tool) -> list[Any]:
    return [line for rows in tool.lexfiles.load().lines.values() for line in rows]


# --- what the stream is


def test_a_seed_gives_the_same_documents_every_time(tool: Tool, made: Made) -> None:
    assert list(tool.corpus.documents(11, 500)) == made.documents[:500]
    assert list(tool.corpus.documents(12, 500)) != made.documents[:500]


def test_chats_alternate_and_end_with_the_assistant(made: Made) -> None:
    chats = [document for document in made.documents if not isinstance(document, str)]
    assert len(chats) > COUNT / 2
    for chat in chats:
        roles = [message["role"] for message in chat]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns, chat
        assert turns == ["user", "assistant"] * (len(turns) // 2), chat
        assert all(message["content"].strip() for message in chat), chat


def test_severities_are_balanced(made: Made) -> None:
    counts = Counter(ticket.severity for ticket in made.tickets)
    assert sorted(counts) == [1, 2, 3, 4]
    assert all(0.22 < number / len(made.tickets) < 0.28 for number in counts.values()), counts


# --- what it must not hold


def is_reserved(text: str) -> bool:
    """The example's instruction, or its four labels together; written here anew, not taken from the generator."""
    low = " ".join(text.lower().split())
    return SENTENCE in low or all(word.search(low) for word in LEVELS)


def test_the_reserved_instruction_and_schema_never_occur(tool: Tool, made: Made) -> None:
    assert [text for text in made.texts if is_reserved(text)] == []
    assert [text for text in made.texts if re.search(r"""["']priority\\?["']\s*:""", text)] == []
    asked = list(tool.corpus.held_out_documents(3, 2000))
    assert [chat for chat, answer in asked if is_reserved(f"{tool.corpus.flat(chat)}\n{answer}")] == []


@pytest.mark.parametrize(
    "text",
    [
        "Classify the support ticket priority\nand return STRICT JSON.",
        '{"priority":"P1"}',
        "Choose critical, high, medium or low.",
        '["Low","Medium","High","Critical"]',
    ],
)
def test_the_guard_refuses_reserved_text(tool: Tool, text: str) -> None:
    assert tool.corpus.forbidden(text)


def test_the_guard_lets_ordinary_text_pass(tool: Tool) -> None:
    assert not tool.corpus.forbidden("The disk is low, the load is high and the alert is critical.")
    assert not tool.corpus.forbidden("What priority has this report: red, amber or green?")


# --- the lexicon


def test_every_lexicon_line_passes_the_checks(tool: Tool, lines: list[Any]) -> None:
    assert tool.lexfiles.load().refused == []
    assert {line.section for line in lines} == set(tool.lexfiles.SECTIONS)
    assert [line for line in lines if tool.lexfiles.fault(line.section, line.text, line.gist)] == []


@pytest.mark.parametrize(
    ("section", "text", "gist", "why"),
    [
        ("core", "nothing works", "all broken", "no {who}"),
        ("loss", "{who} lost a file", "file lost", "{who} in"),
        ("slow", "{what} crawls", "it is slow", "unknown slot"),
        ("slow", "it crawls", "", "no text or no gist"),
        ("nothing", "it crawls", "it is slow", "unknown section"),
    ],
)
def test_a_bad_line_is_refused(tool: Tool, section: str, text: str, gist: str, why: str) -> None:
    assert why in tool.lexfiles.fault(section, text, gist)


def test_all_slots_are_filled(tool: Tool, made: Made) -> None:
    names = (*tool.lexfiles.SLOTS, *"irotsg", "name", "day", "date", "month", "clock", "many", "dd")
    open_slot = re.compile(r"\{(?:" + "|".join(names) + r")\}")
    assert [text for text in made.texts if open_slot.search(text)] == []
    assert [ticket for ticket in made.tickets if re.search(r"\{\w*\}", ticket.text + ticket.gist)] == []


def test_held_out_lines_never_appear_in_training_documents(tool: Tool, lines: list[Any]) -> None:
    """A held-out line is known by its longest run of words between slots, where no other line has that run."""
    held = [line for line in lines if tool.lexfiles.is_held_out(line, HELD_OUT)]
    others = "\n".join(line.text for line in lines if line not in set(held))
    runs = {max(tool.lexfiles.SLOT.split(line.text)[::2], key=len).strip() for line in held}
    runs = {run for run in runs if len(run) > 24 and run not in others}
    assert len(runs) > 0.5 * len(held)
    documents = tool.corpus.documents(13, COUNT, held_out=HELD_OUT)
    text = "\n".join(tool.corpus.flat(document) for document in documents)
    starts = {run[1:9] for run in runs}  # not the first letter: a ticket may write it in upper case
    by_start = {start: [run[1:] for run in runs if run[1:9] == start] for start in starts}
    for place in range(len(text)):
        for run in by_start.get(text[place : place + 8], ()):
            assert not text.startswith(run, place), run


# --- independence of the example's tickets


def triage_tickets(name: str) -> list[str]:
    """The tickets of one file of the example, without the instruction."""
    found = []
    for row in map(json.loads, (TRIAGE / name).read_text(encoding="utf-8").splitlines()):
        if "messages" not in row:
            found.append(row["input"])
            continue
        asked = "\n".join(m["content"] for m in row["messages"] if m["role"] != "assistant")
        found.append(re.sub(SENTENCE + r"\.?", "", asked, flags=re.IGNORECASE).strip())
    return found


def shingles(text: str) -> frozenset[str]:
    """All runs of five characters of the words in lower case."""
    plain = " ".join(re.findall(r"[a-z0-9']+", text.lower()))
    return frozenset(plain[place : place + 5] for place in range(max(1, len(plain) - 4)))


class Nearest(NamedTuple):
    """The text of the corpus that is most similar to a ticket."""

    similarity: float
    ticket: str
    other: str


def nearest(tickets: list[str], others: Iterable[str]) -> list[Nearest]:
    """For every ticket its most similar other text, by exact Jaccard over shingles, with an inverted index."""
    sets = [shingles(ticket) for ticket in tickets]
    lists: dict[str, list[int]] = {}
    for place, found in enumerate(sets):
        for shingle in found:
            lists.setdefault(shingle, []).append(place)
    index = {shingle: np.array(places) for shingle, places in lists.items()}
    sizes = np.array([len(found) for found in sets])
    best, which = np.zeros(len(sets)), [""] * len(sets)
    for other in others:
        mine = shingles(other)
        hits = [index[shingle] for shingle in mine if shingle in index]
        if not hits:
            continue
        common = np.bincount(np.concatenate(hits), minlength=len(sets))
        similarity = common / (len(mine) + sizes - common)
        for place in np.flatnonzero(similarity > best):
            best[place], which[place] = similarity[place], other
    return [Nearest(float(b), ticket, other) for b, ticket, other in zip(best, tickets, which, strict=True)]


def test_the_similarity_finds_a_reworded_copy() -> None:
    ticket = "Nobody can pay by card since nine o'clock; the form only shows an error."
    near = "Since nine o'clock nobody can pay by card, the form shows only an error!"
    found = nearest([ticket, "Something else altogether."], [near, "The printer is out of paper."])
    assert found[0].similarity > NEAR
    assert found[0].other == near
    assert found[1].similarity < 0.2


@pytest.mark.parametrize("source", ["lexicon lines", "tickets of 20,000 documents"])
def test_no_triage_ticket_is_near_anything_in_the_corpus(
    tool: Tool, made: Made, lines: list[Any], source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The independence proof: the base model cannot have seen the example's tickets."""
    if source == "lexicon lines":
        others = [tool.lexfiles.SLOT.sub(" ", line.text) for line in lines]
    else:
        others = sorted({text for ticket in made.tickets for text in (ticket.text, ticket.body)})
    named = [(name, ticket) for name in SPLITS for ticket in triage_tickets(name)]
    found = nearest([ticket for _, ticket in named], others)
    largest = {name: max(f.similarity for f, (n, _) in zip(found, named, strict=True) if n == name) for name in SPLITS}
    with capsys.disabled():
        print(f"\n{len(others)} {source}: largest similarity", {name: round(s, 3) for name, s in largest.items()})
    assert [near for near in found if near.similarity >= NEAR] == []
