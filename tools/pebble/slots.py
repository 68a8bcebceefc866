"""Fillers for the slots of templates: {who} by scope, {time}, {host}, {n} and the like."""

from __future__ import annotations

import re
from collections.abc import Callable

from pick import Rng, between, chance, pick

SCOPES = ("everyone", "most", "many", "some", "one")
GROUPS = (
    "users",
    "customers",
    "clients",
    "people",
    "accounts",
    "members",
    "tenants",
    "visitors",
    "subscribers",
    "households",
    "shops",
    "callers",
    "readers",
    "sites",
    "teams",
    "businesses",
)
SINGULAR = ("user", "customer", "client", "person", "account", "member", "tenant", "visitor", "subscriber", "caller")
CITIES = (
    "Lisbon",
    "Graz",
    "Turin",
    "Malmo",
    "Leeds",
    "Gdansk",
    "Porto",
    "Bergen",
    "Lyon",
    "Ghent",
    "Basel",
    "Brno",
    "Cork",
    "Tartu",
    "Oulu",
    "Split",
    "Nantes",
    "Bilbao",
    "Utrecht",
    "Aarhus",
    "Austin",
    "Denver",
    "Halifax",
    "Perth",
    "Osaka",
    "Busan",
    "Pune",
    "Lima",
    "Quito",
    "Accra",
    "Nairobi",
    "Tunis",
    "Izmir",
    "Riga",
    "Vilnius",
    "Zagreb",
    "Bologna",
    "Seville",
    "Dresden",
    "Linz",
    "Kosice",
    "Malaga",
    "Turku",
    "Odense",
    "Boise",
    "Tampa",
    "Zürich",
    "Köln",
    "Málaga",
    "Łódź",
)
TEAMS = (
    "payments",
    "platform",
    "storage",
    "billing",
    "support",
    "identity",
    "search",
    "mobile",
    "data",
    "network",
    "delivery",
    "security",
    "frontend",
    "warehouse",
    "finance",
    "messaging",
    "infrastructure",
    "reporting",
    "logistics",
    "onboarding",
    "field service",
    "release",
    "database",
    "partner",
    "claims",
    "scheduling",
)
ROLES = (
    "web",
    "db",
    "api",
    "cache",
    "mail",
    "edge",
    "node",
    "app",
    "build",
    "queue",
    "proxy",
    "gpu",
    "nas",
    "auth",
    "log",
    "vpn",
    "dns",
    "pve",
    "kube",
    "store",
    "batch",
    "report",
    "search",
    "media",
    "backup",
    "relay",
)
PARTS = (
    "gateway",
    "worker",
    "api",
    "service",
    "sync",
    "router",
    "agent",
    "scheduler",
    "exporter",
    "proxy",
    "store",
    "engine",
    "bridge",
    "collector",
    "indexer",
    "manager",
    "feed",
    "mailer",
)
NAMES = (
    "Ana",
    "Bo",
    "Carla",
    "Dev",
    "Elif",
    "Femi",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Liam",
    "Mina",
    "Nora",
    "Omar",
    "Petra",
    "Quinn",
    "Rosa",
    "Sven",
    "Tara",
    "Uma",
    "Viktor",
    "Wren",
    "Yara",
    "Zoe",
    "Amir",
    "Bella",
    "Chen",
    "Dina",
    "Emil",
    "Freya",
    "Goran",
    "Hana",
    "Ivo",
    "Jana",
    "Karim",
    "Lena",
    "Milo",
    "Nils",
    "Olga",
    "José",
    "Zoë",
    "Jürgen",
    "Renée",
    "Søren",
    "Chloé",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
NUMBER = ("two", "three", "four", "five", "six")
CODES = (
    "500",
    "502",
    "503",
    "504",
    "400",
    "401",
    "403",
    "404",
    "408",
    "409",
    "422",
    "429",
    "E102",
    "E-4410",
    "ERR_17",
    "0x80070005",
    "timeout",
    "error 7",
    "error 31",
    "ECONNRESET",
    "ETIMEDOUT",
    "code 99",
    "X-200",
    "SQL 1205",
    "AUTH_FAIL",
    "NULL_REF",
    "exit code 137",
    "exit code 1",
)

_ALL = (
    "everyone",
    "everybody",
    "all {g}",
    "every {s}",
    "each {s}",
    "all of our {g}",
    "every single {s}",
    "all {g}",
    "the entire customer base",
    "100 percent of {g}",
    "all {g} worldwide",
    "all {g} in every region",
    "each and every {s}",
    "all {g} without exception",
    "our whole user base",
    "absolutely everyone",
    "all {g} together",
    "anyone who tries",
    "every {s} we asked",
    "all {g} on all plans",
)
_MOST = (
    "most {g}",
    "nearly every {s}",
    "almost all {g}",
    "the majority of {g}",
    "close to all {g}",
    "the vast majority of {g}",
    "practically every {s}",
    "most of our {g}",
    "more than half of our {g}",
    "around {hi} percent of {g}",
    "{hi}% of {g}",
    "nearly everyone",
    "almost everybody",
    "nine in ten {g}",
    "the greater part of our {g}",
    "virtually all {g}",
)
_MANY = (
    "many {g}",
    "hundreds of {g}",
    "thousands of {g}",
    "a lot of {g}",
    "a large number of {g}",
    "dozens of {g}",
    "a third of our {g}",
    "a good many {g}",
    "about {mid} percent of {g}",
    "{mid}% of {g}",
    "scores of {g}",
    "several hundred {g}",
    "{many} {g}",
    "many of our {g}",
    "a large share of {g}",
    "plenty of {g}",
    "all {g} in the {city} region",
    "a quarter of all {g}",
    "large numbers of {g}",
)
_SOME = (
    "two {g}",
    "three {g}",
    "a handful of {g}",
    "a few {g}",
    "a couple of {g}",
    "several {g}",
    "four {g}",
    "five {g}",
    "some {g}",
    "a small number of {g}",
    "{few} {g}",
    "only a few {g}",
    "very few {g}",
    "two people",
    "three {g} so far",
    "a small group of {g}",
    "half a dozen {g}",
    "a few {g} in {city}",
    "two or three {g}",
)
_ONE = (
    "one {s}",
    "a single {s}",
    "one person",
    "just one {s}",
    "only one {s}",
    "one {s} in {city}",
    "exactly one {s}",
    "a lone {s}",
    "one {s} out of thousands",
    "one particular {s}",
    "a single person",
    "one elderly {s}",
    "one {s} on an old laptop",
    "one of our {g}",
    "just a single {s}",
    "one individual {s}",
)
WHO = {"everyone": _ALL, "most": _MOST, "many": _MANY, "some": _SOME, "one": _ONE}


def clock(rng: Rng) -> str:
    """A time of day."""
    return f"{between(rng, 0, 23):02d}:{between(rng, 0, 59):02d}"


def time(rng: Rng) -> str:
    """A moment that fits after 'since', 'at' or 'from' alike."""
    style = rng.random()
    if style < 0.4:
        return clock(rng)
    if style < 0.5:
        return f"{between(rng, 1, 12)}{pick(rng, ('am', 'pm', ' am', ' pm'))}"
    if style < 0.6:
        return f"{clock(rng)} UTC"
    if style < 0.7:
        return f"{clock(rng)} on {pick(rng, DAYS)}"
    return pick(
        rng,
        (
            "noon",
            "midnight",
            "half past nine",
            "quarter to six",
            "around eight",
            "lunch time",
            "dawn",
            "about ten past three",
            "the end of the night shift",
            "the start of business",
            "eleven",
            "half past four",
            "seven in the morning",
            "four in the afternoon",
            "opening time",
            "sunrise",
        ),
    )


def host(rng: Rng) -> str:
    """A host name."""
    role, number = pick(rng, ROLES), between(rng, 1, 40)
    return pick(
        rng,
        (
            f"{role}-{number:02d}",
            f"{role}{number}",
            f"{role}-{pick(rng, ('a', 'b', 'c'))}{number}",
            f"{role}-{pick(rng, CITIES[:40])[:3].lower()}-{number}",
            f"{role}{number}.lan",
        ),
    )


def service(rng: Rng) -> str:
    """The name of a piece of software."""
    first = pick(rng, TEAMS).split()[0]
    return f"{first}-{pick(rng, PARTS)}" if chance(rng, 0.75) else f"{pick(rng, ROLES)}-{pick(rng, PARTS)}"


def number(rng: Rng) -> str:
    """A count from 2 to about 2000, small ones oftener."""
    return str(int(2 * 10 ** (rng.random() * 3)))


def duration(rng: Rng) -> str:
    """A length of time."""
    style = rng.random()
    if style < 0.5:
        return f"{between(rng, 2, 59)} {pick(rng, ('minutes', 'seconds', 'minutes', 'min'))}"
    if style < 0.8:
        return f"{between(rng, 2, 30)} {pick(rng, ('hours', 'days', 'weeks', 'hours'))}"
    return pick(
        rng,
        (
            "half an hour",
            "an hour",
            "a day",
            "a whole morning",
            "ten minutes",
            "an hour and a half",
            "two full days",
            "a week",
            "twenty seconds",
            "a quarter of an hour",
            "90 seconds",
        ),
    )


def version(rng: Rng) -> str:
    """A version number."""
    if chance(rng, 0.5):
        return f"{between(rng, 1, 14)}.{between(rng, 0, 30)}.{between(rng, 0, 12)}"
    return pick(
        rng,
        (
            f"v{between(rng, 1, 9)}.{between(rng, 0, 20)}",
            f"{between(rng, 2021, 2026)}.{between(rng, 1, 12)}",
            f"build {between(rng, 100, 9999)}",
        ),
    )


def percent(rng: Rng) -> str:
    """A share, with its sign or word."""
    value = between(rng, 2, 98)
    return f"{value}%" if chance(rng, 0.6) else f"{value} percent"


def address(rng: Rng) -> str:
    """A private network address."""
    return f"10.{between(rng, 0, 255)}.{between(rng, 0, 255)}.{between(rng, 1, 254)}"


def stamp(rng: Rng) -> str:
    """An ISO time stamp."""
    day = f"202{between(rng, 1, 6)}-{between(rng, 1, 12):02d}-{between(rng, 1, 28):02d}"
    return f"{day}T{clock(rng)}:{between(rng, 0, 59):02d}Z"


FILL: dict[str, Callable[[Rng], str]] = {
    "time": time,
    "clock": clock,
    "host": host,
    "service": service,
    "n": number,
    "dur": duration,
    "version": version,
    "pct": percent,
    "ip": address,
    "stamp": stamp,
    "code": lambda rng: pick(rng, CODES),
    "team": lambda rng: pick(rng, TEAMS),
    "city": lambda rng: pick(rng, CITIES),
    "name": lambda rng: pick(rng, NAMES),
    "day": lambda rng: pick(rng, DAYS),
    "month": lambda rng: pick(rng, MONTHS),
    "g": lambda rng: pick(rng, GROUPS),
    "s": lambda rng: pick(rng, SINGULAR),
    "hi": lambda rng: str(between(rng, 60, 97)),
    "mid": lambda rng: str(between(rng, 18, 45)),
    "many": lambda rng: str(between(rng, 40, 4000)),
    "few": lambda rng: str(between(rng, 2, 6)),
    "d": lambda rng: str(between(rng, 2, 9)),
    "dd": lambda rng: str(between(rng, 11, 99)),
    "date": lambda rng: f"{between(rng, 1, 28)} {pick(rng, MONTHS)}",
}
_SLOT = re.compile(r"\{([a-z]+)(\d?)\}")


def who(rng: Rng, scope: str) -> str:
    """A phrase for the people of a scope."""
    return fill(rng, pick(rng, WHO[scope]))


def fill(rng: Rng, template: str, memo: dict[str, str] | None = None) -> str:
    """The template with its slots filled; {host1} is remembered in memo and the same at each use."""
    if "{" not in template:
        return template
    known = {} if memo is None else memo

    def one(match: re.Match[str]) -> str:
        name, digit = match.groups()
        if not digit:
            return known.get(name) or FILL[name](rng)
        key = name + digit
        if key not in known:
            known[key] = FILL[name](rng)
        return known[key]

    return _SLOT.sub(one, template)
