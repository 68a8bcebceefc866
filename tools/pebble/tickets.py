"""Tickets with known facets, made from lexicon lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

import slots
from lexfiles import Lexicon, Line
from pick import Rng, between, capital, chance, pick, stop, weighted

# target severity -> (section, scopes to draw from, with a detour, weight)
WIDE, MIDDLE, ANY = ("everyone", "most"), ("many",), slots.SCOPES[:4]
OUTAGE = ("everyone", "most", "many")
RECIPES: dict[int, tuple[tuple[str, tuple[str, ...], bool, float], ...]] = {
    1: (("core", WIDE, False, 9), ("loss", (), False, 5), ("breach", (), False, 5), ("quiet", (), False, 5)),
    2: (
        ("core", MIDDLE, False, 7),
        ("important", OUTAGE, False, 9),
        ("newcomers", (), False, 5),
        ("comms", (), False, 4),
    ),
    3: (
        ("slow", ANY, False, 7),
        ("partial", (), False, 7),
        ("core", ("some",), False, 4),
        ("important", ("some",), False, 3),
        ("core", OUTAGE, True, 4),
        ("important", OUTAGE, True, 4),
        ("newcomers", (), True, 1),
        ("comms", (), True, 1),
    ),
    4: (
        ("cosmetic", (), False, 5),
        ("internal", (), False, 5),
        ("docs", (), False, 4),
        ("single", (), False, 5),
        ("loud", (), False, 5),
        ("calm", (), False, 4),
        ("core", ("one",), False, 3),
        ("important", ("one",), False, 2),
    ),
}
FIXED_SCOPE = {"single": "one", "internal": "staff"}
JOINS = (
    ", but {}",
    "; however, {}",
    ". However, {}",
    ". Luckily {}",
    ", but for now {}",
    ". For now {}",
    " - but {}",
    ", though {}",
    ". Fortunately {}",
    ", but luckily {}",
    ". In the meantime {}",
    ". Still, {}",
    " although {}",
    ". On the bright side, {}",
    ". As a workaround, {}",
    ", yet {}",
    " (but {})",
    ". That said, {}",
)
NO_WAY = (
    "there is no way round it",
    "nobody has found another way",
    "we have found no workaround",
    "the usual way round fails too",
    "no other route works",
    "there is no alternative",
    "trying another browser or device changes nothing",
    "even the backup route fails",
    "we know of no workaround",
    "no fallback is in place",
    "restarting does not help",
)
GENERIC_DETOURS = (
    "the old version still works",
    "the same can be done by phone",
    "doing it by hand works",
    "a second try goes through",
    "the mobile site works",
    "the spare system does the job",
    "support staff can do it on request",
    "another browser does the trick",
    "the desktop program still works",
    "the same step works from the start page",
    "it works after logging in again",
    "a private window helps",
    "the partner portal still does it",
    "it can be done with a form sent by mail",
    "the tablet edition is fine",
    "our agents enter it by hand",
    "switching to the other language helps",
    "a direct link still opens it",
    "the import route works as usual",
    "the previous release can be used instead",
    "the command line does the same",
    "people can use the paper form",
)
BUT_NOT = (
    "nobody has looked at it yet",
    "we do not know why",
    "yesterday it was fine",
    "the cause is unknown",
    "nobody knows since when",
    "it was fine last {month}",
    "the vendor has not answered yet",
    "I have not told my boss",
    "the log says little",
    "nothing was changed",
    "I may be the first to write",
    "I could not find a similar report",
    "{name} is on holiday",
    "the manual says otherwise",
    "our contract says otherwise",
    "I have no screenshot",
    "I am no expert",
)
OPENERS = (
    "Hi team, ",
    "Hello, ",
    "FYI: ",
    "Customer reports: ",
    "Hi, ",
    "Good morning, ",
    "Hey folks, ",
    "From chat: ",
    "Note from the front desk: ",
    "Reported by phone: ",
    "Hello support, ",
    "Dear colleagues, ",
    "Heads up: ",
    "For the log: ",
    "From {name}: ",
    "{name} from {team} writes: ",
    "Via the web form: ",
    "Morning all, ",
    "Quick one: ",
    "Ticket from {city}: ",
    "Voicemail summary: ",
    "Forwarded: ",
    "Update: ",
    "New report: ",
    "Hi {name}, ",
    "Good afternoon. ",
    "Field note: ",
    "Incoming: ",
    "Partner mail: ",
    "Evening shift: ",
)
ALARM = (
    "URGENT!!! ",
    "Please help ASAP! ",
    "This is a disaster. ",
    "EMERGENCY: ",
    "I am furious. ",
    "Red alert! ",
    "We are panicking here. ",
    "Top urgency please! ",
    "Unbelievable!!! ",
    "Drop everything! ",
    "HELP! ",
    "This is totally unacceptable. ",
    "Extremely important: ",
    "I need this fixed NOW. ",
    "Critical!!! ",
    "Outrageous. ",
    "The sky is falling: ",
    "I demand an answer today. ",
)
SOOTHE = (
    "No rush. ",
    "Just a small note: ",
    "When you have a minute: ",
    "Probably nothing, but ",
    "Not sure if it matters: ",
    "A little thing: ",
    "Hope you are well. ",
    "Sorry to bother you. ",
    "Low key remark: ",
    "Only mentioning it: ",
    "By the way, ",
    "Nothing dramatic I think: ",
    "Small observation: ",
    "In case it is useful: ",
    "Hm, odd: ",
    "Take your time. ",
    "For whenever you get to it: ",
    "Minor, I guess: ",
    "Just so you know, ",
)
CONTEXT = (
    "First seen after the {day} release.",
    "No changes on our side.",
    "Noticed around {clock}.",
    "We run version {version}.",
    "Reported through the usual channel.",
    "The log shows {code}.",
    "It was first noticed on {day}.",
    "{name} can give more details.",
    "Seen on {host}.",
    "Nothing was deployed today.",
    "Last deploy was {dur} ago.",
    "We have not touched the settings.",
    "Ticket opened by the {team} team.",
    "A screenshot is attached.",
    "Browser cache was cleared.",
    "I saw it on {service}.",
    "Started {dur} ago.",
    "Happens with every browser.",
    "The weather was fine, in case you ask.",
    "Reference number {many}.",
    "Monitoring shows nothing unusual.",
    "The {team} team has been told.",
    "We moved offices last {month}.",
    "I am writing from {city}.",
    "It came up in the morning meeting.",
    "The trace id is {many}-{dd}.",
    "Our contract number is {many}.",
    "Thanks for looking.",
    "Please let me know.",
    "Kind regards, {name}",
    "Waiting for your reply.",
    "I tried twice.",
    "My colleague {name} noticed it first.",
    "Cheers, {name}",
    "This was on {date}.",
    "We upgraded to {version} last week.",
    "The office is closed on {day}.",
    "Call me if anything is unclear.",
    "I have attached the log.",
    "Thank you very much!",
)
SUBJECTS = (
    "Question",
    "Report from {city}",
    "Ticket {many}",
    "Issue",
    "Something to look at",
    "Please read",
    "Note",
    "From the {team} team",
    "Observation",
    "Help wanted",
    "Case {many}",
    "Hello",
    "Today",
    "Problem?",
    "(none)",
    "URGENT",
    "fyi",
    "strange thing",
    "Report {dd}",
    "{service}",
)
SWAPS = {
    "basket": ("cart", "bag"),
    "cart": ("basket",),
    "website": ("site", "web site"),
    "customers": ("clients", "buyers"),
    "cannot": ("can't", "can not"),
    "broken": ("not working", "faulty"),
    "wrong": ("incorrect",),
    "shows": ("displays",),
    "picture": ("photo",),
    "fails": ("does not work",),
    "since": ("ever since",),
    "slow": ("sluggish",),
    "staff": ("employees",),
    "stopped working": ("gave up",),
    "could not": ("couldn't",),
    "does not": ("doesn't",),
    "do not": ("don't",),
    "invoices": ("bills",),
    "error": ("error message",),
    "disappeared": ("vanished",),
    "vanished": ("disappeared",),
    "reports": ("listings",),
    "everyone": ("everybody",),
    "photo": ("picture",),
    "deleted": ("erased",),
    "incorrect": ("wrong",),
}
_SWAP = re.compile(r"\b(" + "|".join(sorted(SWAPS, key=len, reverse=True)) + r")\b")
_WORD = re.compile(r"[a-z]{5,}")


@dataclass
class Ticket:
    """A report and what is true of it."""

    text: str
    body: str
    severity: int
    section: str
    scope: str
    people: str
    way: str
    gist: str
    domain: str
    detour: str = ""


class TicketMaker:
    """Draws tickets from a lexicon."""

    def __init__(self, lexicon: Lexicon, generic: bool = True) -> None:
        """Prepare the recipes that this lexicon has lines for; generic allows detours from outside the lexicon."""
        self.lexicon, self.generic = lexicon, generic
        self.domains = sorted({line.domain for lines in lexicon.lines.values() for line in lines})
        self.recipes = {}
        for severity, recipes in RECIPES.items():
            live = [r for r in recipes if lexicon.lines[r[0]] and (not r[2] or lexicon.detours)]
            if live:
                self.recipes[severity] = (live, list(accumulate(r[3] for r in live)))
        self.severities = sorted(self.recipes)

    def ticket(self, rng: Rng, severity: int = 0, plain: bool = False) -> Ticket:
        """A ticket of that severity (any, with 0); plain leaves out the noise."""
        severity = severity or pick(rng, self.severities)
        section, scopes, detoured, _ = weighted(rng, *self.recipes[severity])
        line = pick(rng, self.lexicon.lines[section])
        for _ in range(20):
            if not detoured or line.domain in self.lexicon.detours:
                break
            line = pick(rng, self.lexicon.lines[section])
        scope = pick(rng, scopes) if scopes else FIXED_SCOPE.get(section, "")
        return self.build(rng, line, severity, scope, detoured, plain)

    def build(self, rng: Rng, line: Line, severity: int, scope: str, detoured: bool, plain: bool) -> Ticket:
        """Fill a line's slots and dress it."""
        has_who = "{who}" in line.text
        people = slots.who(rng, scope) if has_who else ""
        body = slots.fill(rng, line.text.replace("{who}", people))
        if scope == "everyone" and chance(rng, 0.5):
            body = nobody(rng, body, people)
            people = people if people in body else "nobody"
        if chance(rng, 0.3):
            body = _SWAP.sub(lambda m: pick(rng, SWAPS[m[0]]), body, count=2)
        way, detour = "not stated", ""
        if detoured:
            way, detour = "yes", self.detour(rng, line.domain)
            body = join(rng, body, JOINS, detour)
        elif line.section in ("core", "important", "newcomers", "comms") and chance(rng, 0.15):
            way = "no"
            body = join(rng, body, (" and {}", ". Also, {}", ", and {}", "; {}", " - {}"), pick(rng, NO_WAY))
        elif chance(rng, 0.07):
            body = join(
                rng,
                body,
                (", but {}", ". However, {}", ", though {}", " - but {}", ". Still, {}"),
                slots.fill(rng, pick(rng, BUT_NOT)),
            )
        if not has_who:
            scope = FIXED_SCOPE.get(line.section, "")
        text = stop(capital(body)) if plain else dress(rng, body)
        return Ticket(
            text,
            body,
            severity,
            line.section,
            scope,
            people,
            way,
            gist(rng, line, scope if has_who else "", people, bool(detour)),
            line.domain,
            detour,
        )

    def detour(self, rng: Rng, domain: str) -> str:
        """A clause that says what still works, of this domain where there is one."""
        if self.generic and chance(rng, 0.15):
            return pick(rng, GENERIC_DETOURS)
        lines = self.lexicon.detours.get(domain) or self.lexicon.lines["detour"]
        return slots.fill(rng, pick(rng, lines).text)


