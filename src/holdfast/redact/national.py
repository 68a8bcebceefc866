"""National identity, tax, social-insurance and health numbers: form, checksum, and a word before them where that is weak."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from holdfast.redact.checks import luhn, mod11_10, month_and_day, verhoeff, weighted
from holdfast.redact.spans import RANKS, Span


class Kind(NamedTuple):
    """A number without `words` is told by its form alone: one of `shapes` must be in the outline of the text.

    With `words`, one of them must stand within 48 characters before. `check` gets the letters and digits alone.
    """

    country: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool]
    shapes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


_ID = (
    "identi",
    "national",
    "personal id",
    "personal num",
    "personal code",
    "id card",
    "id num",
    "id no",
    "citizen",
    "resident",
)
_TAX = ("tax", "steuer", "fiscal", " nif", " tin", "tva", " vat")
_CPF_1, _CPF_2 = (10, 9, 8, 7, 6, 5, 4, 3, 2), (11, 10, 9, 8, 7, 6, 5, 4, 3, 2)
_CNPJ_1, _CNPJ_2 = (5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2), (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
_NIF_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_LETTERS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_FISCAL_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                       (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8,
                        12, 14, 16, 10, 22, 25, 24, 23), strict=True))  # fmt: skip


def _is_ssn(d: str) -> bool:
    return d[:3] not in ("000", "666") and (d[0] != "9" or d[3] in "4567899") and d[3:5] != "00" and d[5:] != "0000"


def _nir(d: str) -> bool:
    body = d[:13].upper().replace("2A", "19").replace("2B", "18")
    return (
        body.isdigit()
        and ("01" <= d[3:5] <= "12" or "20" <= d[3:5] <= "42" or d[3:5] >= "50")
        and 97 - int(body) % 97 == int(d[13:])
    )


def _fiscal(d: str) -> bool:
    d = d.upper()
    total = sum(_FISCAL_ODD[c] if i % 2 == 0 else int(c, 36) - (10 if c.isalpha() else 0) for i, c in enumerate(d[:15]))
    return chr(65 + total % 26) == d[15]


def _nif(d: str) -> bool:
    d = d.upper()
    number = d[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return number.isdigit() and _NIF_LETTERS[int(number) % 23] == d[-1]


def _cif(d: str) -> bool:
    total = sum(int(c) for c in d[2:8:2]) + sum(sum(divmod(2 * int(c), 10)) for c in d[1:8:2])
    control = -total % 10
    return d[-1].upper() in (str(control), "JABCDEFGHI"[control])


def _nss(d: str) -> bool:
    return int(d[:10]) % 97 == int(d[10:])


def _bsn(d: str) -> bool:
    return (weighted(d, (9, 8, 7, 6, 5, 4, 3, 2)) - int(d[8])) % 11 == 0 and d.strip("0") != ""


def _pesel(d: str) -> bool:
    month = f"{int(d[2:4]) % 20:02}"
    return month_and_day(month, d[4:6]) and weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _personnummer(d: str) -> bool:
    d = d[-10:]
    day = f"{int(d[4:6]) - 60:02}" if d[4:6] > "60" else d[4:6]
    return month_and_day(d[2:4], day) and luhn(d)


def _steuer_id(d: str) -> bool:
    return d[0] != "0" and 7 <= len(set(d[:10])) <= 9 and mod11_10(d)


def _tfn(d: str) -> bool:
    return (
        weighted(d, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0
        if len(d) == 9
        else weighted(d, (10, 7, 8, 4, 6, 3, 5, 1)) % 11 == 0
    )


def _abn(d: str) -> bool:
    return (
        weighted(str(int(d[0]) - 1) + d[1:], (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) % 89 == 0
        if d[0] != "0"
        else False
    )


def _medicare(d: str) -> bool:
    return d[0] in "23456" and weighted(d[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(d[8])


def _two_digits(d: str, first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    def digit(total: int) -> int:
        return 0 if total % 11 < 2 else 11 - total % 11

    size = len(first)
    return (
        len(set(d)) > 1 and digit(weighted(d, first)) == int(d[size]) and digit(weighted(d, second)) == int(d[size + 1])
    )


def _nhs(d: str) -> bool:
    return (11 - weighted(d, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11) % 11 == int(d[9]) and len(set(d)) > 1


def _fnr(d: str) -> bool:
    first = (11 - weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return first == int(d[9]) and second == int(d[10])


def _hetu(d: str) -> bool:
    plain = re.sub(r"[^0-9]", "", d[:6]) + re.sub(r"[^0-9]", "", d[6:-1])
    return len(plain) == 9 and month_and_day(d[2:4], d[:2]) and _HETU_LETTERS[int(plain) % 31] == d[-1].upper()


def _belgian(d: str) -> bool:
    return month_and_day(d[2:4], d[4:6]) and int(d[9:]) in (97 - int(d[:9]) % 97, 97 - int("2" + d[:9]) % 97)


def _ean13(d: str) -> bool:
    return weighted(d, (1, 3) * 6 + (1,)) % 10 == 0


def _chinese(d: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return month_and_day(d[10:12], d[12:14]) and "10X98765432"[weighted(d[:17], weights) % 11] == d[17].upper()


def _korean(d: str) -> bool:
    return month_and_day(d[2:4], d[4:6]) and d[6] in "12345678"


def _my_number(d: str) -> bool:
    rest = weighted(d, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest <= 1 else 11 - rest) == int(d[11])


def _pps(d: str) -> bool:
    d = d.upper()
    extra = (ord(d[8]) - 64) * 9 if len(d) > 8 and d[8] != "W" else 0
    return "WABCDEFGHIJKLMNOPQRSTUV"[(weighted(d[:7], (8, 7, 6, 5, 4, 3, 2)) + extra) % 23] == d[7]


def _rodne(d: str) -> bool:
    month = f"{int(d[2:4]) % 50 % 20:02}"
    return month_and_day(month, d[4:6]) and (len(d) == 9 or int(d) % 11 == 0 or int(d[:9]) % 11 % 10 == int(d[9]))


def _turkish(d: str) -> bool:
    n = [int(c) for c in d]
    return n[0] != 0 and (7 * sum(n[0:9:2]) - sum(n[1:8:2])) % 10 == n[9] and sum(n[:10]) % 10 == n[10]


def _nip(d: str) -> bool:
    return weighted(d, (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(d[9])


def _pt_nif(d: str) -> bool:
    rest = weighted(d, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return d[0] in "1235689" and (0 if rest < 2 else 11 - rest) == int(d[8])


def _cnp(d: str) -> bool:
    rest = weighted(d, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return month_and_day(d[3:5], d[5:7]) and (1 if rest == 10 else rest) == int(d[12])


def _baltic(d: str) -> bool:
    rest = weighted(d, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if rest == 10:
        rest = weighted(d, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return d[0] in "123456" and month_and_day(d[3:5], d[5:7]) and rest == int(d[10])


def _date_first(d: str) -> bool:
    return month_and_day(d[2:4], d[:2])


def _five_digits(d: str) -> bool:
    return sum(c.isdigit() for c in d) > 4


def _any(d: str) -> bool:
    return len(set(d)) > 1


def _kind(
    country: str, pattern: str, check: Callable[[str], bool], words: tuple[str, ...] = (), shapes: tuple[str, ...] = ()
) -> Kind:
    bounded = rf"(?<![A-Za-z0-9.])(?<![A-Za-z0-9]-){pattern}(?![A-Za-z0-9]|[.-][0-9])"
    return Kind(country, re.compile(bounded, re.IGNORECASE), check, shapes, words)


_SSN = ("ssn", "social", "itin", "ss#", "ss #", *_TAX, *_ID)
KINDS = (
    _kind("US", r"\d{3}-\d\d-\d{4}", _is_ssn, shapes=("000-00-0000",)),
    _kind("US", r"\d{3}[ .\-_/]?\d\d[ .\-_/]?\d{4}", _is_ssn, _SSN),
    _kind("US", r"\d\d-\d{7}", _any, ("ein ", "ein:", "employer", "fein", "tax")),
    _kind("US", r"[A-Z]?\d{8,9}", _any, ("passport",)),
    _kind("US", r"[A-Z]{0,3}[ -]?\d{4,9}(?:[ -]?\d{2,8}){0,3}[A-Z]?\d?", _five_digits,
          ("driver", "driving licen", "drivers licen", "permis de conduire", "führerschein", "patente")),
    _kind("US", r"[A-Z0-9]{6,12}", _five_digits, ("passport",)),
    _kind("GB", r"(?!BG|GB|KN|NK|NT|TN|ZZ[^ \d])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?\d\d[ -]?\d\d[ -]?\d\d[ -]?[A-D]", _any, shapes=("AA000000A", "AA 00 00 00 A", "AA-00-00-00-A", "AA 000000 A", "AA 000000A", "AA00 00 00 A", "AA 00 00 00A", "AA000000 A", "AA-000000-A")),
    _kind("GB", r"[A-Z]{2}[ -]?\d\d[ -]?\d\d[ -]?\d\d[ -]?[A-Z]", _any, ("nino", "insurance", " ni ", "ni:", "ssn", "social", *_ID)),
    _kind("GB", r"\d{3}[ -]\d{3}[ -]\d{4}", _nhs, ("nhs", "health", "patient")),
    _kind("GB", r"\d{10}", _nhs, ("nhs", "health", "patient")),
    _kind("FR", r"[12]\s?\d\d\s?\d\d\s?(?:\d\d|2[AB])\s?\d{3}\s?\d{3}\s?\d\d", _nir, shapes=("0" * 15, "0 00 00 00 000 000 00", "0 00 00 0A 000 000 00", "000000A00000000", "0" * 13 + " 00")),
    _kind("IT", r"[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z]", _fiscal, shapes=("AAAAAA00A00A000A",)),
    _kind("ES", r"\d{8}[ -]?[A-HJ-NP-TV-Z]", _nif, shapes=("00000000A", "00000000-A", "00000000 A ", "00000000 A.", "00000000 A\n")),
    _kind("ES", r"[XYZ][ -]?\d{7}[ -]?[A-HJ-NP-TV-Z]", _nif, shapes=("A0000000A", "A-0000000-A", "A 0000000 A", "A-0000000A", "A0000000-A")),
    _kind("ES", r"[A-HJNP-SUVW][ -]?\d{7}[ -]?[0-9A-J]", _cif, ("cif", *_TAX, *_ID)),
    _kind("ES", r"\d\d[ /-]?\d{8}[ /-]?\d\d", _nss, ("segur", "social", "nss", "ssn", *_ID)),
    _kind("NL", r"\d{4}[. ]?\d\d[. ]?\d{3}|\d{3}[. ]?\d{3}[. ]?\d{3}", _bsn, ("bsn", "burgerservice", "sofi", "ssn", "social", *_TAX, *_ID)),
    _kind("PL", r"\d{11}", _pesel, ("pesel", "ssn", "social", *_ID)),
    _kind("PL", r"\d{3}-?\d{3}-?\d\d-?\d\d|\d{3}-?\d\d-?\d\d-?\d{3}", _nip, ("nip ", "nip:", *_TAX)),
    _kind("SE", r"(?:19|20)?\d{6}[-+]\d{4}", _personnummer, shapes=("000000-0000", "000000+0000", "00000000-0000", "00000000+0000")),
    _kind("SE", r"(?:19|20)?\d{6}\d{4}", _personnummer, ("personn", "samordn", "ssn", "social", *_ID)),
    _kind("DE", r"\d\d ?\d{3} ?\d{3} ?\d{3}", _steuer_id, ("idnr", *_TAX, *_ID)),
    _kind("DE", r"\d\d ?[0-3]\d[01]\d\d\d ?[A-Z] ?\d{3}", _any, shapes=("00000000A000", "00 000000 A 000")),
    _kind("DE", r"\d{2,3}/\d{3,4}/\d{4,5}", _any, ("steuer", "tax")),
    _kind("DE", r"[CFGHJKLMNPRTVWXYZ0-9]{9}\d?", lambda d: any(c.isdigit() for c in d), ("ausweis",)),
    _kind("CA", r"\d{3}[ -]\d{3}[ -]\d{3}", luhn, (" sin", "sin:", "social", "insurance", "ssn", *_TAX, *_ID)),
    _kind("CA", r"\d{9}", luhn, ("sin ", "sin:", "insurance", "ssn")),
    _kind("AU", r"\d{3}[ -]?\d{3}[ -]?\d{2,3}", _tfn, ("tfn", "ssn", *_TAX)),
    _kind("AU", r"\d\d ?\d{3} ?\d{3} ?\d{3}", _abn, ("abn", "business")),
    _kind("AU", r"\d{4}[ -]?\d{5}[ -]?\d(?:[ -/]?\d)?", _medicare, ("medicare",)),
    _kind("IN", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", verhoeff, shapes=("0000 0000 0000", "0000-0000-0000")),
    _kind("IN", r"[2-9]\d{11}", verhoeff, ("aadh", "uidai", *_ID)),
    _kind("IN", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", _any, shapes=("AAAAA0000A",)),
    _kind("BR", r"\d{3}\.\d{3}\.\d{3}-\d\d", lambda d: _two_digits(d, _CPF_1, _CPF_2), shapes=("000.000.000-00",)),
    _kind("BR", r"\d{11}", lambda d: _two_digits(d, _CPF_1, _CPF_2), ("cpf", "ssn", *_TAX, *_ID)),
    _kind("BR", r"\d\d\.?\d{3}\.?\d{3}/\d{4}-?\d\d", lambda d: _two_digits(d, _CNPJ_1, _CNPJ_2), shapes=("00.000.000/0000-00", "00000000/0000-00", "00000000/000000")),
    _kind("BE", r"\d\d[.-]?\d\d[.-]?\d\d[.-]\d{3}[.-]?\d\d", _belgian, shapes=("00.00.00-000.00", "00.00.00-000-00", "000000-000.00", "000000-000-00", "00.00.00.000.00", "000000-00000")),
    _kind("BE", r"\d{11}", _belgian, ("rijksregister", "registre", "niss", "insz", "ssn", *_ID)),
    _kind("CH", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d", _ean13, shapes=("000.0000.0000.00", "000 0000 0000 00", "0" * 13)),
    _kind("AT", r"\d{4}[ -]?[0-3]\d[01]\d\d\d", _any, ("svnr", "sozialv", "versicherungsn", "ssn", *_ID)),
    _kind("FI", r"[0-3]\d[01]\d{3}[-+A-FU-Y]\d{3}[0-9A-Y]", _hetu, shapes=("000000-0000", "000000-000A", "000000+0000", "000000+000A", "000000A0000", "000000A000A")),
    _kind("DK", r"[0-3]\d[01]\d{3}-\d{4}", _date_first, shapes=("000000-0000",)),
    _kind("NO", r"\d{6} ?\d{5}", _fnr, ("fødsels", "personn", "ssn", *_ID)),
    _kind("PT", r"\d{3} ?\d{3} ?\d{3}", _pt_nif, ("contribuinte", "ssn", *_TAX, *_ID)),
    _kind("IE", r"\d{7}[A-W][A-IW]?", _pps, ("pps", "ssn", *_ID)),
    _kind("CZ", r"\d{6}/\d{3,4}", _rodne, shapes=("000000/000", "000000/0000")),
    _kind("CN", r"\d{17}[0-9X]", _chinese, shapes=("0" * 18, "0" * 17 + "A")),
    _kind("KR", r"\d{6}-[1-8]\d{6}", _korean, shapes=("000000-0000000",)),
    _kind("JP", r"\d{4}[ -]?\d{4}[ -]?\d{4}", _my_number, ("my number", "mynumber", "マイナンバー", "個人番号", *_ID)),
    _kind("SG", r"[STFGM]\d{7}[A-Z]", _any, shapes=("A0000000A", "A-0000000-A", "A 0000000 A", "A-0000000A", "A0000000-A")),
    _kind("ZA", r"\d{10}[01]8\d", luhn, ("rsa id", "sa id", *_ID)),
    _kind("TR", r"[1-9]\d{10}", _turkish, ("tckn", "kimlik", "ssn", *_ID)),
    _kind("RO", r"[1-9]\d{12}", _cnp, ("cnp", "ssn", *_ID)),
    _kind("HR", r"\d{11}", mod11_10, ("oib", "ssn", *_ID)),
    _kind("EE", r"[1-6]\d{10}", _baltic, ("isikukood", "asmens", "ssn", *_ID)),
    _kind("MX", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d", _any, shapes=("AAAA000000AAAAAA00", "AAAA000000AAAAAAA0")),
    _kind("EU", r"(?:AT ?U|BE ?[01]|CZ ?|DE ?|DK ?|EE ?|EL ?|ES ?|FI ?|FR ?|HR ?|HU ?|IE ?|IT ?|LT ?|LU ?|LV ?|MT ?|NL ?|PL ?|PT ?|RO ?|SE ?|SI ?|SK ?|GB ?)[0-9A-Z]{8,12}", lambda d: sum(c.isdigit() for c in d) > 6, (" vat", "vat:", "ust-id", "ustid", "tva", " iva", "btw", "umsatzsteuer", "moms")),
)  # fmt: skip
BY_SHAPE = tuple(kind for kind in KINDS if not kind.words)
BY_WORD = tuple(kind for kind in KINDS if kind.words)
_BY_TOKEN: dict[str, tuple[Kind, ...]] = {}
for _known in BY_SHAPE:
    for _shape in _known.shapes:
        if " " not in _shape:
            _BY_TOKEN[_shape] = (*_BY_TOKEN.get(_shape, ()), _known)
_SPACED = tuple((shape, kind) for kind in BY_SHAPE for shape in kind.shapes if " " in shape)


def _one_of(words: set[str]) -> re.Pattern[str]:
    """Any of the words, grouped by first letter, so that most places of a text are passed with one comparison."""
    by_letter: dict[str, list[str]] = {}
    for word in sorted(words):
        by_letter.setdefault(word[0], []).append(re.escape(word[1:]))
    firsts = "".join(re.escape(letter) for letter in by_letter)
    return re.compile(
        f"(?=[{firsts}])(?:" + "|".join(f"{re.escape(a)}(?:{'|'.join(b)})" for a, b in by_letter.items()) + ")"
    )


_ALL_WORDS = {word for kind in BY_WORD for word in kind.words}
_ANY_WORD = _one_of(_ALL_WORDS)
# A word may hide behind a shorter one that it begins with: both call the kinds of either.
_BY_WORD = {
    word: tuple(kind for kind in BY_WORD if any(own.startswith(word) for own in kind.words)) for word in _ALL_WORDS
}
_GROUPS = re.compile(r"(?<![\d.:])\d[\d .\-/]{4,}")
NUMBER = re.compile(r"\d(?:[ .\-/]{0,2}\d){5}")
_OUTLINE = {
    code: "0" if chr(code).isdigit() else "A" if chr(code).isalpha() else " "
    for code in range(128)
    if chr(code) not in ".-/+\n"
}


def outline(text: str) -> str:
    """Digits as 0, letters as A, the signs . - / + as they are, others as spaces; a line feed at the end."""
    return text.translate(_OUTLINE) + "\n"


def find_national_ids(text: str, lower: str, shape: str, parts: list[str]) -> Iterator[Span]:
    """Valid numbers of every kind above; `shape` is the outline of `text`, `parts` its words."""
    for token in parts:
        if "00" in token and len(token) > 8:
            for kind in _BY_TOKEN.get(token.strip(".-/+"), ()):
                yield from _matches(kind, text, lower)
    if "0 0" in shape or "A 0" in shape or "0 A" in shape:
        for gate, kind in _SPACED:
            if gate in shape:
                yield from _matches(kind, text, lower)
    if not NUMBER.search(text):
        return
    before = "".join(f" {lower[max(0, match.start() - 48) : match.start()]}" for match in _GROUPS.finditer(text))
    words = set(_ANY_WORD.findall(before))
    for kind in dict.fromkeys(kind for word in words for kind in _BY_WORD[word]):
        yield from _matches(kind, text, lower)


def _matches(kind: Kind, text: str, lower: str) -> Iterator[Span]:
    for match in kind.pattern.finditer(text):
        start = match.start()
        if kind.words:
            before = f" {lower[max(0, start - 48) : start]}"
            if not any(word in before for word in kind.words):
                continue
        plain = match.group() if kind.country == "FI" else "".join(c for c in match.group() if c.isalnum())
        if plain.isascii() and kind.check(plain):
            yield Span(start, match.end(), "NATIONAL_ID", RANKS["NATIONAL_ID"])
