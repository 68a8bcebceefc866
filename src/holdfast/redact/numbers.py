"""Numbers by checksum and surroundings: cards, IBAN, routing and account numbers, phone numbers."""

import re
from collections.abc import Iterator

from holdfast.redact.checks import IBAN_LENGTHS, digits_of, iban, luhn, mod97, routing_number
from holdfast.redact.spans import RANKS, Span
from holdfast.redact.words import one_of

# Six digits that stand by themselves and are no date: without them there is no phone, account or tax number.
CLUSTER = re.compile(
    r"\d(?<![A-Za-z0-9.]\d)(?<![0-9A-Za-z]-\d)"
    r"(?!(?:(?<=1)9|(?<=2)0)\d\d-[01]\d-[0-3]\d(?!\d)|\d{0,2}(?:\.\d{1,3}){3}(?![\d.]))(?:[ .\-/()\t_]{0,3}\d){5}"
)
# Twelve digits with little between them: a text without such a cluster holds no card.
LONG_CLUSTER = re.compile(r"\d(?<!\d\d)(?:[ \t.\-/()_,:\n]{0,3}+\d){11,}+")
_ROUTING = re.compile(r"(?<![\dA-Za-z])\d{4}([ -]?)\d{4}\1\d(?![\dA-Za-z])|(?<!\d)\d{3}([ -])\d{3}\2\d{3}(?!\d)")
_GROUP = re.compile(r"\d+")
_CARD_WORD = one_of(
    ("card", "pay", "refund", "charge", "visa", "amex", "maestro", "mastercard", "discover", " pan ", "credit",
    "debit", "cc num",
     "cc_num", "cc-num", "cc #", "cc no", "karte", "carte", "tarjeta", "carta", "karta", "kaart", "kort", "cartão")
)  # fmt: skip
_TIME_WORD = one_of(
    ("time", "stamp", "epoch", " ts", "_ts", "millis", "nanos", " ms", "unix", "since", "until", "expire",
    "created", "updated",
     "_at", "date", " at ", "offset", "seq", "trace", "span")
)  # fmt: skip
_CARD_SHAPES = re.compile(
    r"4,4,4,[1-7]|4,4,4,4,[1-3]|4,6,[45]|6,6,[1-7]|4,4,4|(?:1,){11,18}1|(?:2,){5,8}[12]|(?:3,){3,5}[1-3]"
    r"|(?:5,){2,3}[1-5]|6,(?:7|9|10|13)|8,8|4,(?:8|12)"
)
_MAESTRO = re.compile(r"5[06-8]|6|0604")
_UNIT = re.compile(r"\s?(?:bytes?|[kmgt]?i?b\b|rows?|items|requests|ms|ns|us\b|µs)")
_ROUTING_WORDS = ("rout", "aba", "ach ", "ach:", "wire", "transit", "rtn")
_ROUTING_WORD = re.compile(r"rout|\baba\b|\brtn\b|transit|fedwire|\bach\b|wire")
_ACCOUNT_WORD = re.compile(
    r"(?:account|acct|a/c|konto|kontonummer|compte|cuenta|conto|rekening|conta|konto nr|depot|iban|bban"
    r"|ledger|policy|customer|member|client)"
    r"(?:[ _-]?(?:no|nr|num|number|nummer|numéro|id|#|n°|holder))?\.?[\"']?\s{0,2}(?:is|was|ending|:|=|#"
    r"|-)?[:\s#=\"']{0,4}$"
)
_ACCOUNT = re.compile(r"\d(?<![\dA-Za-z.]\d)(?:[ -]?\d){5,19}(?![\dA-Za-z]|[.,:]\d)")
_BANK_WORD = re.compile(r"account|acct|a/c|konto|compte|cuenta|conto|rekening|conta|depot|bban")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[ .-]?\d{2}(?:[ .\-_/]?[A-Za-z0-9]){10,30}")
_IBAN_FORM = re.compile(
    r"[A-Za-z]{2}\d{2}(?:[A-Za-z0-9]{10,32}|(?:[ -][A-Z0-9]{4}){2,8}(?:[ -][A-Z0-9]{1,3})?)(?![A-Za-z0-9])", re.ASCII
)
_HEX = re.compile(r"[0-9a-fA-F-]+")


class Number:
    """A row of digit groups with little between them."""

    def __init__(self, text: str, spans: list[tuple[int, int]]) -> None:
        self.text, self.spans = text, spans
        self.groups = [text[start:end] for start, end in spans]
        self.gaps = [text[a[1] : b[0]] for a, b in zip(spans, spans[1:], strict=False)]


def find_clusters(text: str) -> list[Number]:
    """Rows of twelve digits and more with little between them."""
    return [
        Number(text, [group.span() for group in _GROUP.finditer(text, *row.span())])
        for row in LONG_CLUSTER.finditer(text)
    ]


