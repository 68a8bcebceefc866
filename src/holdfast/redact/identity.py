"""Check digits of national numbers. Each function gets the letters and digits of a number whose form already fits."""

import re

from holdfast.redact.checks import luhn, mod11_10, month_and_day, weighted

_CPF_1, _CPF_2 = (10, 9, 8, 7, 6, 5, 4, 3, 2), (11, 10, 9, 8, 7, 6, 5, 4, 3, 2)
_CNPJ_1, _CNPJ_2 = (5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2), (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
_NIF_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_LETTERS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_FISCAL_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                       (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8,
                        12, 14, 16, 10, 22, 25, 24, 23), strict=True))  # fmt: skip


def is_ssn(d: str) -> bool:
    """United States, social security and ITIN: areas that are given out."""
    return d[:3] not in ("000", "666") and (d[0] != "9" or d[3] in "4567899") and d[3:5] != "00" and d[5:] != "0000"


def nir(d: str) -> bool:
    """France: 97 minus the rest modulo 97; Corsica has letters."""
    body = d[:13].upper().replace("2A", "19").replace("2B", "18")
    return (
        body.isdigit()
        and ("01" <= d[3:5] <= "12" or "20" <= d[3:5] <= "42" or d[3:5] >= "50")
        and 97 - int(body) % 97 == int(d[13:])
    )


def fiscal(d: str) -> bool:
    """Italy, codice fiscale: letter from odd and even places."""
    d = d.upper()
    total = sum(_FISCAL_ODD[c] if i % 2 == 0 else int(c, 36) - (10 if c.isalpha() else 0) for i, c in enumerate(d[:15]))
    return chr(65 + total % 26) == d[15]


