"""Chat tasks that rate tickets: bare label, label with reason, JSON, steps, comparison, sorting, several turns."""

from __future__ import annotations

from collections.abc import Callable

import reasons
import wording as w
from labels import Scale, scale
from pick import Rng, between, capital, chance, pick, sample, shuffled, weighted
from tickets import Ticket, TicketMaker
from words import NOUNS

Chat = list[w.Message]


def rate_bare(rng: Rng, maker: TicketMaker) -> Chat:
    """The label alone."""
    ticket, levels = maker.ticket(rng), scale(rng)
    ask = w.instruction(rng, levels.options)
    if chance(rng, 0.7):
        ask += " " + pick(rng, w.BARE)
    return w.chat(rng, ask, ticket.text, levels.label(ticket.severity), levels.explained)


def rate_reason(rng: Rng, maker: TicketMaker) -> Chat:
    """The label and why."""
    ticket, levels = maker.ticket(rng), scale(rng)
    ask = f"{w.instruction(rng, levels.options)} {pick(rng, w.REASONED)}"
    answer = f"{levels.label(ticket.severity)}: {reasons.because(rng, ticket)}"
    return w.chat(rng, ask, ticket.text, answer, levels.explained)


def rate_sentence(rng: Rng, maker: TicketMaker) -> Chat:
    """The label inside a sentence."""
    ticket, levels = maker.ticket(rng), scale(rng)
    ask = f"{w.instruction(rng, levels.options)} {pick(rng, w.SENTENCE)}"
    label, why = levels.label(ticket.severity), reasons.because(rng, ticket)
    answer = pick(
        rng,
        (
            "This is {l}: {w}.",
            "I would rate it {l}, since {w}.",
            "{l}, because {w}.",
            "It is {l}; {w}.",
            "The right level is {l}: {w}.",
            "{W}, so {l}.",
            "I would say {l}: {w}.",
            "Level {l}: {w}.",
        ),
    )
    answer = answer.format(l=label, w=why, W=capital(why))
    return w.chat(rng, ask, ticket.text, answer, levels.explained)


def rate_steps(rng: Rng, maker: TicketMaker) -> Chat:
    """Reasoning in steps, then the label."""
    ticket, levels = maker.ticket(rng), scale(rng)
    ask = f"{w.instruction(rng, levels.options)} {pick(rng, w.STEPS)}"
    return w.chat(rng, ask, ticket.text, reasons.steps(rng, ticket, levels.label(ticket.severity)), levels.explained)


def json_fields(rng: Rng, ticket: Ticket, levels: Scale) -> list[tuple[str, str, str]]:
    """(key, hint, value) for a JSON answer about a ticket."""
    hint = levels.options.replace('"', "") if chance(rng, 0.5) else "|".join(levels.labels)
    fields = [
        (
            pick(rng, NOUNS).replace(" ", "_") if chance(rng, 0.12) else pick(rng, w.LEVEL_KEYS),
            hint,
            levels.label(ticket.severity),
        )
    ]
    roll = rng.random()
    if roll < 0.62:
        fields.append((pick(rng, w.NOTE_KEYS), pick(rng, w.NOTE_HINTS), ticket.gist))
    elif roll < 0.80:
        fields.append((pick(rng, w.WHY_KEYS), pick(rng, w.WHY_HINTS), reasons.because(rng, ticket)))
    elif roll < 0.90:
        fields.append((pick(rng, w.NOTE_KEYS), pick(rng, w.NOTE_HINTS), ticket.gist))
        fields.append((pick(rng, w.WHY_KEYS), pick(rng, w.WHY_HINTS), reasons.because(rng, ticket)))
    if chance(rng, 0.12):
        fields.append(
            (pick(rng, ("scope", "who", "affected", "audience")), "who is affected", reasons.scope_words(rng, ticket))
        )
    if chance(rng, 0.08):
        fields.append((pick(rng, ("workaround", "way_round", "detour")), "yes|no|not stated", ticket.way))
    if chance(rng, 0.15):
        rng.shuffle(fields)
    return fields


def rate_json(rng: Rng, maker: TicketMaker) -> Chat:
    """One-line JSON with the keys that the prompt names."""
    ticket, levels = maker.ticket(rng), scale(rng)
    fields = json_fields(rng, ticket, levels)
    form = w.json_request(rng, [(key, hint) for key, hint, _ in fields])
    if chance(rng, 0.65):
        ask = pick(rng, w.RATE).format(gravity=pick(rng, w.GRAVITY), report=pick(rng, w.REPORT))
    else:
        ask = w.instruction(rng, levels.options)
    if not any(hint and "|".join(levels.labels) == hint for _, hint, _ in fields) and levels.options not in ask:
        ask += " " + pick(rng, w.CHOOSE).format(o=levels.options)
    ask = f"{ask} {form}" if chance(rng, 0.8) else f"{form}\n{ask}"
    answer = w.compact({key: value for key, _, value in fields})
    return w.chat(rng, ask, ticket.text, answer, levels.explained)


