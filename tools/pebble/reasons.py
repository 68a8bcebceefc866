"""Why a ticket has its severity, in words; replies to its reporter; reasoning in steps."""

from __future__ import annotations

from pick import Rng, capital, chance, pick
from tickets import Ticket

SCOPE_SAY = {
    "everyone": ("everyone", "all users", "everybody"),
    "most": ("most people", "nearly everyone", "most users"),
    "many": ("many people", "a large group", "many users"),
    "some": ("a few people", "a handful of users", "only some users"),
    "one": ("one person", "a single user", "one user"),
    "staff": ("staff only", "a few colleagues", "only staff"),
}
FUNCTION = {
    "core": (
        "the core function is unusable",
        "the main function does not work",
        "the core function is down",
        "the main thing cannot be done",
    ),
    "important": (
        "an important function is broken",
        "an important part does not work",
        "an important function fails, the core works",
    ),
    "newcomers": ("new customers are blocked", "new people cannot get started", "newcomers are stuck"),
    "comms": (
        "incident notices do not reach people",
        "status communication is broken",
        "people cannot learn about incidents",
    ),
    "loss": ("data has been lost", "data is lost or corrupted", "records are gone or damaged"),
    "breach": ("this is a security breach", "security is broken", "unauthorised access or exposure"),
    "slow": ("it is slow but it works", "degraded, yet it still works", "delays, but the work gets done"),
    "partial": ("only some cases fail", "partly broken, most goes through", "a part fails and the rest works"),
    "cosmetic": ("only the looks are affected", "cosmetic", "nothing but appearance is wrong"),
    "internal": ("only a staff tool is affected", "internal inconvenience only", "customers do not notice it"),
    "docs": ("only documentation is wrong", "a matter of help texts", "only written guidance is affected"),
    "single": ("one person's minor problem", "a small problem of one person", "only one person, and minor"),
    "loud": ("loud words, tiny impact", "dramatic tone, but hardly any harm", "alarming tone, small matter"),
    "quiet": ("calm words, gravest impact", "the tone is mild, the damage is not", "worst impact, quietly told"),
    "calm": ("nothing is broken", "no problem is reported", "no fault, nothing to repair"),
}
STEP_FUNCTION = {
    "core": "core",
    "important": "important, not core",
    "newcomers": "getting started as a new customer",
    "comms": "incident communication",
    "loss": "data kept safe",
    "breach": "security",
    "slow": "works, but slowly",
    "partial": "works in part",
    "cosmetic": "looks only",
    "internal": "staff tool",
    "docs": "documentation",
    "single": "minor, one person",
    "loud": "trifle, whatever the tone",
    "quiet": "worst case, whatever the tone",
    "calm": "nothing broken",
}
KIND = {
    "core": "core outage",
    "important": "feature outage",
    "newcomers": "new customers blocked",
    "comms": "incident communication",
    "loss": "data loss",
    "breach": "security",
    "slow": "slowness",
    "partial": "partial failure",
    "cosmetic": "cosmetic",
    "internal": "internal tool",
    "docs": "documentation",
    "single": "single user",
    "calm": "no problem",
}
OUTAGES = ("core", "important", "newcomers", "comms")
URGENT = (
    (
        "We are treating this as an emergency and are on it now.",
        "Our on-call engineers are working on it right now.",
        "We have started our emergency procedure.",
        "All available hands are on this now.",
    ),
    (
        "We will work on this today without delay.",
        "An engineer is taking it up at once.",
        "This goes to the front of today's queue.",
    ),
    (
        "We will look into it this week.",
        "We have put it on this week's list.",
        "We have logged it and will get to it soon.",
    ),
    ("We have noted it for a later fix.", "We have put it on our list.", "We will pick it up when there is time."),
)
THANKS = (
    "Thank you for the report.",
    "Thanks for telling us.",
    "Thank you for letting us know.",
    "Thanks for the note.",
    "We appreciate the report.",
    "Thanks for reaching out.",
    "Hello, and thank you for writing.",
)


def scope_words(rng: Rng, ticket: Ticket) -> str:
    """Whom it hits, in short."""
    if ticket.scope in SCOPE_SAY:
        return pick(rng, SCOPE_SAY[ticket.scope])
    return "new customers" if ticket.section == "newcomers" else "not stated"


def because(rng: Rng, ticket: Ticket) -> str:
    """A short reason for the severity, lower case, no full stop."""
    text = pick(rng, FUNCTION[ticket.section])
    if ticket.people and ticket.scope:
        text = text.split(",")[0] if ticket.section == "important" else text
        text += f" for {scope_words(rng, ticket).removeprefix('only ')}"
    if ticket.way == "yes":
        text += pick(
            rng,
            (", but there is a way round", ", with a workaround", ", yet people can get round it", ", a detour exists"),
        )
    elif ticket.way == "no" and chance(rng, 0.6):
        text += pick(rng, (", no way round", " and there is no workaround", ", no other way"))
    elif chance(rng, 0.3):
        text = f"{ticket.gist}: {text}"
    return text


def steps(rng: Rng, ticket: Ticket, label: str) -> str:
    """Reasoning in four short steps."""
    parts = [
        ("Scope", scope_words(rng, ticket)),
        ("Function", STEP_FUNCTION[ticket.section]),
        ("Way round", ticket.way),
        ("So", label),
    ]
    if ticket.section in ("loss", "breach"):
        parts[2] = ("Damage", "data lost" if ticket.section == "loss" else "security broken")
    if chance(rng, 0.3):
        parts.insert(0, ("Report", ticket.gist))
    glue = "\n" if chance(rng, 0.5) else " "
    return glue.join(f"{name}: {value}." for name, value in parts)


def reply(rng: Rng, ticket: Ticket) -> str:
    """The first answer to the reporter."""
    if ticket.section == "calm":
        return pick(
            rng,
            (
                "Thank you for your message. We have passed it on to the right people.",
                "Thanks for writing. Nothing needs repair, and we will get back to you shortly.",
                "Thank you, noted. We will answer in due course.",
            ),
        )
    first = pick(rng, THANKS)
    about = pick(
        rng,
        (
            "We understand the problem: {}.",
            "We see the issue ({}).",
            "As we read it: {}.",
            "Noted: {}.",
            "We have recorded this as: {}.",
            "Your report says: {}.",
        ),
    ).format(ticket.gist)
    text = f"{first} {about} {pick(rng, URGENT[ticket.severity - 1])}"
    if ticket.detour and chance(rng, 0.8):
        text += pick(rng, (" Until then: {}.", " In the meantime, {}.", " For now, {}.")).format(ticket.detour)
        text = text.replace("Until then: ", "Until then, ")
    return text


def headline(rng: Rng, ticket: Ticket) -> str:
    """The gist with a capital now and then."""
    return capital(ticket.gist) if chance(rng, 0.1) else ticket.gist
