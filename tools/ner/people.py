"""Where names come from: Faker's locales, letters of those names chained anew, and own lists; seeded."""

from __future__ import annotations

import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faker import Faker

TEXT = Path(__file__).resolve().parent / "text"
TRAIN_LOCALES = (
    "en_US", "en_GB", "en_IN", "de_DE", "es_ES", "fr_FR", "en_US", "en_GB", "de_AT", "es_MX", "fr_CA", "pt_PT", "nl_NL",
    "da_DK", "sv_SE", "no_NO", "fi_FI", "et_EE", "lt_LT", "cs_CZ", "hu_HU", "ro_RO", "hr_HR", "tr_TR", "id_ID", "en_NZ",
    "en_KE", "yo_NG", "zu_ZA", "fil_PH", "ja_JP", "zh_CN",
)  # fmt: skip
HELD_LOCALES = ("it_IT", "pl_PL", "sk_SK", "sl_SI", "pt_BR", "lv_LV", "tw_GH", "az_AZ", "ga_IE")
ROMANIZED = ("ja_JP", "zh_CN")  # their names are used in Latin letters only
EACH = 500


def rows(name: str) -> list[str]:
    """Lines of a text file of this folder, without comments."""
    lines = (TEXT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def lists() -> dict[str, list[str]]:
    """The word lists of `text/words.txt` by their names."""
    return {key: words.split(";") for key, words in (line.split(": ", 1) for line in rows("words.txt"))}


WORDS = lists()


def plain(text: str) -> str:
    """The text without accents: "Müller" gives "Muller"."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def latin(text: str) -> bool:
    """Whether every letter is a Latin one."""
    return all(not c.isalpha() or unicodedata.name(c, "").startswith("LATIN") for c in text)


@dataclass
class Pool:
    """Names of a set of locales, as lists to draw from."""

    first: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    place: list[str] = field(default_factory=list)
    real_place: list[str] = field(default_factory=list)
    company: list[str] = field(default_factory=list)


def draw(make: Callable[[], str], count: int = EACH) -> list[str]:
    """Some results of a Faker function, those in Latin letters, without repeats, in order of appearance."""
    found = dict.fromkeys(" ".join(make().split()) for _ in range(count))
    return [text for text in found if text and latin(text)]


def pool(locales: Sequence[str], seed: int, real_places: Sequence[str]) -> Pool:
    """The names of these locales; what a locale lacks is taken from nowhere."""
    made = Pool(real_place=list(real_places))
    for locale in locales:
        fake = Faker(locale)
        fake.seed_instance(seed)
        if locale in ROMANIZED:
            names = [fake.romanized_name().split() for _ in range(EACH)]
            made.first += dict.fromkeys(n[0] for n in names if len(n) == 2)
            made.last += dict.fromkeys(n[1] for n in names if len(n) == 2)
            continue
        made.first += draw(fake.first_name)
        made.last += draw(fake.last_name)
        made.place += draw(fake.city, EACH // 2) + draw(fake.country, 60)
        names = set(made.first) | set(made.last)  # a bare family name is nobody's idea of a company
        made.company += [text for text in draw(fake.company, EACH // 2) if text not in names]
    return made


class Chain:
    """New words by a Markov chain over the letters of known ones (three letters of context)."""

    def __init__(self, words: Sequence[str]) -> None:
        self.next: defaultdict[str, list[str]] = defaultdict(list)
        for word in words:
            padded = "^^^" + word + "$"
            for i in range(3, len(padded)):
                self.next[padded[i - 3 : i]].append(padded[i])

    def word(self, rng: random.Random) -> str:
        """A word of 3 to 13 letters."""
        while True:
            text = "^^^"
            while text[-1] != "$" and len(text) < 18:
                text += rng.choice(self.next[text[-3:]])
            if 6 < len(text) < 18 and text[-1] == "$":
                return text[3:-1]


class Names:
    """Draws persons, organisations and places. `coined`: the share of words made by letter chains."""

    def __init__(self, source: Pool, coined: float) -> None:
        self.source, self.coined = source, coined
        self.chains = {k: Chain(getattr(source, k)) for k in ("first", "last", "place")} if coined else {}
        parts = dict(line.split(": ", 1) for line in rows("companies.txt"))
        self.parts = {kind: words.split(";") for kind, words in parts.items()}

    def word(self, kind: str, rng: random.Random) -> str:
        """A first name, last name or place, known or coined."""
        if rng.random() < self.coined:
            return self.chains[kind].word(rng)
        if kind == "place" and self.source.real_place and rng.random() < 0.5:
            return rng.choice(self.source.real_place)
        return str(rng.choice(getattr(self.source, kind)))

    def first(self, rng: random.Random) -> str:
        """A first name."""
        if self.coined and rng.random() < 0.06:
            return rng.choice(WORDS["arabic"])
        return self.word("first", rng)

    def last(self, rng: random.Random) -> str:
        """A family name, sometimes double or with a particle."""
        chance = rng.random()
        if chance < 0.04:
            return self.word("last", rng) + "-" + self.word("last", rng)
        if chance < 0.08:
            return rng.choice(WORDS["particle"]) + " " + self.word("last", rng)
        if chance < 0.10:
            return rng.choice(("O'", "D'", "Mc", "Al-", "El-", "Ben-")) + self.word("last", rng)
        return self.word("last", rng)

    def person(self, rng: random.Random) -> str:
        """A person in one of the forms in which people are named at work."""
        chance, first, last = rng.random(), self.first(rng), self.last(rng)
        if self.coined and chance > 0.96:
            return " ".join(rng.sample(WORDS["syllable"], rng.choice((2, 2, 3))))
        forms = (
            (0.58, f"{first} {last}"), (0.74, first), (0.80, last), (0.83, f"{first[0]}. {last}"),
            (0.85, f"{last}, {first}"), (0.87, f"{first} {rng.choice('ABCDEFGHJKLMNPRSTVW')}. {last}"),
            (0.92, f"{rng.choice(WORDS['title'])} {last}"), (0.94, f"{first} {self.first(rng)} {last}"),
            (0.95, f"{first}-{self.first(rng)} {last}"), (0.97, f"{first} {last} {self.word('last', rng)}"),
            (1.0, f"{first} {last}"),
        )  # fmt: skip
        return next(form for limit, form in forms if chance < limit)

    def place(self, rng: random.Random) -> str:
        """A place, now and then with a point of the compass or a street."""
        chance, name = rng.random(), self.word("place", rng)
        if chance < 0.03:
            return (
                rng.choice(("North", "South", "East", "West", "New", "Port", "San", "Saint", "Bad", "Upper"))
                + f" {name}"
            )
        if chance < 0.05:
            street = rng.choice(("Street", "Road", "Avenue", "Lane", "Way", "Square", "Drive"))
            return f"{rng.randint(1, 200)} {self.word('last', rng)} {street}"
        return name

    def company(self, rng: random.Random) -> str:
        """An organisation: from Faker, well known, or composed."""
        chance, part = rng.random(), {kind: rng.choice(words) for kind, words in self.parts.items()}
        if chance < 0.2 and self.source.company:
            return rng.choice(self.source.company)
        if self.coined and chance < 0.3:
            return part["real"]
        if chance < 0.4:
            text = part["public"].replace("{L}", self.word("place", rng)).replace("{N}", self.word("last", rng))
            return text.replace("{F}", self.first(rng))
        stem = rng.choice((
            part["stem"], self.word("last", rng), self.word("place", rng),
            part["stem"] + " " + rng.choice(self.parts["stem"]),
            part["stem"] + rng.choice(self.parts["stem"]).lower(), part["stem"] + rng.choice(self.parts["stem"]),
            self.word("last", rng), f"{self.word('last', rng)} {rng.choice(('&', 'and'))} {self.word('last', rng)}",
            "".join(rng.choices("ABCDEFGHIKLMNOPRSTUVW", k=rng.choice((2, 3, 3)))),
        ))  # fmt: skip
        chance = rng.random()
        if chance < 0.5:
            return f"{stem} {part['trade']}" + (f" {part['form']}" if rng.random() < 0.3 else "")
        if chance < 0.8:
            return f"{stem} {part['form']}"
        known = stem in self.parts["stem"] or stem in self.source.place or stem in self.source.real_place
        return f"{stem} {part['trade']}" if known or len(stem) < 5 else stem