def binary(rng: Rng, maker: TicketMaker) -> Chat:
    """Is it grave enough to wake somebody?"""
    ticket = maker.ticket(rng)
    grave = ticket.severity <= 2
    ask, yes, no = pick(
        rng,
        (
            (
                "Should we wake the engineer on call for this? "
                "Yes for a core or widespread outage, lost data or a breach.",
                "yes",
                "no",
            ),
            ("Is this a serious incident? Answer yes or no.", "yes", "no"),
            (
                "Escalate or wait? Escalate when a main function is broken for many, or data or security is hurt.",
                "escalate",
                "wait",
            ),
            ("Does this need action today? yes / no. Slowness, partial faults and trifles can wait.", "yes", "no"),
            ("Page somebody or leave it in the queue? Say page or queue.", "page", "queue"),
            ("Is the impact large or small? One word.", "large", "small"),
            ("Alarm or routine? One word.", "alarm", "routine"),
            ("Incident or ordinary ticket? Say incident or ordinary.", "incident", "ordinary"),
        ),
    )
    answer = yes if grave else no
    if chance(rng, 0.4):
        ask, answer = ask + " Give a reason.", f"{capital(answer)}: {reasons.because(rng, ticket)}."
    return w.chat(rng, ask, ticket.text, answer)


def several(rng: Rng, maker: TicketMaker, count: int) -> list[Ticket]:
    """Tickets of different severities."""
    return [maker.ticket(rng, s, plain=True) for s in sample(rng, maker.severities, count)]


def graver(rng: Rng, maker: TicketMaker) -> Chat:
    """Which of two tickets is graver (or milder)?"""
    pair = several(rng, maker, 2)
    names = pick(rng, (("A", "B"), ("1", "2"), ("first", "second"), ("X", "Y"), ("left", "right"), ("one", "two")))
    worst = 0 if pair[0].severity < pair[1].severity else 1
    mild = chance(rng, 0.2)
    chosen = 1 - worst if mild else worst
    ask = pick(
        rng,
        ("Which one can wait longer?", "Which is the milder one?", "Which has the smaller impact?")
        if mild
        else (
            "Which is graver?",
            "Which report is worse?",
            "Which one should be handled first?",
            "Which has the larger impact?",
            "Which one is more urgent?",
            "Which of the two do we take first?",
            "Compare the two. Which is more serious?",
        ),
    )
    body = "\n".join(f"{name}: {ticket.text}" for name, ticket in zip(names, pair, strict=False))
    answer = names[chosen]
    if chance(rng, 0.45):
        ask += pick(rng, (" Give a short reason.", " Why?", " Explain briefly."))
        answer += pick(rng, (": {}", ", because {}.", " - {}")).format(reasons.because(rng, pair[chosen]))
    else:
        ask += f" Answer {names[0]} or {names[1]}."
    return [w.user(w.frame(rng, ask, body)), w.assistant(answer)]


def order(rng: Rng, maker: TicketMaker) -> Chat:
    """Sort three or four tickets by gravity."""
    count = min(3 if chance(rng, 0.75) else 4, len(maker.severities))
    group = several(rng, maker, count)
    names = pick(rng, ("ABCD", "1234", "XYZW", "abcd"))[:count]
    ranked = [n for _, n in sorted(zip((t.severity for t in group), names, strict=False))]
    ask = pick(
        rng,
        (
            "Sort these reports from gravest to mildest.",
            "Order the tickets by impact, worst first.",
            "Rank by seriousness, most serious first.",
            "In which order should we handle these?",
            "Put the worst one first.",
            "Arrange these by urgency, most urgent first.",
        ),
    )
    glue = ", "
    if chance(rng, 0.2):
        ask, ranked = "Sort these from mildest to gravest.", ranked[::-1]
    if chance(rng, 0.3):
        ask, glue = ask + " Use > between the letters.", " > "
    body = "\n".join(f"{name}: {ticket.text}" for name, ticket in zip(names, group, strict=False))
    return [w.user(w.frame(rng, ask, body)), w.assistant(glue.join(ranked))]


def batch(rng: Rng, maker: TicketMaker) -> Chat:
    """Rate two to four tickets at once."""
    levels, count = scale(rng), between(rng, 2, 4)
    group = [maker.ticket(rng, plain=True) for _ in range(count)]
    ask = "Rate each report, one label per line. " + pick(rng, w.CHOOSE).format(o=levels.options)
    body = "\n".join(f"{n}. {t.text}" for n, t in enumerate(group, 1))
    answer = "\n".join(f"{n}. {levels.label(t.severity)}" for n, t in enumerate(group, 1))
    return w.chat(rng, ask, body, answer, levels.explained)


