"""Phone numbers: international, national with a trunk zero, North American, any digits behind a word for it."""

import re
from collections.abc import Iterator

from holdfast.redact.checks import digits_of
from holdfast.redact.spans import RANKS, Span
from holdfast.redact.words import one_of

_CANDIDATE = re.compile(
    r"[+(\d](?<![\w.,$€£=&/-].)(?<!\d .)(?:(?<=\d)|[+(]?\d)[\d .\-/()\t]{4,28}\d(?:\s?(?:x|ext\.?|extension|#"
    r"|durchwahl)\s?\d{1,6})?(?![\w]|[.,:]\d|-[A-Za-z])",
    re.IGNORECASE,
)
_GLUED = re.compile(r"(?<![\d.])\+\d[\d .\-/()]{6,24}\d(?!\d)")
_WORD = one_of(
    ("phone", " tel", "(tel", "tel:", "tel.", "mobile", " cell", "call", "fax", "contact", " sms", "whatsapp",
    "dial", "hotline",
     " ring ", "pager", " mob ", "telef", "télé", "móvil", "movil", "handy", "mobil", "gsm", "celular", "rufnummer",
     " phn",
     "reach", "电话", "電話", "携帯", "komórk", "puhelin", "numéro", "number is", "text me", "page ")
)  # fmt: skip
_HALVES = re.compile(r"\d{4}\.\d{4}")
_BESIDE_DOT = re.compile(r"[ \-/(]")
_EXTENSION = re.compile(r"[xXeE#dD]")
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_COUNTRY = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-689]\d|3[578]\d|42\d|50\d|59\d|67\d|68\d"
    r"|69\d|8[057]\d|88\d|9[679]\d"
)
_DATE = re.compile(
    r"(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ](?:0?[1-9]|[12]\d|3[01])(?!\d)|"
    r"(?:0?[1-9]|[12]\d|3[01])([-./ ])(?:0?[1-9]|[12]\d|3[01])\1(?:19|20)\d\d(?!\d)"
)
_UNIT = re.compile(
    r"\s?(?:%|bytes?|[kmgt]i?b\b|rows?|ms\b|sec|requests|items|records|hz|iops|tokens|files|events|messages"
    r"|users|tests|€|\$|usd|eur)"
)
_NORTH_AMERICA = re.compile(r"\(?[2-9]\d\d\)?[ .\-/]{0,2}[1-9]\d\d[ .\-][0-9]{4}")
_SHAPES = re.compile(
    r"[5-9]\d\d([ -])\d{3}\1\d{3}|[5-9]\d\d([ -])\d\d\2\d\d\2\d\d|[1-9]\d ?\d{3} \d\d \d\d"
    r"|[1-9]\d 9?\d{4}-\d{4}|1[38]00[ -]\d{3}[ -]\d{3}"
)
_TRUNK = re.compile(r"0[1-9]\d{0,3}(?:[ .\-/]{1,3}\d{1,8}){1,5}")
_FOREIGN_WORD = one_of(
    ("account", "acct", "iban", "routing", "invoice", "order", "ticket", "case", "ref", "version", "build",
    "commit", " id ",
     " id:", " pid", "port", "isbn", "serial", "card", "ssn", "tax", "passport", "licen")
)  # fmt: skip


def find_phones(text: str, lower: str) -> Iterator[Span]:
    """Phone numbers in `text`; `lower` is the same in lower case."""
    named = None
    for match in _CANDIDATE.finditer(text):
        raw = match.group()
        if raw.isdigit():  # told only by a word for it
            if len(raw) > 15 or len(raw) < 6:
                continue
            if named is None:
                named = _WORD.search(f" {lower}") is not None
            if not named:
                continue
        yield from _judge(text, lower, match.start(), match.end())
    if "+" in text:
        for match in _GLUED.finditer(text):
            if _is_international(match.group()):
                yield Span(match.start(), match.end(), "PHONE", RANKS["PHONE"])


def _judge(text: str, lower: str, start: int, end: int) -> Iterator[Span]:
    date = _DATE.match(text, start, end)
    if date is not None:  # a date may stand directly before a number
        start = date.end()
        while start < end and text[start] not in "+(0123456789":
            start += 1
        if end - start < 7:
            return
    raw = text[start:end]
    if len(raw) > 15 and raw.isdigit():
        return
    if raw.count("(") < raw.count(")"):
        raw = raw[: raw.rindex(")")].rstrip()
    if _is_phone(raw, lower, start, start + len(raw)):
        yield Span(start, start + len(raw), "PHONE", RANKS["PHONE"])


def _is_phone(raw: str, lower: str, start: int, end: int) -> bool:
    extension = _EXTENSION.search(raw)
    number = raw[: extension.start()].strip() if extension else raw
    size = len(digits_of(number))
    if not 6 <= size <= 17 or _UNIT.match(lower, end) or _IPV4.fullmatch(number):
        return False
    if number[0] in "+(" and number.lstrip("(")[0] == "+" and _is_international(number):
        return True
    near = _WORD.search(f" {lower[max(0, start - 20) : start]}") is not None
    if size < len(number) and size > 6 and not (_is_decimal(number) and not (near and size > 7)):
        if _is_national(number, size):
            return True
        if _SHAPES.fullmatch(number):
            return not _FOREIGN_WORD.search(f" {lower[max(0, start - 14) : start]}")
    elif size > 15 or not near and (size == 6 or size < len(number)):
        return False
    called = near or _WORD.search(f" {lower[max(0, start - 64) : start]}") is not None
    return called and not _FOREIGN_WORD.search(f" {lower[max(0, start - 14) : start]}")


def _is_decimal(number: str) -> bool:
    return number.count(".") == 1 and not _HALVES.fullmatch(number) and not _BESIDE_DOT.search(number)


def _is_national(number: str, size: int) -> bool:
    """Told by form alone: 00 and a country, North American groups, an area in brackets, a trunk zero."""
    digits = digits_of(number)
    if number.startswith("00") and size >= 10 and _COUNTRY.match(digits[2:]):
        return True
    core = number.removeprefix("1").lstrip(" .-") if size == 11 else number
    if size in (10, 11) and _NORTH_AMERICA.fullmatch(core):
        return True
    if number[0] == "(" and 8 <= size <= 12 and number.find(")") in range(3, 8):
        return True
    return 9 <= size <= 12 and _TRUNK.fullmatch(number.replace("(", "").replace(")", "")) is not None


def _is_international(number: str) -> bool:
    digits = digits_of(number.split("x")[0])
    return 8 <= len(digits) <= 16 and _COUNTRY.match(digits) is not None
