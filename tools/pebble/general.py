"""General instruction following: format rules, arithmetic, units, dates, copying, sorting, rewriting, small talk."""

from __future__ import annotations

import slots
import words
from pick import Rng, between, capital, chance, pick, sample
from wording import Message, assistant, compact, system, user

Chat = list[Message]
SUBJECTS = (
    "the night shift",
    "the new router",
    "our landlord",
    "the delivery van",
    "the red folder",
    "a tired nurse",
    "the old printer",
    "the choir",
    "the harbour master",
    "a small bakery",
    "the test server",
    "my neighbour",
    "the backup job",
    "the committee",
    "a young carpenter",
    "the cleaning crew",
    "the invoice",
    "the school bus",
    "the weather station",
    "the last visitor",
)
VERBS = (
    "arrived",
    "stopped",
    "was late",
    "needs help",
    "works again",
    "was moved to {city}",
    "failed at {clock}",
    "waits for {name}",
    "will return on {day}",
    "costs {dd} euros",
    "was praised",
    "has been replaced",
    "broke down near {city}",
    "starts at {clock}",
    "was checked by {name}",
    "leaves on {date}",
    "was paid on {day}",
    "needs a new battery",
    "sounds odd",
    "ran for {dur}",
)
CHATTER = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi there", "Hi! What can I do for you?"),
    ("Thank you!", "You are welcome."),
    ("Thanks, that helps.", "Glad to help."),
    ("Good morning.", "Good morning! What do you need?"),
    ("Bye", "Goodbye!"),
    ("Who are you?", "I am pebble, a small assistant for operations."),
    ("What can you do?", "I can rate tickets, answer short questions and extract facts."),
    ("Are you a person?", "No, I am a small language model."),
    ("Can you help me?", "Yes. What is the problem?"),
    ("Good night", "Good night!"),
    ("How are you?", "I am well, thank you. How can I help?"),
    ("What is your name?", "My name is pebble."),
    ("ok", "Good. Anything else?"),
    ("Please wait.", "I will wait."),
    ("Never mind.", "All right."),
    ("Test", "I read you."),
)
UNITS = (
    ("kilometres", "metres", 1000),
    ("kilograms", "grams", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("metres", "centimetres", 100),
    ("litres", "millilitres", 1000),
    ("years", "months", 12),
    ("dozen", "pieces", 12),
    ("gigabytes", "megabytes", 1000),
    ("euros", "cents", 100),
    ("bytes", "bits", 8),
    ("seconds", "milliseconds", 1000),
    ("tons", "kilograms", 1000),
)
NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def one(ask: str, answer: str) -> Chat:
    """A chat of one turn."""
    return [user(ask), assistant(answer)]


def sentence(rng: Rng) -> str:
    """A short everyday sentence."""
    return slots.fill(rng, capital(f"{pick(rng, SUBJECTS)} {pick(rng, VERBS)}."))


def arithmetic(rng: Rng) -> Chat:
    """A sum, difference, product or quotient."""
    a, b = between(rng, 1, 999), between(rng, 1, 999)
    kind = between(rng, 0, 3)
    if kind == 1:
        a, b = max(a, b), min(a, b)
    elif kind == 2:
        a, b = between(rng, 2, 20), between(rng, 2, 12)
    elif kind == 3:
        b = between(rng, 2, 12)
        a = b * between(rng, 2, 20)
    answer = (a + b, a - b, a * b, a // b)[kind]
    sign, word = (("+", "plus"), ("-", "minus"), ("*", "times"), ("/", "divided by"))[kind]
    ask = pick(
        rng,
        ("What is {a} {s} {b}?", "{a} {s} {b} =", "Compute {a} {s} {b}.", "{a} {w} {b}?", "How much is {a} {w} {b}?"),
    )
    return one(ask.format(a=a, b=b, s=sign, w=word), str(answer) if chance(rng, 0.8) else f"{a} {sign} {b} = {answer}")


def units(rng: Rng) -> Chat:
    """Convert a measure."""
    large, small, factor = pick(rng, UNITS)
    n = between(rng, 2, 20)
    if chance(rng, 0.5):
        return one(
            pick(rng, ("How many {s} are {n} {l}?", "Convert {n} {l} to {s}.")).format(n=n, l=large, s=small),
            f"{n * factor} {small}",
        )
    return one(f"Convert {n * factor} {small} to {large}.", f"{n} {large}")


def dates(rng: Rng) -> Chat:
    """Days, months and clock times."""
    day, month, step = between(rng, 0, 6), between(rng, 0, 11), between(rng, 1, 5)
    hour, minute, add = between(rng, 0, 20), between(rng, 0, 29), between(rng, 1, 30)
    ask, answer = pick(
        rng,
        (
            (f"Which day comes after {slots.DAYS[day]}?", slots.DAYS[(day + 1) % 7]),
            (f"Which day comes before {slots.DAYS[day]}?", slots.DAYS[day - 1]),
            (f"Which month follows {slots.MONTHS[month]}?", slots.MONTHS[(month + 1) % 12]),
            (f"Which month is number {month + 1}?", slots.MONTHS[month]),
            (f"What number is {slots.MONTHS[month]} among the months?", str(month + 1)),
            (f"Today is {slots.DAYS[day]}. What day is it in {step} days?", slots.DAYS[(day + step) % 7]),
            (f"It is {hour:02d}:{minute:02d}. What time is it in {add} minutes?", f"{hour:02d}:{minute + add:02d}"),
            (
                f"A job starts at {hour:02d}:{minute:02d} and runs {add} minutes. When does it end?",
                f"{hour:02d}:{minute + add:02d}",
            ),
            (f"Write {day + 1} {slots.MONTHS[month]} 2025 as an ISO date.", f"2025-{month + 1:02d}-{day + 1:02d}"),
            (f"How long is it from {hour:02d}:{minute:02d} to {hour + 2:02d}:{minute:02d}?", "2 hours"),
        ),
    )
    return one(ask, answer)


def case_and_copy(rng: Rng) -> Chat:
    """Copy, change case, first or last word, number of words."""
    text = sentence(rng)
    parts = text.rstrip(".").split()
    ask, answer = pick(
        rng,
        (
            ("Repeat exactly: {}", text),
            ("Copy this text: {}", text),
            ("Write in upper case: {}", text.upper()),
            ("Write in lower case: {}", text.lower()),
            ("What is the first word? {}", parts[0]),
            ("What is the last word? {}", parts[-1]),
            ("How many words? {}", str(len(parts))),
            ("Give the first three words: {}", " ".join(parts[:3])),
            ("Put it in quotes: {}", f'"{text}"'),
            ("Echo: {}", text),
            ("Return it as JSON under the key 'text': {}", compact({"text": text})),
            ("Write the words one per line: {}", "\n".join(parts)),
            ("Join the words with hyphens: {}", "-".join(parts)),
            ("Remove the full stop: {}", text.rstrip(".")),
            ("Add an exclamation mark instead of the full stop: {}", text.rstrip(".") + "!"),
        ),
    )
    return one(ask.format(text), answer)


def sorting(rng: Rng) -> Chat:
    """Sort words or numbers, or pick the largest."""
    if chance(rng, 0.5):
        items = sample(rng, words.NOUNS, between(rng, 3, 5))
        ask, done = pick(
            rng,
            (
                ("Sort alphabetically: {}", sorted(items)),
                ("Reverse the list: {}", items[::-1]),
                ("From Z to A: {}", sorted(items)[::-1]),
            ),
        )
        return one(ask.format(", ".join(items)), ", ".join(done))
    numbers = rng.sample(range(1, 999), between(rng, 3, 6))
    ask, answer = pick(
        rng,
        (
            ("Sort ascending: {}", ", ".join(map(str, sorted(numbers)))),
            ("Sort descending: {}", ", ".join(map(str, sorted(numbers)[::-1]))),
            ("Which is the largest? {}", str(max(numbers))),
            ("Which is the smallest? {}", str(min(numbers))),
            ("How many numbers are these? {}", str(len(numbers))),
            ("Even ones only: {}", ", ".join(str(n) for n in numbers if n % 2 == 0) or "none"),
            ("As a JSON array, sorted: {}", compact(sorted(numbers))),
        ),
    )
    return one(ask.format(", ".join(map(str, numbers))), answer)


def replace(rng: Rng) -> Chat:
    """Replace a word or a name in a sentence."""
    text = sentence(rng)
    old, new = pick(rng, text.rstrip(".").split()), pick(rng, words.NOUNS)
    swapped = " ".join(new if w == old else (new + "." if w == old + "." else w) for w in text.split())
    ask = pick(rng, ("Replace '{o}' by '{n}': {t}", "Put '{n}' in place of '{o}'. {t}"))
    return one(ask.format(o=old, n=new, t=text), swapped)


def listing(rng: Rng) -> Chat:
    """A list in a given format."""
    items = sample(rng, words.NOUNS, between(rng, 2, 4))
    given = " and ".join([", ".join(items[:-1]), items[-1]])
    ask, answer = pick(
        rng,
        (
            ("Make a numbered list of {}.", "\n".join(f"{i}. {w}" for i, w in enumerate(items, 1))),
            ("Make bullets of {}.", "\n".join(f"- {w}" for w in items)),
            ("Write {} as a JSON array.", compact(items)),
            ("Write {} separated by semicolons.", "; ".join(items)),
            ("Count the items: {}.", str(len(items))),
            ("Write {} in upper case, separated by spaces.", " ".join(items).upper()),
            ("Which comes first in {}?", items[0]),
            ("Which comes last in {}?", items[-1]),
        ),
    )
    return one(ask.format(given), answer)


def numerals(rng: Rng) -> Chat:
    """Numbers and their words."""
    n = between(rng, 0, 12)
    return one(
        *pick(
            rng,
            (
                (f"Write {n} as a word.", NUMERALS[n]),
                (f"Write '{NUMERALS[n]}' as a number.", str(n)),
                (f"Count from 1 to {max(n, 2)}.", ", ".join(map(str, range(1, max(n, 2) + 1)))),
                (f"Is {n} even or odd?", "odd" if n % 2 else "even"),
                (f"What comes after {NUMERALS[n]}?", str(n + 1)),
            ),
        )
    )


def obey(rng: Rng) -> Chat:
    """Answer exactly with a given word, or with a rule from the system message."""
    word = pick(rng, words.NOUNS)
    text = sentence(rng)
    if chance(rng, 0.5):
        return one(
            pick(
                rng, ("Say only the word '{}'.", "Answer with '{}' and nothing else.", "Reply with {} in lower case.")
            ).format(word),
            word,
        )
    rule, answer = pick(
        rng,
        (
            ("Answer every message with 'noted'.", "noted"),
            ("Repeat what the user says.", text),
            ("Answer in upper case: repeat the message.", text.upper()),
            ("Reply with the number of words in the message.", str(len(text.split()))),
            (f"End every answer with '{word}'. Acknowledge messages.", f"Understood. {word}"),
            ("Return the message as JSON under 'said'.", compact({"said": text})),
        ),
    )
    return [system(rule), user(text), assistant(answer)]


def small_talk(rng: Rng) -> Chat:
    """Greeting and thanks."""
    ask, answer = pick(rng, CHATTER)
    chat = one(ask, answer)
    return chat + pick(rng, (arithmetic, dates, words.meaning))(rng) if chance(rng, 0.5) else chat


TASKS = (
    arithmetic,
    arithmetic,
    units,
    dates,
    case_and_copy,
    case_and_copy,
    sorting,
    replace,
    listing,
    numerals,
    obey,
    small_talk,
)


def general_chat(rng: Rng) -> Chat:
    """Any of these tasks."""
    return pick(rng, TASKS)(rng)
