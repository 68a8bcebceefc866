"""Checksums. Each function takes digits (or letters and digits) without separators and says whether they are valid."""

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AO": 25, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BF": 28, "BG": 22, "BH": 22,
    "BI": 27, "BJ": 28, "BR": 29, "BY": 28, "CF": 27, "CG": 27, "CH": 21, "CI": 28, "CM": 27, "CR": 22, "CV": 25,
    "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "DZ": 26, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FK": 18, "FO": 18, "FR": 27, "GA": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GQ": 27, "GR": 27, "GT": 28,
    "GW": 25, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IR": 26, "IS": 26, "IT": 27, "JO": 30,
    "KM": 27, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MA": 28,
    "MC": 27, "MD": 24, "ME": 22, "MG": 27, "MK": 19, "ML": 28, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "MZ": 25,
    "NE": 28, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24,
    "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SN": 28, "SO": 23,
    "ST": 25, "SV": 28, "TD": 27, "TG": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
_NO_DIGITS = {code: None for code in range(128) if not 48 <= code <= 57}
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_VERHOEFF_STEP = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_PLACE = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def digits_of(text: str) -> str:
    """The digits of an ASCII text."""
    return text.translate(_NO_DIGITS)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812: every second digit from the right doubled, sum divisible by ten."""
    total = 0
    double = False
    for character in reversed(digits):
        digit = ord(character) - 48
        total += _DOUBLED[digit] if double else digit
        double = not double
    return total % 10 == 0


def iban(text: str) -> bool:
    """ISO 13616: length of the country and remainder 1 modulo 97."""
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return mod97(text[4:] + text[:4]) == 1


def mod97(text: str) -> int:
    """Remainder modulo 97 with A = 10 … Z = 35 (ISO 7064)."""
    return int("".join(str(int(character, 36)) for character in text)) % 97


def routing_number(digits: str) -> bool:
    """ABA: known Federal Reserve prefix and weights 3, 7, 1."""
    prefix = int(digits[:2])
    if not (0 <= prefix <= 12 or 21 <= prefix <= 32 or 61 <= prefix <= 72 or prefix == 80) or digits == "0" * 9:
        return False
    return weighted(digits, (3, 7, 1, 3, 7, 1, 3, 7, 1)) % 10 == 0


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    """Sum of digit times weight; digits beyond the weights do not count."""
    return sum((ord(character) - 48) * weight for character, weight in zip(digits, weights, strict=False))


def verhoeff(digits: str) -> bool:
    """Verhoeff's scheme, used by Aadhaar."""
    state = 0
    for place, character in enumerate(reversed(digits)):
        state = int(_VERHOEFF_STEP[state][int(_VERHOEFF_PLACE[place % 8][int(character)])])
    return state == 0


def mod11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10, used by the German and Croatian tax numbers."""
    product = 10
    for character in digits[:-1]:
        product = (int(character) + product) % 10 or 10
        product = product * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def month_and_day(month: str, day: str) -> bool:
    """A month from 01 to 12 and a day from 01 to 31."""
    return "01" <= month <= "12" and "01" <= day <= "31"
