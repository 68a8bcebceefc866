"""Label sets for severity, and the rubrics that explain them."""

from __future__ import annotations

from dataclasses import dataclass

from pick import Rng, between, chance, pick, shuffled
from words import NOUNS

# worst first; these names speak for themselves, so that a rubric may be left out
KNOWN: tuple[tuple[str, str, str, str], ...] = (
    ("sev1", "sev2", "sev3", "sev4"),
    ("SEV-1", "SEV-2", "SEV-3", "SEV-4"),
    ("P0", "P1", "P2", "P3"),
    ("P1", "P2", "P3", "P4"),
    ("S1", "S2", "S3", "S4"),
    ("red", "orange", "yellow", "green"),
    ("page now", "today", "this week", "backlog"),
    ("blocker", "major", "minor", "trivial"),
    ("emergency", "serious", "moderate", "negligible"),
    ("severe", "significant", "limited", "cosmetic"),
    ("catastrophic", "grave", "mild", "harmless"),
    ("drop everything", "fix today", "fix this sprint", "someday"),
    ("wake someone", "office hours", "next sprint", "ignore"),
    ("fatal", "bad", "annoying", "fine"),
    ("immediate", "soon", "later", "whenever"),
    ("urgent", "important", "normal", "minor"),
    ("disaster", "outage", "degradation", "nuisance"),
    ("crisis", "incident", "defect", "chore"),
    ("critical", "major", "minor", "trivial"),
    ("now", "today", "soon", "later"),
    ("extreme", "considerable", "slight", "none"),
    ("severe", "major", "moderate", "minor"),
    ("critical", "serious", "modest", "small"),
    ("page", "urgent ticket", "ticket", "note"),
    ("all hands", "on call", "team queue", "wish list"),
    ("very severe", "severe", "mild", "very mild"),
    ("huge", "large", "medium", "small"),
    ("full outage", "major fault", "partial fault", "no fault"),
    ("act now", "act today", "plan", "no action"),
    ("within minutes", "within hours", "within days", "no deadline"),
    ("terrible", "serious", "bearable", "trifling"),
    ("top", "upper", "lower", "bottom"),
    ("highest", "elevated", "standard", "lowest"),
)
# these need the rubric, or at least the order
BARE: tuple[tuple[str, str, str, str], ...] = (
    ("1", "2", "3", "4"),
    ("4", "3", "2", "1"),
    ("A", "B", "C", "D"),
    ("D", "C", "B", "A"),
    ("I", "II", "III", "IV"),
    ("alpha", "bravo", "charlie", "delta"),
    ("code black", "code red", "code amber", "code white"),
    ("10", "7", "4", "1"),
    ("level 4", "level 3", "level 2", "level 1"),
    ("T1", "T2", "T3", "T4"),
    ("tier 0", "tier 1", "tier 2", "tier 3"),
    ("F4", "F3", "F2", "F1"),
    ("gold", "silver", "bronze", "tin"),
    ("storm", "rain", "cloud", "sun"),
    ("lion", "wolf", "fox", "mouse"),
    ("north", "east", "south", "west"),
    ("fire", "smoke", "steam", "air"),
    ("K1", "K2", "K3", "K4"),
    ("w", "x", "y", "z"),
    ("X", "Y", "Z", "O"),
    ("mountain", "hill", "mound", "plain"),
    ("hot", "warm", "cool", "cold"),
    ("boulder", "rock", "pebble", "sand"),
    ("whale", "shark", "trout", "shrimp"),
    ("100", "60", "30", "5"),
    ("bell", "drum", "flute", "hush"),
    ("3", "2", "1", "0"),
    ("5", "4", "2", "1"),
    ("Q1", "Q2", "Q3", "Q4"),
    ("lane 1", "lane 2", "lane 3", "lane 4"),
)
HEADS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "kl", "st", "tr")
TAILS = ("a", "e", "i", "o", "u", "an", "el", "im", "or", "ux", "ast", "en")

RUBRICS: tuple[tuple[str, ...], ...] = (
    (
        "everyone or nearly everyone is stopped, data is gone, or security is broken",
        "the main function is unusable for all or most people, or data is lost, or there is a breach",
        "total outage of the core function, lost data or a security breach",
        "core service down for all or most users; data loss; intrusion",
        "nobody can do the main thing, or records are destroyed, or strangers got in",
        "whole service unusable, data destroyed or exposed",
        "the worst: core outage for most, loss of data, breach of security",
        "the product is useless for most people, or data or secrets are lost",
    ),
    (
        "a main function fails for many, or an important one for most",
        "an important function is broken for many people, new customers are blocked, or notices do not go out",
        "major function broken for many, no way round",
        "large group hit, or sign-up or incident communication broken",
        "key feature down for many users and no workaround",
        "important feature unusable; the core still works",
        "broken for many, sign-up broken, or status communication broken",
        "serious failure of an important part, without a detour",
    ),
    (
        "slow or partly working, few people hit, or a workaround exists",
        "degraded, partial, a handful of people, or there is a way round",
        "works with trouble: delays, some cases fail, or a detour helps",
        "some people or some cases only, or a workaround is known",
        "partial problem, slowness, or an outage with an alternative",
        "limited impact: few users, delays, or people can get round it",
        "inconvenient but work goes on",
        "delay or partial failure; a workaround is available",
    ),
    (
        "looks, wording, one person, staff convenience, questions",
        "cosmetic, documentation, internal comfort, a single user or no problem at all",
        "hardly any impact: typos, colours, questions, one person's trouble",
        "trivial: looks, help pages, internal tools, wishes",
        "no real harm: cosmetic, docs, one user, or a question",
        "nothing is broken for customers beyond looks or one person",
        "tiny or no impact",
        "small annoyance, request or praise",
    ),
)
ORDER = (
    "worst first",
    "from worst to mildest",
    "the first is the gravest",
    "in falling order of gravity",
    "most severe first",
)


