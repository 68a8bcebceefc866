"""Chat tasks over a ticket's other facets: whom it hits, what kind it is, way round, gist, reply; several turns."""

from __future__ import annotations

import reasons
import wording as w
from labels import listed, scale
from pick import Rng, between, capital, chance, pick, sample, shuffled, weighted
from tickets import Ticket, TicketMaker

Chat = list[w.Message]
Asked = tuple[str, str]
SCOPE_ASK = (
    "Who is affected?",
    "How many people does it hit?",
    "Whom does this hit?",
    "How wide is the problem?",
    "What is the scope?",
    "How many are affected?",
    "Who has this problem?",
)
SCOPE_OPTIONS = {
    "everyone": "everyone",
    "most": "most",
    "many": "many",
    "some": "a few",
    "one": "one person",
    "staff": "staff only",
}
KIND_ASK = (
    "What kind of problem is this?",
    "Which kind fits?",
    "Name the kind of problem.",
    "What type of issue is it?",
    "Which category does it belong to?",
    "Sort it by kind.",
)
WAY_ASK = (
    "Is there a way round?",
    "Is a workaround mentioned?",
    "Can people get round it?",
    "Does the report name a workaround?",
    "Is there an alternative?",
)
LOSS_ASK = (
    "Is data lost?",
    "Has any data been lost or damaged?",
    "Is this a data loss?",
    "Are records gone or corrupted?",
)
SAFE_ASK = (
    "Is this a security matter?",
    "Does this concern security?",
    "Must the security team know?",
    "Is it a security breach?",
)
STAFF_ASK = (
    "Does it touch customers or only staff?",
    "Customers or staff?",
    "Is this internal or does it reach customers?",
)
NEW_ASK = (
    "Is it mainly new customers who are hit?",
    "Does it block new customers?",
    "Are newcomers the ones affected?",
)
BROKEN_ASK = (
    "Is anything broken?",
    "Is there a fault to repair?",
    "Is a problem reported?",
    "Does something need repair?",
)
GIST_ASK = (
    "Summarise the {r} in a few words.",
    "Give the gist of the {r}.",
    "What is it about, in under ten words?",
    "One short phrase: what is wrong?",
    "Write a short title for this {r}.",
    "Condense this {r} to its core.",
    "Name the problem in 3 to 8 words.",
    "Write a one-line summary.",
    "What happened? A few words only.",
    "Boil the {r} down to one phrase.",
    "Give a headline for the {r}.",
    "In short, what is the issue?",
    "Shorten to a brief note.",
    "What is impaired, for whom?",
    "State the problem briefly.",
)
REPLY_ASK = (
    "Write the first reply to the reporter.",
    "Answer the customer in two or three sentences.",
    "Draft a short first answer.",
    "Write a brief, polite reply.",
    "What do we write back?",
    "Acknowledge the {r} politely.",
    "Write a short acknowledgement.",
)
SHORT = (" Answer briefly.", " Reply in one or two words.", " Short answer.", "", " A few words only.")


def ask_scope(rng: Rng, t: Ticket) -> Asked | None:
    """Whom it hits."""
    if t.scope not in SCOPE_OPTIONS or t.section == "slow" and not t.people:
        return None
    if t.people and t.people in t.text and chance(rng, 0.35):
        return pick(rng, SCOPE_ASK) + " Quote the words of the report.", t.people
    options = shuffled(rng, list(SCOPE_OPTIONS.values()))
    return f"{pick(rng, SCOPE_ASK)} {pick(rng, w.CHOOSE).format(o=listed(rng, options))}", SCOPE_OPTIONS[t.scope]


def ask_kind(rng: Rng, t: Ticket) -> Asked | None:
    """The section."""
    right = reasons.KIND.get(t.section)
    if not right:
        return None
    if t.section == "core" or t.section == "important":
        others = [k for s, k in reasons.KIND.items() if s not in ("core", "important", "partial")]
    else:
        others = [k for k in reasons.KIND.values() if k != right]
    options = shuffled(rng, [right, *sample(rng, others, between(rng, 2, 6))])
    return f"{pick(rng, KIND_ASK)} {pick(rng, w.CHOOSE).format(o=listed(rng, options))}", right


