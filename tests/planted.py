"""Valid secrets of every type, made from a seeded source of chance; evasions; and near misses. Used by tests."""

import base64
import random
import string
from collections.abc import Callable

from holdfast.redact import identity
from holdfast.redact.checks import IBAN_LENGTHS, luhn, mod97, routing_number, verhoeff

LETTERS = string.ascii_letters + string.digits


def _text(r: random.Random, alphabet: str, size: int) -> str:
    return "".join(r.choice(alphabet) for _ in range(size))


def _alphanumeric(r: random.Random, size: int) -> str:
    return _text(r, LETTERS, size)


def _digits(r: random.Random, size: int) -> str:
    return str(r.randint(1, 9)) + _text(r, string.digits, size - 1)


def _until(r: random.Random, make: Callable[[], str], check: Callable[[str], bool]) -> str:
    while True:
        if check(text := make()):
            return text


def card(r: random.Random) -> str:
    size = r.choice((13, 14, 15, 16, 16, 16, 19))
    return _until(r, lambda: _digits(r, size), lambda d: luhn(d) and len(set(d)) > 1)


def grouped_card(r: random.Random) -> str:
    digits = _until(r, lambda: _digits(r, 16), luhn)
    sign = r.choice((" ", "-", ".", "\u00a0", "\u2009", "\u2011"))
    return sign.join(digits[i : i + 4] for i in range(0, 16, 4))


def iban(r: random.Random) -> str:
    country = r.choice(sorted(IBAN_LENGTHS))
    body = _text(r, string.digits, IBAN_LENGTHS[country] - 4)
    check = 98 - mod97(body + country + "00")
    text = f"{country}{check:02}{body}"
    return r.choice((text, " ".join(text[i : i + 4] for i in range(0, len(text), 4)), text.lower()))


def e_mail(r: random.Random) -> str:
    top = r.choice(("com", "internal", "org", "de", "io", "corp", "museum", "local"))
    return f"{_text(r, string.ascii_lowercase, 6)}.{_text(r, string.ascii_lowercase, 4)}@mail-{r.randint(1, 99)}.{top}"


def ip(r: random.Random) -> str:
    if r.random() < 0.3:
        return ":".join(f"{r.randint(4096, 65535):x}" for _ in range(8))
    return f"{r.choice((10, 172, 192, 84, 203))}.{r.randint(0, 255)}.{r.randint(0, 255)}.{r.randint(1, 254)}"


def pem(r: random.Random) -> str:
    kind = r.choice(("RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", ""))
    body = "\n".join(_alphanumeric(r, 64) for _ in range(3))
    end = r.choice((f"\n-----END {kind}PRIVATE KEY-----", ""))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}{end}"


def jwt(r: random.Random) -> str:
    parts = (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"%d"}' % r.randint(10**6, 10**9))
    head, body = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.{_alphanumeric(r, 43)}"


def ssn(r: random.Random) -> str:
    return _until(r, lambda: f"{r.randint(1, 899):03}-{r.randint(1, 99):02}-{r.randint(1, 9999):04}",
                  lambda t: identity.is_ssn(t.replace("-", "")))  # fmt: skip


def nir(r: random.Random) -> str:
    body = f"{r.randint(1, 2)}{r.randint(0, 99):02}{r.randint(1, 12):02}{r.randint(1, 95):02}{_text(r, '123456789', 6)}"
    return f"{body}{97 - int(body) % 97:02}"


def spanish_nif(r: random.Random) -> str:
    number = r.randint(10**7, 10**8 - 1)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def aadhaar(r: random.Random) -> str:
    digits = _until(r, lambda: _text(r, "23456789", 12), verhoeff)
    return " ".join(digits[i : i + 4] for i in (0, 4, 8))


def cpf(r: random.Random) -> str:
    digits = _until(r, lambda: _digits(r, 11), identity.cpf)
    return f"{digits[:3]}.{digits[3:6]}.{digits[6:9]}-{digits[9:]}"


