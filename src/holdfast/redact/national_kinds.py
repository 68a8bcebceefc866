"""National identity, tax, social-insurance and health numbers: form, checksum, a word before where that is weak."""

import re
from collections.abc import Callable
from typing import NamedTuple

from holdfast.redact import identity
from holdfast.redact.checks import luhn, mod11_10, verhoeff


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
_SSN_WORD = ("ssn ", "ssn:", "ssn=", "ssn#", "ssn-", "ssn/")
_TAX = ("tax", "steuer", "fiscal", " nif", " tin", "tva", " vat")


# Behind one of these the form is enough, whatever the check digits: a mistyped number is a personal number too.
_NAMED = (
    *_SSN_WORD, "social security", "national id", "national insurance", "identity num", "identity card",
    "identification num",
    "personal id", "personal num", "tax id", "taxpayer id", "tax number", "id card", "citizen",
)  # fmt: skip


def _kind(
    country: str, pattern: str, check: Callable[[str], bool], words: tuple[str, ...] = (), shapes: tuple[str, ...] = ()
) -> Kind:
    bounded = rf"(?<![A-Za-z0-9.])(?<![A-Za-z0-9]-)(?:{pattern})(?![A-Za-z0-9]|[.-][0-9])"
    return Kind(country, re.compile(bounded, re.IGNORECASE), check, shapes, words)


