"""One pass over a text: cheap questions first, then only the recognisers that could have something to say."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from holdfast.redact import commands, credentials, national, network, numbers, phones, piped, tokens, toolfiles
from holdfast.redact.shadow import make_shadow
from holdfast.redact.spans import RANKS, Span

Recogniser = Callable[[str, str], Iterable[Span]]
# UUIDs and times are full of digits, and no number that is looked for.
_NO_NUMBER = re.compile(
    r"(?<![0-9A-Za-z-])(?:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(?![0-9A-Za-z-])"
    r"|(?:19|20)\d\d-[01]\d-[0-3]\d[T _][0-2]\d:[0-5]\d(?::[0-6]\d(?:[.,]\d{1,9})?)?(?!\d))"
)
_LOWER = {code: code + 32 for code in range(65, 91)}


def find_spans(text: str, extra: Sequence[Recogniser] = ()) -> list[Span]:
    """Everything that the recognisers see in `text`, in its own offsets; unsorted, overlaps included.

    extra: further recognisers (the operator's own words); they get the normalised copy and the same in lower case.
    """
    shadow = make_shadow(text)
    found = find_in_copy(shadow.text, extra)
    if not shadow.starts:
        return found
    return [Span(*shadow.locate(s.start, s.end), s.type, s.rank) for s in found]


def find_in_copy(text: str, extra: Sequence[Recogniser] = ()) -> list[Span]:
    """The same for a text that is already normalised."""
    lower = text.lower() if text.isascii() else text.translate(_LOWER)
    found: list[Span] = []
    for recognise in extra:
        found += recognise(text, lower)
    runs = [word for word in text.split() if len(word) >= tokens.SHORTEST and not tokens.HARMLESS.fullmatch(word)]
    if runs:
        found += tokens.find_tokens(text, " ".join(runs))
    if "private key" in lower or "mii" in lower or "b3blb" in lower or "putty" in lower:
        found += tokens.find_private_keys(text, lower)
    found += credentials.find_credentials(text, lower, bool(runs))
    found += commands.find_in_commands(text, lower)
    found += piped.find_piped(text, lower)
    found += toolfiles.find_in_tool_files(text, lower, bool(runs))
    if "@" in text:
        found += _without_url_users(network.find_emails(text), found)
    if "." in text or ":" in text or "-" in text:
        found += network.find_addresses(text, lower)
        if "." in text:
            found += network.find_hosts(text, lower)
    found += _find_numbers(text, lower)
    return found


def _without_url_users(emails: Iterable[Span], found: list[Span]) -> Iterator[Span]:
    """`scheme://user:password@host` is no address: what follows the password is a host."""
    passwords = [span for span in found if span.type in ("PASSWORD", "SECRET")]
    for email in emails:
        before = next((s for s in passwords if s.start <= email.start < s.end < email.end), None)
        yield email if before is None else Span(before.end + 1, email.end, "HOST", RANKS["HOST"])


def _find_numbers(text: str, lower: str) -> Iterator[Span]:
    if text.count("-") > 1:
        text = _NO_NUMBER.sub(_blank, text)
    shape = national.outline(text)
    if "00" not in shape:
        return
    parts = [part for part in shape.split() if "00" in part]
    yield from national.find_by_shape(text, lower, shape, parts)
    yield from _find_bank_numbers(text, lower, shape, parts)
    if numbers.CLUSTER.search(text):
        yield from national.find_by_word(text, lower)
        if "000000000" in shape or "0000-0000-0" in shape or "000 000 000" in shape:
            yield from numbers.find_routing_numbers(text, lower)
        yield from numbers.find_accounts(text, lower)
        yield from phones.find_phones(text, lower)
    elif "+" in text:
        yield from phones.find_phones(text, lower)
    elif ("000000" in shape or "00 00 00" in shape or "00-00-00" in shape) and national.LETTERED.search(text):
        yield from national.find_by_word(text, lower)


def _find_bank_numbers(text: str, lower: str, shape: str, parts: list[str]) -> Iterator[Span]:
    for part in parts:
        if part.startswith(("AA00", "AA-00")):
            yield from numbers.find_ibans(text)
            break
    if shape.count("0") > 11:
        for cluster in numbers.find_clusters(text):
            yield from numbers.find_cards(cluster, lower)


def _blank(match: re.Match[str]) -> str:
    return "\0" * len(match.group())