# Each is told by its own form, wherever it stands.
BY_FORM: dict[str, Callable[[random.Random], str]] = {
    "AWS_KEY": lambda r: r.choice(("AKIA", "ASIA")) + _text(r, string.ascii_uppercase + "234567", 16),
    "GOOGLE_KEY": lambda r: "AIza" + _text(r, LETTERS + "_-", 35),
    "GITHUB_TOKEN": lambda r: r.choice(("ghp_", "gho_", "ghs_", "ghu_", "ghr_")) + _alphanumeric(r, 36),
    "GITHUB_PAT": lambda r: "github_pat_" + _alphanumeric(r, 22) + "_" + _alphanumeric(r, 59),
    "GITLAB_TOKEN": lambda r: "glpat-" + _alphanumeric(r, 20),
    "SLACK_TOKEN": lambda r: f"xoxb-{_digits(r, 12)}-{_digits(r, 12)}-{_alphanumeric(r, 24)}",
    "SLACK_WEBHOOK": lambda r: "https://hooks.slack.com/services/T" + _alphanumeric(r, 8) + "/B" + _alphanumeric(r, 8)
    + "/" + _alphanumeric(r, 24),
    "STRIPE_KEY": lambda r: r.choice(("sk_live_", "rk_live_", "sk_test_")) + _alphanumeric(r, 24),
    "OPENAI_KEY": lambda r: r.choice(("sk-", "sk-proj-")) + _alphanumeric(r, 20) + "T3BlbkFJ" + _alphanumeric(r, 20),
    "ANTHROPIC_KEY": lambda r: "sk-ant-api03-" + _text(r, LETTERS + "_-", 93) + "AA",
    "AZURE_KEY": lambda r: "AccountKey=" + _alphanumeric(r, 86) + "==",
    "AZURE_SECRET": lambda r: _alphanumeric(r, 3) + "8Q~" + _text(r, LETTERS + "_.~-", 33) + "a",
    "AZURE_SAS": lambda r: "https://x.blob.core.windows.net/c?sv=2024-01-01&sig=" + _alphanumeric(r, 43) + "%3D",
    "NPM_TOKEN": lambda r: "npm_" + _alphanumeric(r, 36),
    "PYPI_TOKEN": lambda r: "pypi-AgEIcHlwaS5vcmc" + _alphanumeric(r, 80),
    "HF_TOKEN": lambda r: "hf_" + _text(r, string.ascii_letters, 34),
    "SENDGRID_KEY": lambda r: "SG." + _alphanumeric(r, 22) + "." + _alphanumeric(r, 43),
    "TWILIO_KEY": lambda r: r.choice(("SK", "AC")) + _text(r, "0123456789abcdef", 32),
    "TELEGRAM_TOKEN": lambda r: _digits(r, 10) + ":AA" + _alphanumeric(r, 33),
    "JWT": jwt,
    "PRIVATE_KEY": pem,
    "SSH_KEY": lambda r: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + _alphanumeric(r, 43),
    "CARD": card,
    "CARD_GROUPED": grouped_card,
    "IBAN": iban,
    "EMAIL": e_mail,
    "IP": ip,
    "MAC": lambda r: ":".join(f"{r.randint(0, 255):02x}" for _ in range(5)) + f":{r.randint(16, 239):02X}",
    "SSN": ssn,
    "NIR": nir,
    "NIF": spanish_nif,
    "AADHAAR": aadhaar,
    "CPF": cpf,
    "PHONE": lambda r: r.choice(("+49 30 ", "+1 212 ", "+33 1 ")) + f"{_digits(r, 3)} {_digits(r, 4)}",
    "HOST": lambda r: f"db-{r.randint(1, 99)}.{_text(r, string.ascii_lowercase, 5)}.internal",
}  # fmt: skip

# (what goes before, the secret, what goes after): only the place tells these.
BY_PLACE: dict[str, Callable[[random.Random], tuple[str, str, str]]] = {
    "URL": lambda r: ("postgres://app:", _alphanumeric(r, 12) + "7", "@db.internal:5432/x"),
    "URL_SIGNS": lambda r: ("https://bob:", "p%40ss" + _alphanumeric(r, 8), "@git.example.com/x"),
    "PAIR": lambda r: (r.choice(("password=", "DB_PASSWORD=", "passwd: ", "pwd=")), _alphanumeric(r, 10) + "3", ""),
    "JSON": lambda r: ('{"user": "x", "password": "', _alphanumeric(r, 9) + " 4", '"}'),
    "YAML": lambda r: ("  client_secret: ", _alphanumeric(r, 24) + "5", "\n"),
    "FLAG": lambda r: ("tool --user x --password ", _alphanumeric(r, 10), " --verbose"),
    "MYSQL": lambda r: ("mysql -u root -p", _alphanumeric(r, 10), " -h db"),
    "CURL": lambda r: ("curl -u admin:", _alphanumeric(r, 10), " https://x.example.com"),
    "BEARER": lambda r: ("Authorization: Bearer ", _alphanumeric(r, 32), ""),
    "BASIC": lambda r: ("Authorization: Basic ",
    base64.b64encode(b"user:" + r.randbytes(9).hex().encode()).decode(), ""),
    "HEADER": lambda r: ("X-Api-Key: ", _alphanumeric(r, 20) + "6", ""),
    "AWS_SECRET": lambda r: ("aws_secret_access_key = ", "aB3" + _text(r, LETTERS + "+/", 36) + "x", ""),
    "NEAR": lambda r: ("the api token we rotate is ", _alphanumeric(r, 30) + "k8Q2", ""),
    "ROUTING": lambda r: ("routing number ", _until(r, lambda: f"0{_digits(r, 8)}", routing_number), ""),
    "ACCOUNT": lambda r: ("account number: ", _digits(r, 10), ""),
    "NUMBER_TAG": lambda r: ("tax id ", _until(r, lambda: _digits(r, 11), identity.cpf), ""),
}  # fmt: skip

FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


def evade(r: random.Random, text: str) -> str:
    """The same value, as a program or a person might disguise it."""
    way = r.randrange(8)
    place = r.randrange(1, len(text))
    if way == 0:
        return text[:place] + r.choice(("\u200b", "\u200d", "\u00ad", "\ufeff", "\u2060")) + text[place:]
    if way == 1:
        return text.translate(FULL_WIDTH).replace(" ", "\u3000")
    if way == 2:
        return text.replace("@", "%40").replace(".", "%2E").replace("=", "%3D")
    if way == 3:
        return text.replace(" ", r.choice(("\u00a0", "\u2007", "\u202f")))
    if way == 4:
        return text.replace("-", "\u2010").replace(":", "&#58;")
    if way == 5:
        return text.replace("_", "\uff3f").replace("@", "&#64;")
    return text