def find_cards(number: Number, lower: str) -> Iterator[Span]:
    """Luhn-valid numbers of 13 to 19 digits (12 with a Maestro prefix), in one piece or in the usual groups."""
    sizes = [len(group) for group in number.groups]
    if sum(sizes) < 12:
        return
    count = len(sizes)
    for first in range(count):
        total = 0
        for last in range(first, min(count, first + 19)):
            total += sizes[last]
            if total > 19:
                break
            if total >= 12 and _is_card(number, first, last, total, lower):
                yield Span(number.spans[first][0], number.spans[last][1], "CARD", RANKS["CARD"])


def _is_card(number: Number, first: int, last: int, total: int, lower: str) -> bool:
    digits = "".join(number.groups[first : last + 1])
    if not luhn(digits) or len(set(digits)) == 1:
        return False
    start, end = number.spans[first][0], number.spans[last][1]
    named = _CARD_WORD.search(f" {lower[max(0, start - 32) : start]}") is not None
    if not named and _UNIT.match(lower, end):
        return False
    if total == 12 and (not named and not _MAESTRO.match(digits) or _has_equal_neighbour(number, first, last)):
        return False
    if first < last:
        gaps = {gap.strip() or " " for gap in number.gaps[first:last]}
        shape = ",".join(str(len(group)) for group in number.groups[first : last + 1])
        return (
            len(gaps) == 1
            and (named or _CARD_SHAPES.fullmatch(shape) is not None)
            and ":" not in gaps
            and "," not in gaps
        )
    if named:
        return True
    text = number.text
    if first and number.gaps[first - 1] in ".," or text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit():
        return False  # a decimal fraction
    if (digits[0] == "1" and total in (13, 16, 19) or digits[0] == "2" and total == 13) and _TIME_WORD.search(
        lower, max(0, start - 24), start
    ):
        return False  # milliseconds, microseconds or nanoseconds since 1970
    return not _inside_hex(text, start, end)


def _has_equal_neighbour(number: Number, first: int, last: int) -> bool:
    """Are these groups only a part of a row of groups of the same size?"""
    sizes = {len(group) for group in number.groups[first : last + 1]}
    around = number.groups[max(0, first - 1) : first] + number.groups[last + 1 : last + 2]
    return len(sizes) == 1 and any(len(group) in sizes for group in around)


def _inside_hex(text: str, start: int, end: int) -> bool:
    """Digits that happen to stand in a digest or a UUID."""
    while start and (text[start - 1].isalnum() or text[start - 1] == "-"):
        start -= 1
    while end < len(text) and (text[end].isalnum() or text[end] == "-"):
        end += 1
    run = text[start:end]
    return len(run) in (24, 32, 36, 40, 56, 64, 96, 128) and _HEX.fullmatch(run) is not None


def find_ibans(text: str) -> Iterator[Span]:
    """IBANs of all countries with their lengths and the remainder modulo 97; behind the word, anything of that form."""
    position = 0
    while match := _IBAN.search(text, position):
        position = match.start() + 1
        length = IBAN_LENGTHS.get(match.group()[:2].upper())
        end, seen = match.start(), 0
        while end < match.end() and seen < (length or 0):
            seen += text[end].isalnum()
            end += 1
        plain = "".join(c for c in text[match.start() : end] if c.isalnum()).upper()
        if not plain.isascii() or not iban(plain):
            # Behind the word anything of that form is hidden; with the right remainder, a wrong length or country too.
            form = _IBAN_FORM.match(text, match.start())
            if form is None:
                continue
            end = form.end()
            plain = "".join(c for c in form.group() if c.isalnum()).upper()
            named = "iban" in text[max(0, match.start() - 24) : match.start()].lower()
            if not named and (sum(c.isdigit() for c in plain) < 10 or mod97(plain[4:] + plain[:4]) != 1):
                continue
        yield Span(match.start(), end, "IBAN", RANKS["IBAN"])
        position = end


def find_routing_numbers(text: str, lower: str) -> Iterator[Span]:
    """Routing numbers (ABA checksum and a word before them)."""
    if not any(word in lower for word in _ROUTING_WORDS):
        return
    for match in _ROUTING.finditer(text):
        start = match.start()
        if _ROUTING_WORD.search(lower, max(0, start - 40), start):
            digits = digits_of(match.group())
            if routing_number(digits):
                yield Span(start, match.end(), "ROUTING", RANKS["ROUTING"])


def find_accounts(text: str, lower: str) -> Iterator[Span]:
    """Account numbers: 6 to 20 digits directly behind a word for an account."""
    if not _BANK_WORD.search(lower):
        return
    for match in _ACCOUNT.finditer(text):
        start = match.start()
        if _ACCOUNT_WORD.search(lower, max(0, start - 40), start):
            yield Span(start, match.end(), "ACCOUNT", RANKS["ACCOUNT"])