def ask_way(rng: Rng, t: Ticket) -> Asked | None:
    """The way round."""
    if t.section not in reasons.OUTAGES:
        return None
    if t.detour and chance(rng, 0.35):
        return pick(rng, ("What is the way round?", "What still works?", "Which workaround is there?")), capital(
            t.detour
        ) + "."
    return pick(rng, WAY_ASK) + pick(rng, (" yes / no / not stated", " Answer yes, no or not stated.")), t.way


def yes_no(rng: Rng, asks: tuple[str, ...], truth: bool) -> Asked:
    """A yes/no question."""
    return (
        pick(rng, asks) + pick(rng, ("", " yes or no", " Answer yes or no.", " (yes/no)")),
        pick(rng, ("yes", "Yes", "Yes.") if truth else ("no", "No", "No.")),
    )


def ask_loss(rng: Rng, t: Ticket) -> Asked | None:
    """Lost data."""
    return None if t.section in ("quiet", "breach", "loud") else yes_no(rng, LOSS_ASK, t.section == "loss")


def ask_safe(rng: Rng, t: Ticket) -> Asked | None:
    """Security."""
    return None if t.section in ("quiet", "calm", "loud") else yes_no(rng, SAFE_ASK, t.section == "breach")


def ask_staff(rng: Rng, t: Ticket) -> Asked | None:
    """Customers or staff."""
    if t.section not in ("core", "important", "newcomers", "internal"):
        return None
    return (
        pick(rng, STAFF_ASK) + pick(rng, ("", " Say customers or staff.")),
        "staff" if t.section == "internal" else "customers",
    )


def ask_new(rng: Rng, t: Ticket) -> Asked | None:
    """New customers."""
    if t.section not in ("newcomers", "internal", "cosmetic", "slow", "loss", "single", "comms"):
        return None
    return yes_no(rng, NEW_ASK, t.section == "newcomers")


def ask_broken(rng: Rng, t: Ticket) -> Asked | None:
    """Whether anything is broken."""
    if t.section not in ("calm", "core", "important", "loss", "slow", "partial", "newcomers"):
        return None
    return yes_no(rng, BROKEN_ASK, t.section != "calm")


def ask_gist(rng: Rng, t: Ticket) -> Asked:
    """The gist."""
    return pick(rng, GIST_ASK).format(r=pick(rng, w.REPORT)), reasons.headline(rng, t)


def ask_reply(rng: Rng, t: Ticket) -> Asked:
    """The first reply."""
    return pick(rng, REPLY_ASK).format(r=pick(rng, w.REPORT)), reasons.reply(rng, t)


def ask_severity(rng: Rng, t: Ticket) -> Asked:
    """The severity, as one question of several."""
    levels = scale(rng)
    extra = "\n" + levels.explained if levels.explained else ""
    return w.instruction(rng, levels.options) + extra, levels.label(t.severity)


ASKS = (ask_scope, ask_kind, ask_way, ask_loss, ask_safe, ask_staff, ask_new, ask_broken, ask_gist, ask_reply)
_CUM = [12, 22, 34, 40, 46, 52, 57, 62, 92, 104]


def question(rng: Rng, ticket: Ticket) -> Asked:
    """Some question that this ticket answers."""
    for _ in range(8):
        asked = weighted(rng, ASKS, _CUM)(rng, ticket)
        if asked:
            return asked
    return ask_gist(rng, ticket)


def single_turn(rng: Rng, maker: TicketMaker) -> Chat:
    """One question."""
    ticket = maker.ticket(rng)
    ask, answer = question(rng, ticket)
    return w.chat(rng, ask, ticket.text, answer)