SCOPE_WORDS = {
    "everyone": ("for everyone", "for all", "for everybody", "for all users"),
    "most": ("for most", "for nearly everyone", "for most users"),
    "many": ("for many", "for many users", "for a large group"),
    "some": ("for a few", "for some users", "for a handful"),
    "one": ("for one user", "for one person", "for a single user"),
}
HAS_PEOPLE = re.compile(r"\b(for|everyone|everybody|users|customers|nobody|all|some|people)\b")


def gist(rng: Rng, line: Line, scope: str, people: str, detoured: bool) -> str:
    """The line's gist, with whom it hits."""
    text = line.gist
    if scope and not HAS_PEOPLE.search(text) and chance(rng, 0.7):
        text += f" for {people}" if len(people) < 16 and chance(rng, 0.4) else " " + pick(rng, SCOPE_WORDS[scope])
    if detoured and chance(rng, 0.6):
        text += pick(
            rng,
            (
                ", workaround exists",
                " but there is a workaround",
                ", with a way round",
                "; another route works",
                ", alternative available",
            ),
        )
    return text


def join(rng: Rng, body: str, joins: tuple[str, ...], clause: str) -> str:
    """The report with a further clause; after a question or an exclamation it begins a new sentence."""
    if body[-1] in "?!.":
        if joins is JOINS:
            return f"{body} {pick(rng, ('But', 'Still,', 'However,', 'Luckily'))} {clause}"
        return f"{body} {capital(clause)}"
    return body + pick(rng, joins).format(clause)