_SSN = (*_SSN_WORD, "social", "itin", "ss#", "ss #", *_TAX, *_ID)
KINDS = (
    _kind("US", r"\d{3}-\d\d-\d{4}", identity.is_ssn, shapes=("000-00-0000",)),
    _kind("US", r"\d{3}[ .\-_/]?\d\d[ .\-_/]?\d{4}", identity.varied, _SSN),
    _kind("", r"(?!\d+\.\d+(?![.\d]))[A-Z]{0,3}\d(?:[ .\-/]?\d){6,14}[A-Z]{0,2}", identity.varied, _NAMED),
    _kind("", r"(?-i:(?=[A-Z]*\d)[A-Z0-9]{6,12})", identity.varied, _NAMED),
    _kind("US", r"\d\d-\d{7}", identity.varied, ("ein ", "ein:", "employer", "fein", "tax")),
    _kind("US", r"[A-Z]?\d{8,9}", identity.varied, ("passport",)),
    _kind(
        "US",
        r"[A-Z]{0,3}[ -]?\d{4,9}(?:[ -]?\d{2,8}){0,3}[A-Z]?\d?",
        identity.five_digits,
        ("driver", "driving licen", "drivers licen", "permis de conduire", "führerschein", "patente"),
    ),
    _kind("US", r"[A-Z0-9]{6,12}", identity.five_digits, ("passport",)),
    _kind(
        "GB",
        r"(?!BG|GB|KN|NK|NT|TN"
        r"|ZZ[^ \d])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?\d\d[ -]?\d\d[ -]?\d\d[ -]?[A-D]",
        identity.varied,
        shapes=(
            "AA000000A",
            "AA 00 00 00 A",
            "AA-00-00-00-A",
            "AA 000000 A",
            "AA 000000A",
            "AA00 00 00 A",
            "AA 00 00 00A",
            "AA000000 A",
            "AA-000000-A",
        ),
    ),
    _kind(
        "GB",
        r"[A-Z]{2}[ -]?\d\d[ -]?\d\d[ -]?\d\d[ -]?[A-Z]",
        identity.varied,
        ("nino", "insurance", " ni ", "ni:", *_SSN_WORD, "social", *_ID),
    ),
    _kind("GB", r"\d{3}[ -]\d{3}[ -]\d{4}", identity.nhs, ("nhs", "health", "patient")),
    _kind("GB", r"\d{10}", identity.nhs, ("nhs", "health", "patient")),
    _kind(
        "FR",
        r"[12]\s?\d\d\s?\d\d\s?(?:\d\d|2[AB])\s?\d{3}\s?\d{3}\s?\d\d",
        identity.nir,
        shapes=("0" * 15, "0 00 00 00 000 000 00", "0 00 00 0A 000 000 00", "000000A00000000", "0" * 13 + " 00"),
    ),
    _kind("IT", r"[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z]", identity.fiscal, shapes=("AAAAAA00A00A000A",)),
    _kind(
        "ES",
        r"\d{8}[ -]?[A-HJ-NP-TV-Z]",
        identity.nif,
        shapes=("00000000A", "00000000-A", "00000000 A ", "00000000 A.", "00000000 A\n"),
    ),
    _kind(
        "ES",
        r"[XYZ][ -]?\d{7}[ -]?[A-HJ-NP-TV-Z]",
        identity.nif,
        shapes=("A0000000A", "A-0000000-A", "A 0000000 A", "A-0000000A", "A0000000-A"),
    ),
    _kind("ES", r"[A-HJNP-SUVW][ -]?\d{7}[ -]?[0-9A-J]", identity.cif, ("cif", *_TAX, *_ID)),
    _kind("ES", r"\d\d[ /-]?\d{8}[ /-]?\d\d", identity.nss, ("segur", "social", "nss", *_SSN_WORD, *_ID)),
    _kind(
        "NL",
        r"\d{4}[. ]?\d\d[. ]?\d{3}|\d{3}[. ]?\d{3}[. ]?\d{3}",
        identity.bsn,
        ("bsn", "burgerservice", "sofi", *_SSN_WORD, "social", *_TAX, *_ID),
    ),
    _kind("PL", r"\d{11}", identity.pesel, ("pesel", *_SSN_WORD, "social", *_ID)),
    _kind("PL", r"\d{3}-?\d{3}-?\d\d-?\d\d|\d{3}-?\d\d-?\d\d-?\d{3}", identity.nip, ("nip ", "nip:", *_TAX)),
    _kind(
        "SE",
        r"(?:19|20)?\d{6}[-+]\d{4}",
        identity.personnummer,
        shapes=("000000-0000", "000000+0000", "00000000-0000", "00000000+0000"),
    ),
    _kind("SE", r"(?:19|20)?\d{6}\d{4}", identity.personnummer, ("personn", "samordn", *_SSN_WORD, "social", *_ID)),
    _kind("DE", r"\d\d ?\d{3} ?\d{3} ?\d{3}", identity.steuer_id, ("idnr", *_TAX, *_ID)),
    _kind("DE", r"\d\d ?[0-3]\d[01]\d\d\d ?[A-Z] ?\d{3}", identity.varied, shapes=("00000000A000", "00 000000 A 000")),
    _kind("DE", r"\d{2,3}/\d{3,4}/\d{4,5}", identity.varied, ("steuer", "tax")),
    _kind("DE", r"[CFGHJKLMNPRTVWXYZ0-9]{9}\d?", lambda d: any(c.isdigit() for c in d), ("ausweis",)),
    _kind(
        "CA",
        r"\d{3}[ -]\d{3}[ -]\d{3}",
        luhn,
        (
            " sin ",
            " sin-",
            " sin=",
            " sin#",
            " sin/",
            " sin(",
            " sin\n",
            "sin:",
            "social",
            "insurance",
            *_SSN_WORD,
            *_TAX,
            *_ID,
        ),
    ),
    _kind("CA", r"\d{9}", luhn, ("sin ", "sin:", "insurance", *_SSN_WORD)),
    _kind("AU", r"\d{3}[ -]?\d{3}[ -]?\d{2,3}", identity.tfn, ("tfn", *_SSN_WORD, *_TAX)),
    _kind("AU", r"\d\d ?\d{3} ?\d{3} ?\d{3}", identity.abn, ("abn", "business")),
    _kind("AU", r"\d{4}[ -]?\d{5}[ -]?\d(?:[ -/]?\d)?", identity.medicare, ("medicare",)),
    _kind("IN", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", verhoeff, shapes=("0000 0000 0000", "0000-0000-0000")),
    _kind("IN", r"[2-9]\d{11}", verhoeff, ("aadh", "uidai", *_ID)),
    _kind("IN", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", identity.varied, shapes=("AAAAA0000A",)),
    _kind("BR", r"\d{3}\.\d{3}\.\d{3}-\d\d", identity.cpf, shapes=("000.000.000-00",)),
    _kind("BR", r"\d{11}", identity.cpf, ("cpf", *_SSN_WORD, "social", *_TAX, *_ID)),
    _kind(
        "BR",
        r"\d\d\.?\d{3}\.?\d{3}/\d{4}-?\d\d",
        identity.cnpj,
        shapes=("00.000.000/0000-00", "00000000/0000-00", "00000000/000000"),
    ),
    _kind(
        "BE",
        r"\d\d[.-]?\d\d[.-]?\d\d[.-]\d{3}[.-]?\d\d",
        identity.belgian,
        shapes=(
            "00.00.00-000.00",
            "00.00.00-000-00",
            "000000-000.00",
            "000000-000-00",
            "00.00.00.000.00",
            "000000-00000",
        ),
    ),
    _kind("BE", r"\d{11}", identity.belgian, ("rijksregister", "social", "registre", "niss", "insz", *_SSN_WORD, *_ID)),
    _kind(
        "CH",
        r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d",
        identity.ean13,
        shapes=("000.0000.0000.00", "000 0000 0000 00", "0" * 13),
    ),
    _kind(
        "AT",
        r"\d{4}[ -]?[0-3]\d[01]\d\d\d",
        identity.varied,
        ("svnr", "social", "sozialv", "versicherungsn", *_SSN_WORD, *_ID),
    ),
    _kind(
        "FI",
        r"[0-3]\d[01]\d{3}[-+A-FU-Y]\d{3}[0-9A-Y]",
        identity.hetu,
        shapes=("000000-0000", "000000-000A", "000000+0000", "000000+000A", "000000A0000", "000000A000A"),
    ),
    _kind("DK", r"[0-3]\d[01]\d{3}-\d{4}", identity.date_first, shapes=("000000-0000",)),
    _kind("NO", r"\d{6} ?\d{5}", identity.fnr, ("fødsels", "social", "personn", *_SSN_WORD, *_ID)),
    _kind("PT", r"\d{3} ?\d{3} ?\d{3}", identity.pt_nif, ("contribuinte", "social", *_SSN_WORD, *_TAX, *_ID)),
    _kind("IE", r"\d{7}[A-W][A-IW]?", identity.pps, ("pps", "social", *_SSN_WORD, *_ID)),
    _kind("CZ", r"\d{6}/\d{3,4}", identity.rodne, shapes=("000000/000", "000000/0000")),
    _kind("CN", r"\d{17}[0-9X]", identity.chinese, shapes=("0" * 18, "0" * 17 + "A")),
    _kind("KR", r"\d{6}-[1-8]\d{6}", identity.korean, shapes=("000000-0000000",)),
    _kind(
        "JP",
        r"\d{4}[ -]?\d{4}[ -]?\d{4}",
        identity.my_number,
        ("my number", "mynumber", "social", "マイナンバー", "個人番号", *_ID),
    ),
    _kind(
        "SG",
        r"[STFGM]\d{7}[A-Z]",
        identity.varied,
        shapes=("A0000000A", "A-0000000-A", "A 0000000 A", "A-0000000A", "A0000000-A"),
    ),
    _kind("ZA", r"\d{10}[01]8\d", luhn, ("rsa id", "sa id", *_ID)),
    _kind("TR", r"[1-9]\d{10}", identity.turkish, ("tckn", "social", "kimlik", *_SSN_WORD, *_ID)),
    _kind("RO", r"[1-9]\d{12}", identity.cnp, ("cnp", "social", *_SSN_WORD, *_ID)),
    _kind("HR", r"\d{11}", mod11_10, ("oib", "social", *_SSN_WORD, *_ID)),
    _kind("EE", r"[1-6]\d{10}", identity.baltic, ("isikukood", "social", "asmens", *_SSN_WORD, *_ID)),
    _kind(
        "MX",
        r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d",
        identity.varied,
        shapes=("AAAA000000AAAAAA00", "AAAA000000AAAAAAA0"),
    ),
    _kind(
        "EU",
        r"(?:AT ?U|BE ?[01]|CZ ?|DE ?|DK ?|EE ?|EL ?|ES ?|FI ?|FR ?|HR ?|HU ?|IE ?|IT ?|LT ?|LU ?|LV ?|MT ?|NL ?"
        r"|PL ?|PT ?|RO ?|SE ?|SI ?|SK ?|GB ?)[0-9A-Z]{8,12}",
        lambda d: sum(c.isdigit() for c in d) > 6,
        (" vat", "vat:", "ust-id", "ustid", "tva", " iva", "btw", "umsatzsteuer", "moms"),
    ),
)
