"""What a recogniser returns: where something stands, what it is, and how much it outranks its neighbours."""

from typing import NamedTuple


class Span(NamedTuple):
    """Characters `start:end` of a text hold a value of `type`. On overlap the smaller `rank` names the type."""

    start: int
    end: int
    type: str
    rank: int = 50


# Fixed order of the types on overlap. The union of overlapping spans is masked, so no rest of the loser survives.
RANKS = {
    name: rank
    for rank, name in enumerate(
        (
            "TERM", "PRIVATE_KEY", "PASSWORD", "JWT", "AWS_KEY", "AWS_SECRET", "GOOGLE_KEY", "GITHUB_TOKEN",
            "GITLAB_TOKEN", "SLACK_TOKEN", "SLACK_WEBHOOK", "STRIPE_KEY", "ANTHROPIC_KEY", "OPENAI_KEY", "AZURE_KEY",
            "NPM_TOKEN", "PYPI_TOKEN", "HF_TOKEN", "SENDGRID_KEY", "TWILIO_KEY", "TELEGRAM_TOKEN", "API_KEY", "SSH_KEY",
            "SECRET", "IBAN", "CARD", "NATIONAL_ID", "ACCOUNT", "ROUTING", "EMAIL", "MAC", "IP", "PHONE", "HOST",
            "PERSON", "ORG", "PLACE",
        )
    )
}  # fmt: skip
TYPES = frozenset(RANKS)


def merge(spans: list[Span]) -> list[Span]:
    """Overlapping spans become one: their union, called after the one with the smallest rank. Sorted by start."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            first = min(last, span, key=lambda s: s.rank)
            merged[-1] = Span(last.start, max(last.end, span.end), first.type, first.rank)
        else:
            merged.append(span)
    return merged