def nobody(rng: Rng, body: str, people: str) -> str:
    """'all users cannot' becomes 'nobody can'; other bodies stay."""
    for negative, positive in (("cannot", "can"), ("could not", "could")):
        if body.startswith(f"{people} {negative} "):
            first = pick(
                rng,
                (
                    "nobody",
                    "no one",
                    "no user",
                    "no customer",
                    "not a single user",
                    "no client anywhere",
                    "none of our users",
                ),
            )
            return f"{first} {positive} {body[len(people) + len(negative) + 2 :]}"
    return body


def dress(rng: Rng, body: str) -> str:
    """Opener, tone, context, subject line, letter case and typing slips, none of which tells the severity."""
    text = body
    roll = rng.random()
    lead = ""
    if roll < 0.10:
        lead = pick(rng, ALARM)
    elif roll < 0.22:
        lead = pick(rng, SOOTHE)
    elif roll < 0.40:
        lead = slots.fill(rng, pick(rng, OPENERS))
    if not lead or lead[-2] in ".!?" or chance(rng, 0.3):
        text = capital(text)
    text = lead + text
    if text[-1] not in ".!?" and chance(rng, 0.85):
        text += pick(rng, (".", ".", ".", ".", "!", "..", "...")) if chance(rng, 0.3) else "."
    style = rng.random()
    if style < 0.22:
        context = slots.fill(rng, pick(rng, CONTEXT))
        text = f"{text} {context}" if text[-1] in ".!?" else f"{text}. {context}"
    elif style < 0.30:
        text = slots.fill(rng, pick(rng, CONTEXT[:13])) + " " + capital(text)
    if chance(rng, 0.05):
        text = f"Subject: {slots.fill(rng, pick(rng, SUBJECTS))}\n{text}"
    return letters(rng, text)


def letters(rng: Rng, text: str) -> str:
    """All small or all capital letters, or a typing slip, now and then."""
    roll = rng.random()
    if roll < 0.08:
        text = text.lower()
    elif roll < 0.10:
        text = text.upper()
    return slip(rng, text) if chance(rng, 0.08) else text


def slip(rng: Rng, text: str) -> str:
    """One typing slip in a longer word."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = pick(rng, words)
    spot = between(rng, word.start() + 1, word.end() - 2)
    kind = int(rng.random() * 3)
    middle = ("", text[spot] * 2, text[spot + 1] + text[spot])[kind]
    return text[:spot] + middle + text[spot + (2 if kind == 2 else 1) :]