def label_meaning(rng: Rng, maker: TicketMaker) -> Chat:
    """Which label of a scale fits a described impact; or the worst and mildest of a scale."""
    levels = scale(rng)
    while not levels.explained:
        levels = scale(rng)
    ask, answer = pick(
        rng,
        (
            ("Which label is the worst?", levels.labels[0]),
            ("Which label is the mildest?", levels.labels[-1]),
            ("Which label comes second after the worst?", levels.labels[1]),
            ("Which label is one step above the mildest?", levels.labels[-2]),
            ("List the labels, worst first.", ", ".join(levels.labels)),
            ("List the labels, mildest first.", ", ".join(reversed(levels.labels))),
        ),
    )
    return [w.user(f"{levels.explained}\n{ask}"), w.assistant(answer)]


def few_shot(rng: Rng, maker: TicketMaker) -> Chat:
    """Worked examples in the prompt, then one to rate."""
    levels = scale(rng)
    group = [maker.ticket(rng, s, plain=True) for s in shuffled(rng, maker.severities)]
    ticket = maker.ticket(rng)
    arrow = pick(rng, (" -> ", " => ", "\nLabel: ", "\nAnswer: ", " = "))
    lines = [f"{t.text}{arrow}{levels.label(t.severity)}" for t in group] + [ticket.text + arrow.rstrip()]
    ask = pick(rng, ("Continue in the same way.", "Label the last one like the others.", "Follow the examples."))
    return [w.user(ask + "\n" + "\n".join(lines)), w.assistant(levels.label(ticket.severity))]


def same_ticket_two_scales(rng: Rng, maker: TicketMaker) -> Chat:
    """Rate, then again on another scale."""
    ticket, first, second = maker.ticket(rng), scale(rng), scale(rng)
    chat = w.chat(rng, w.instruction(rng, first.options), ticket.text, first.label(ticket.severity), first.explained)
    again = pick(rng, ("And on this scale: {o}?", "Now use {o}.", "Same ticket, other labels: {o}.")).format(
        o=second.options
    )
    if second.explained:
        again += "\n" + second.explained
    return [*chat, w.user(again), w.assistant(second.label(ticket.severity))]


def what_if(rng: Rng, maker: TicketMaker) -> Chat:
    """The level before and after a workaround turns up, or the same fault for one person."""
    ticket = maker.ticket(rng)
    while ticket.section not in ("core", "important") or ticket.way != "not stated" or not ticket.people:
        ticket = maker.ticket(rng)
    levels = scale(rng)
    chat = w.chat(rng, w.instruction(rng, levels.options), ticket.text, levels.label(ticket.severity), levels.explained)
    if ticket.severity <= 2 and maker.lexicon.lines["detour"] and chance(rng, 0.6):
        follow = pick(
            rng, ("Update: {}. And now?", "We learned that {}. What is the level now?", "New: {}. Rate again.")
        )
        return [*chat, w.user(follow.format(maker.detour(rng, ticket.domain))), w.assistant(levels.label(3))]
    if chance(rng, 0.5):
        ask = pick(
            rng,
            (
                "And if it hit only one person?",
                "Suppose only a single user were affected?",
                "What if just one user had this?",
            ),
        )
        return [*chat, w.user(ask), w.assistant(levels.label(4))]
    new = 1 if ticket.section == "core" else 2
    ask = pick(
        rng,
        (
            "And if it hit everyone?",
            "Suppose all users were affected, with no way round?",
            "What if nobody could do it?",
        ),
    )
    return [*chat, w.user(ask), w.assistant(levels.label(new))]


MAKERS: tuple[tuple[Callable[[Rng, TicketMaker], Chat], float], ...] = (
    (rate_bare, 20),
    (rate_json, 32),
    (rate_reason, 10),
    (rate_sentence, 4),
    (rate_steps, 6),
    (binary, 4),
    (graver, 6),
    (order, 4),
    (batch, 3),
    (label_meaning, 2),
    (few_shot, 4),
    (same_ticket_two_scales, 2),
    (what_if, 3),
)
_TABLE = [m for m, _ in MAKERS]
_WEIGHTS = [sum(x for _, x in MAKERS[: i + 1]) for i in range(len(MAKERS))]


def severity_chat(rng: Rng, maker: TicketMaker) -> Chat:
    """Any severity task."""
    return weighted(rng, _TABLE, _WEIGHTS)(rng, maker)