def nif(d: str) -> bool:
    """Spain, DNI and NIE: letter from the rest modulo 23."""
    d = d.upper()
    number = d[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return number.isdigit() and _NIF_LETTERS[int(number) % 23] == d[-1]


def cif(d: str) -> bool:
    """Spain, companies."""
    total = sum(int(c) for c in d[2:8:2]) + sum(sum(divmod(2 * int(c), 10)) for c in d[1:8:2])
    control = -total % 10
    return d[-1].upper() in (str(control), "JABCDEFGHI"[control])


def nss(d: str) -> bool:
    """Spain, social security: rest modulo 97."""
    return int(d[:10]) % 97 == int(d[10:])


def bsn(d: str) -> bool:
    """Netherlands: the eleven test."""
    return (weighted(d, (9, 8, 7, 6, 5, 4, 3, 2)) - int(d[8])) % 11 == 0 and d.strip("0") != ""


def pesel(d: str) -> bool:
    """Poland: date of birth and weights."""
    month = f"{int(d[2:4]) % 20:02}"
    return month_and_day(month, d[4:6]) and weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def personnummer(d: str) -> bool:
    """Sweden: date of birth and Luhn."""
    d = d[-10:]
    day = f"{int(d[4:6]) - 60:02}" if d[4:6] > "60" else d[4:6]
    return month_and_day(d[2:4], day) and luhn(d)


def steuer_id(d: str) -> bool:
    """Germany, tax number of people: one digit repeats, ISO 7064."""
    return d[0] != "0" and 7 <= len(set(d[:10])) <= 9 and mod11_10(d)


def tfn(d: str) -> bool:
    """Australia, tax file number of 8 or 9 digits."""
    return (
        weighted(d, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0
        if len(d) == 9
        else weighted(d, (10, 7, 8, 4, 6, 3, 5, 1)) % 11 == 0
    )


def abn(d: str) -> bool:
    """Australia, companies: weights modulo 89."""
    return (
        weighted(str(int(d[0]) - 1) + d[1:], (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) % 89 == 0
        if d[0] != "0"
        else False
    )


def medicare(d: str) -> bool:
    """Australia, health card."""
    return d[0] in "23456" and weighted(d[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(d[8])


def two_digits(d: str, first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Two check digits modulo 11, each from a row of weights."""

    def digit(total: int) -> int:
        return 0 if total % 11 < 2 else 11 - total % 11

    size = len(first)
    return (
        len(set(d)) > 1 and digit(weighted(d, first)) == int(d[size]) and digit(weighted(d, second)) == int(d[size + 1])
    )


def nhs(d: str) -> bool:
    """United Kingdom, health service: modulo 11."""
    return (11 - weighted(d, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11) % 11 == int(d[9]) and len(set(d)) > 1


def fnr(d: str) -> bool:
    """Norway: two check digits."""
    first = (11 - weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return first == int(d[9]) and second == int(d[10])


def hetu(d: str) -> bool:
    """Finland: date of birth and a check sign."""
    plain = re.sub(r"[^0-9]", "", d[:6]) + re.sub(r"[^0-9]", "", d[6:-1])
    return len(plain) == 9 and month_and_day(d[2:4], d[:2]) and _HETU_LETTERS[int(plain) % 31] == d[-1].upper()


def belgian(d: str) -> bool:
    """Belgium: 97 minus the rest modulo 97, with a 2 before those born since 2000."""
    return month_and_day(d[2:4], d[4:6]) and int(d[9:]) in (97 - int(d[:9]) % 97, 97 - int("2" + d[:9]) % 97)


def ean13(d: str) -> bool:
    """Switzerland, AHV: EAN-13."""
    return weighted(d, (1, 3) * 6 + (1,)) % 10 == 0


def chinese(d: str) -> bool:
    """China, 18 places: modulo 11 with X for ten."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return month_and_day(d[10:12], d[12:14]) and "10X98765432"[weighted(d[:17], weights) % 11] == d[17].upper()


def korean(d: str) -> bool:
    """South Korea: date of birth and a digit for the century."""
    return month_and_day(d[2:4], d[4:6]) and d[6] in "12345678"


def my_number(d: str) -> bool:
    """Japan, My Number: modulo 11."""
    rest = weighted(d, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest <= 1 else 11 - rest) == int(d[11])


def pps(d: str) -> bool:
    """Ireland: letter from the rest modulo 23."""
    d = d.upper()
    extra = (ord(d[8]) - 64) * 9 if len(d) > 8 and d[8] != "W" else 0
    return "WABCDEFGHIJKLMNOPQRSTUV"[(weighted(d[:7], (8, 7, 6, 5, 4, 3, 2)) + extra) % 23] == d[7]


def rodne(d: str) -> bool:
    """Czechia and Slovakia: date of birth and modulo 11."""
    month = f"{int(d[2:4]) % 50 % 20:02}"
    return month_and_day(month, d[4:6]) and (len(d) == 9 or int(d) % 11 == 0 or int(d[:9]) % 11 % 10 == int(d[9]))


def turkish(d: str) -> bool:
    """Turkey: two check digits."""
    n = [int(c) for c in d]
    return n[0] != 0 and (7 * sum(n[0:9:2]) - sum(n[1:8:2])) % 10 == n[9] and sum(n[:10]) % 10 == n[10]


def nip(d: str) -> bool:
    """Poland, tax number."""
    return weighted(d, (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(d[9])


def pt_nif(d: str) -> bool:
    """Portugal, tax number."""
    rest = weighted(d, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return d[0] in "1235689" and (0 if rest < 2 else 11 - rest) == int(d[8])


def cnp(d: str) -> bool:
    """Romania: date of birth and modulo 11."""
    rest = weighted(d, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return month_and_day(d[3:5], d[5:7]) and (1 if rest == 10 else rest) == int(d[12])


def baltic(d: str) -> bool:
    """Estonia and Lithuania: date of birth and two rows of weights."""
    rest = weighted(d, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if rest == 10:
        rest = weighted(d, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return d[0] in "123456" and month_and_day(d[3:5], d[5:7]) and rest == int(d[10])


def date_first(d: str) -> bool:
    """A date of birth at the beginning: day and month."""
    return month_and_day(d[2:4], d[:2])


def five_digits(d: str) -> bool:
    """At least five digits: all that can be asked of a passport or a licence."""
    return sum(c.isdigit() for c in d) > 4


def varied(d: str) -> bool:
    """Not one sign only."""
    return len(set(d)) > 1


def cpf(d: str) -> bool:
    """Brazil, people: two check digits."""
    return two_digits(d, _CPF_1, _CPF_2)


def cnpj(d: str) -> bool:
    """Brazil, companies: two check digits."""
    return two_digits(d, _CNPJ_1, _CNPJ_2)
