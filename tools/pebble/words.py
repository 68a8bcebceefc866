"""Tasks over the glossary: what a word means, its kind, the odd one out, opposites, synonyms."""

from __future__ import annotations

from pathlib import Path

from pick import Rng, between, capital, chance, pick, sample, shuffled, stop
from wording import Message, assistant, compact, system, user

Chat = list[Message]
FOLDER = Path(__file__).resolve().parent / "glossary"


def _load() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Words by kind, and the gloss of each word."""
    kinds: dict[str, list[str]] = {}
    glosses: dict[str, str] = {}
    for name in ("things.txt", "work.txt"):
        for row in (FOLDER / name).read_text(encoding="utf-8").splitlines():
            kind, _, rest = row.removeprefix("[").partition("] ")
            for entry in rest.split("; "):
                word, _, gloss = entry.partition(": ")
                kinds.setdefault(kind, []).append(word)
                glosses[word] = gloss
    return kinds, glosses


def _pairs(name: str) -> list[tuple[str, str]]:
    """Word pairs of a file."""
    found = (pair.split() for pair in (FOLDER / name).read_text(encoding="utf-8").split(";"))
    return [(first, second) for first, second in found]


KINDS, GLOSS = _load()
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
WORDS = list(GLOSS)
NAMES = list(KINDS)
OPPOSITES, SYNONYMS = _pairs("opposites.txt"), _pairs("synonyms.txt")
NOUNS = [w for w in WORDS if KIND_OF[w] not in ("action", "quality")]


def one(ask: str, answer: str) -> Chat:
    """A chat of one turn."""
    return [user(ask), assistant(answer)]


def meaning(rng: Rng) -> Chat:
    """What is a word?"""
    word = pick(rng, WORDS)
    ask = pick(
        rng,
        (
            "What does '{}' mean?",
            "Explain the word '{}'.",
            "Define {}.",
            "Give a short definition of '{}'.",
            "Meaning of {}?",
            "What is meant by '{}'?",
            "Define '{}' in one line.",
            "{}: what is that?",
            "Tell me in a few words what '{}' means.",
        ),
    )
    gloss = GLOSS[word]
    answer = pick(
        rng, (stop(capital(gloss)), gloss, f"{capital(word)}: {gloss}.", f"'{capital(word)}' means: {gloss}.")
    )
    return one(ask.format(word), answer)


def name_it(rng: Rng) -> Chat:
    """The word for a gloss, free or from options."""
    word = pick(rng, WORDS)
    ask = pick(rng, ("Which word means '{}'?", "What is the word for '{}'?", "Name it: {}.", "One word for: {}?"))
    ask = ask.format(GLOSS[word])
    if chance(rng, 0.7):
        others = [w for w in sample(rng, KINDS[KIND_OF[word]] if chance(rng, 0.5) else WORDS, 3) if w != word]
        options = ", ".join(shuffled(rng, [word, *others]))
        ask += " " + pick(rng, ("Options: {}.", "Choose from {}.", "One of: {}.")).format(options)
    return one(ask, word)


def kind(rng: Rng) -> Chat:
    """The kind of a word."""
    word = pick(rng, WORDS)
    right = KIND_OF[word]
    options = shuffled(rng, sorted({right, *sample(rng, NAMES, between(rng, 2, 4))}))
    ask = pick(
        rng,
        (
            "What kind of thing is '{w}'? Options: {o}.",
            "Which group does '{w}' belong to: {o}?",
            "Sort '{w}' into one of these: {o}.",
            "'{w}' is a word for which of these: {o}?",
        ),
    )
    if chance(rng, 0.15):
        key = pick(rng, ("kind", "group", "class", "type"))
        return one(ask.format(w=word, o=", ".join(options)) + f' Reply as {{"{key}":"..."}}', compact({key: right}))
    return one(ask.format(w=word, o=", ".join(options)), right)


def odd_one(rng: Rng) -> Chat:
    """The word that does not fit."""
    first, second = sample(rng, NAMES, 2)
    group, stray = sample(rng, KINDS[first], between(rng, 3, 4)), pick(rng, KINDS[second])
    ask = pick(
        rng,
        (
            "Which word does not fit: {}?",
            "Odd one out: {}.",
            "Find the word that does not belong: {}",
            "One of these is of another kind. Which? {}",
        ),
    )
    answer = stray
    if chance(rng, 0.3):
        ask, answer = ask + " Say why.", f"{stray}: the others are of the kind '{first}'."
    return one(ask.format(", ".join(shuffled(rng, [*group, stray]))), answer)


def list_kind(rng: Rng) -> Chat:
    """Some words of a kind."""
    name = pick(rng, NAMES)
    count = between(rng, 2, 5)
    words = sample(rng, KINDS[name], count)
    style = pick(rng, ("separated by commas", "one per line", "as a numbered list", "as a JSON array", "as bullets"))
    ask = pick(
        rng,
        (
            "Name {n} words of the kind '{k}', {s}.",
            "List {n} words of the kind '{k}' {s}.",
            "Give me {n} examples of the kind '{k}', {s}.",
        ),
    ).format(n=count, k=name, s=style)
    answer = {
        "separated by commas": ", ".join(words),
        "one per line": "\n".join(words),
        "as a JSON array": compact(words),
        "as a numbered list": "\n".join(f"{i}. {w}" for i, w in enumerate(words, 1)),
        "as bullets": "\n".join(f"- {w}" for w in words),
    }[style]
    return one(ask, answer)


def group_words(rng: Rng) -> Chat:
    """Sort words into two kinds."""
    first, second = sample(rng, NAMES, 2)
    left, right = sample(rng, KINDS[first], between(rng, 2, 3)), sample(rng, KINDS[second], between(rng, 2, 3))
    mixed = shuffled(rng, left + right)
    inside = {first: [w for w in mixed if w in left], second: [w for w in mixed if w not in left]}
    ask = f"Sort these words into {first} and {second}: {', '.join(mixed)}."
    if chance(rng, 0.5):
        return one(f"{ask} Answer in JSON.", compact(inside))
    return one(ask, "\n".join(f"{name}: {', '.join(words)}" for name, words in inside.items()))


def opposite(rng: Rng) -> Chat:
    """The opposite of a word."""
    pair = shuffled(rng, pick(rng, OPPOSITES))
    ask = pick(
        rng,
        (
            "What is the opposite of '{}'?",
            "Opposite of {}?",
            "Give the opposite: {}",
            "Which word means the contrary of '{}'?",
        ),
    )
    return one(ask.format(pair[0]), pair[1] if chance(rng, 0.7) else f"The opposite of '{pair[0]}' is '{pair[1]}'.")


def synonym(rng: Rng) -> Chat:
    """Another word for a word."""
    pair = pick(rng, SYNONYMS)
    ask = pick(rng, ("Another word for '{}'?", "Give a synonym of '{}'.", "Which word means much the same as '{}'?"))
    return one(ask.format(pair[0]), pair[1])


def same_or_opposite(rng: Rng) -> Chat:
    """Are two words alike, opposite or unrelated?"""
    roll = rng.random()
    if roll < 0.4:
        pair, answer = shuffled(rng, pick(rng, SYNONYMS)), "same"
    elif roll < 0.8:
        pair, answer = shuffled(rng, pick(rng, OPPOSITES)), "opposite"
    else:
        pair, answer = sample(rng, NOUNS, 2), "unrelated"
    ask = pick(
        rng,
        (
            "'{0}' and '{1}': same, opposite or unrelated?",
            "Do '{0}' and '{1}' mean the same, the opposite, or are they unrelated?",
            "Relation of {0} to {1}? Say same, opposite or unrelated.",
        ),
    )
    return one(ask.format(*pair), answer)


def is_a(rng: Rng) -> Chat:
    """Does a word belong to a kind? yes or no."""
    word = pick(rng, WORDS)
    truth = chance(rng, 0.5)
    name = KIND_OF[word] if truth else pick(rng, NAMES)
    truth = name == KIND_OF[word]
    ask = pick(
        rng,
        (
            "Does '{}' belong to the kind '{}'? Yes or no.",
            "Is '{}' a word of the kind '{}'?",
            "True or not: '{}' is of the kind '{}'. Say yes or no.",
        ),
    )
    return one(ask.format(word, name), "yes" if truth else "no")


def complete_pair(rng: Rng) -> Chat:
    """An analogy."""
    if chance(rng, 0.6):
        (a, b), (c, d) = sample(rng, OPPOSITES, 2)
    else:
        a, c = sample(rng, NOUNS, 2)
        b, d = KIND_OF[a], KIND_OF[c]
    ask = pick(
        rng,
        (
            "{a} is to {b} as {c} is to ...?",
            "Complete: {a} : {b} = {c} : ?",
            "If {a} goes with {b}, what goes with {c}?",
        ),
    )
    return one(ask.format(a=a, b=b, c=c), d)


def turns(rng: Rng) -> Chat:
    """Meaning, then the kind, then another word of that kind."""
    word = pick(rng, WORDS)
    chat = meaning_of(word)
    chat += one(
        pick(rng, ("What kind of word is that?", "And the kind?", "Which kind does it belong to?")), KIND_OF[word]
    )
    if chance(rng, 0.5):
        other = pick(rng, [w for w in KINDS[KIND_OF[word]] if w != word])
        chat += one(pick(rng, ("Name another one.", "Give me one more of that kind.", "Another example?")), other)
    return [system("You explain words briefly."), *chat] if chance(rng, 0.3) else chat


def meaning_of(word: str) -> Chat:
    """What is that word?"""
    return one(f"What does '{word}' mean?", stop(capital(GLOSS[word])))


def entry(rng: Rng) -> str:
    """Plain text: some glossary entries."""
    words = sample(rng, WORDS, between(rng, 3, 7))
    style = int(rng.random() * 3)
    if style == 0:
        return "\n".join(f"{w} ({KIND_OF[w]}): {GLOSS[w]}" for w in words)
    if style == 1:
        return "\n".join(f"{w}: {GLOSS[w]}." for w in words)
    name = pick(rng, NAMES)
    return f"Words of the kind '{name}': " + ", ".join(sample(rng, KINDS[name], 8)) + "."


TASKS = (
    meaning,
    meaning,
    name_it,
    name_it,
    kind,
    odd_one,
    odd_one,
    list_kind,
    group_words,
    opposite,
    synonym,
    same_or_opposite,
    is_a,
    complete_pair,
    turns,
)


def word_chat(rng: Rng) -> Chat:
    """Any word task."""
    return pick(rng, TASKS)(rng)