THREE = (
    ("red", "amber", "green"),
    ("now", "soon", "later"),
    ("grave", "moderate", "slight"),
    ("A", "B", "C"),
    ("1", "2", "3"),
    ("severe", "moderate", "minor"),
    ("page", "ticket", "note"),
    ("big", "middling", "small"),
    ("stop", "slow", "fine"),
    ("emergency", "problem", "trifle"),
    ("level 3", "level 2", "level 1"),
    ("major", "normal", "minor"),
    ("X", "Y", "Z"),
)


@dataclass
class Scale:
    """Three or four labels, worst first, and how the prompt presents them."""

    labels: tuple[str, ...]
    explained: str
    options: str
    places: tuple[int, ...] = (0, 1, 2, 3)

    def label(self, severity: int) -> str:
        """The label of a severity 1 to 4."""
        return self.labels[self.places[severity - 1]]


def three(rng: Rng) -> Scale:
    """Three labels: two neighbouring severities share one, as the rubric says."""
    labels = pick(rng, THREE) if chance(rng, 0.6) else invented(rng)[:3]
    joint = between(rng, 0, 2)
    texts = [pick(rng, group) for group in RUBRICS]
    texts[joint : joint + 2] = [f"{texts[joint]}; also: {texts[joint + 1]}"]
    places = tuple(severity if severity <= joint else severity - 1 for severity in range(4))
    explained = described(rng, list(zip(labels, texts, strict=False)))
    return Scale(labels, explained, listed(rng, shuffled(rng, labels)), places)


def invented(rng: Rng) -> tuple[str, ...]:
    """Four made-up or unrelated label words."""
    while True:
        if chance(rng, 0.5):
            words = [pick(rng, HEADS) + pick(rng, TAILS) + pick(rng, HEADS) + pick(rng, TAILS) for _ in range(4)]
        else:
            words = [pick(rng, NOUNS) for _ in range(4)]
        if len(set(words)) == 4:
            return tuple(words)


def scale(rng: Rng) -> Scale:
    """A label set, with the rubric or the order in the prompt where the labels need it."""
    if chance(rng, 0.07):
        return three(rng)
    roll = rng.random()
    labels: tuple[str, ...]
    if roll < 0.58:
        labels, need = pick(rng, KNOWN), 0.4
    elif roll < 0.8:
        labels, need = pick(rng, BARE), 1.0
    else:
        labels, need = invented(rng), 1.0
    if chance(rng, 0.1):
        labels = tuple(word.upper() for word in labels)
    elif chance(rng, 0.05):
        labels = tuple(word.capitalize() for word in labels)
    explained = ""
    if chance(rng, need):
        explained = rubric(rng, labels) if roll >= 0.8 or chance(rng, 0.75) else ordered(rng, labels)
    shown = shuffled(rng, labels) if chance(rng, 0.75) else list(labels)
    return Scale(labels, explained, listed(rng, shown))


def ordered(rng: Rng, labels: tuple[str, ...]) -> str:
    """The order of the labels, in words."""
    if chance(rng, 0.5):
        return f"The scale, {pick(rng, ORDER)}: {', '.join(labels)}."
    if chance(rng, 0.5):
        return f"{labels[0]} is the worst, then {labels[1]}, then {labels[2]}; {labels[3]} is the mildest."
    return f"Scale from mildest to worst: {', '.join(reversed(labels))}."


def rubric(rng: Rng, labels: tuple[str, ...]) -> str:
    """A line for each label that says when it applies."""
    return described(rng, [(label, pick(rng, texts)) for label, texts in zip(labels, RUBRICS, strict=False)])


def described(rng: Rng, pairs: list[tuple[str, str]]) -> str:
    """Labels with their meanings, in one of several layouts."""
    if chance(rng, 0.4):
        rng.shuffle(pairs)
    style = between(rng, 0, 5)
    if style == 0:
        return "\n".join(f"- {label}: {text}" for label, text in pairs)
    if style == 1:
        return "; ".join(f"{label} = {text.replace(';', ',')}" for label, text in pairs) + "."
    if style == 2:
        return "\n".join(f"{label} - {text}" for label, text in pairs)
    if style == 3:
        return " ".join(f"Use {label} for: {text}." for label, text in pairs)
    if style == 4:
        return "| label | meaning |\n|---|---|\n" + "\n".join(f"| {label} | {text} |" for label, text in pairs)
    return "\n".join(f"{label} ({text})" for label, text in pairs)


def listed(rng: Rng, options: list[str]) -> str:
    """The options in one line."""
    style = between(rng, 0, 5)
    if style == 0:
        return ", ".join(options[:-1]) + " or " + options[-1]
    if style == 1:
        return " | ".join(options)
    if style == 2:
        return " / ".join(options)
    if style == 3:
        return ", ".join(f'"{o}"' for o in options)
    if style == 4:
        return "[" + ", ".join(options) + "]"
    return ", ".join(options)