def turns(rng: Rng, maker: TicketMaker) -> Chat:
    """The ticket with a first question, then one or two more."""
    ticket = maker.ticket(rng)
    first = ask_severity(rng, ticket) if chance(rng, 0.5) else question(rng, ticket)
    if chance(rng, 0.25):
        chat = [
            w.user(ticket.text),
            w.assistant(
                pick(
                    rng,
                    (
                        "Noted. What do you need?",
                        "Thanks, I have read it.",
                        "Read.",
                        "Understood. How can I help with it?",
                        "Got it.",
                    ),
                )
            ),
        ]
        chat += [w.user(first[0]), w.assistant(first[1])]
    else:
        chat = w.chat(rng, first[0], ticket.text, first[1])
    asked = {first[1]}
    for _ in range(between(rng, 1, 2)):
        ask, answer = ask_severity(rng, ticket) if chance(rng, 0.25) else question(rng, ticket)
        if answer not in asked:
            asked.add(answer)
            chat += [w.user(ask), w.assistant(answer)]
    return chat


def form(rng: Rng, maker: TicketMaker) -> Chat:
    """Several facets at once as JSON."""
    ticket = maker.ticket(rng)
    fields = [(pick(rng, w.NOTE_KEYS), pick(rng, w.NOTE_HINTS), ticket.gist)]
    if ticket.section in reasons.KIND:
        fields.append(
            (
                pick(rng, ("kind", "type", "sort", "area")),
                "|".join(shuffled(rng, list(reasons.KIND.values()))),
                reasons.KIND[ticket.section],
            )
        )
    if ticket.scope in SCOPE_OPTIONS and (ticket.people or ticket.scope in ("one", "staff")):
        fields.append(
            (
                pick(rng, ("who", "scope", "affected", "people")),
                "|".join(SCOPE_OPTIONS.values()),
                SCOPE_OPTIONS[ticket.scope],
            )
        )
    if ticket.section in reasons.OUTAGES:
        fields.append((pick(rng, ("workaround", "way_round", "alternative")), "yes|no|not stated", ticket.way))
    fields = shuffled(rng, fields)
    ask = (
        pick(rng, ("Extract the facts.", "Fill in the form.", "Describe the report.", "Turn the report into data."))
        + " "
    )
    ask += w.json_request(rng, [(k, h) for k, h, _ in fields])
    return w.chat(rng, ask, ticket.text, w.compact({k: v for k, _, v in fields}))


def choose(rng: Rng, maker: TicketMaker) -> Chat:
    """Pick the ticket about X, or the gist that fits."""
    group = [maker.ticket(rng, plain=True) for _ in range(between(rng, 3, 4))]
    right = int(rng.random() * len(group))
    names = pick(rng, ("ABCD", "1234", "abcd"))
    if chance(rng, 0.5):
        ask = pick(
            rng, ("Which report is about this: {}?", "Which one says that {}?", "Find the ticket about: {}")
        ).format(group[right].gist)
        body = "\n".join(f"{n}: {t.text}" for n, t in zip(names, group, strict=False))
    else:
        ask = (
            pick(rng, ("Which summary fits this report?", "Which title is right?", "Pick the line that sums it up."))
            + f"\n{group[right].text}"
        )
        body = "\n".join(f"{n}: {t.gist}" for n, t in zip(names, group, strict=False))
    return [w.user(f"{ask}\n{body}"), w.assistant(names[right])]


def same_problem(rng: Rng, maker: TicketMaker) -> Chat:
    """Do a report and a title belong together?"""
    ticket, other = maker.ticket(rng), maker.ticket(rng)
    match = chance(rng, 0.5) or other.gist == ticket.gist
    ask = f"Does the title '{ticket.gist if match else other.gist}' fit this report? Answer yes or no."
    return w.chat(rng, ask, ticket.text, "yes" if match else "no")


def gist_only(rng: Rng, maker: TicketMaker) -> Chat:
    """The gist, by itself."""
    ticket = maker.ticket(rng)
    ask, answer = ask_gist(rng, ticket)
    if chance(rng, 0.35):
        key = pick(rng, w.NOTE_KEYS)
        ask += " " + w.json_request(rng, [(key, pick(rng, w.NOTE_HINTS))])
        answer = w.compact({key: answer})
    return w.chat(rng, ask, ticket.text, answer)


TASKS = (single_turn, turns, form, choose, same_problem, gist_only)
_TASK_CUM = [45, 65, 75, 83, 86, 100]


def facet_chat(rng: Rng, maker: TicketMaker) -> Chat:
    """Any task over the facets."""
    return weighted(rng, TASKS, _TASK_CUM)(rng, maker)
