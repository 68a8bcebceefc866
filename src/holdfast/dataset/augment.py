"""More training rows by rules that an operator wrote: paraphrases, grammars, contrasts, decompositions.

Pure and offline: the same rows, rules and seed make the same new rows, whatever the order of the files. Every new row
is tagged (`synthetic`, `augmentation`, `from`). None is near a held-out row, none contradicts a training row, and their
share is capped; the rules take turns, so that one of them cannot use up the room.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from holdfast.core.records import Example, Message
from holdfast.dataset.augment_rules import AugmentRules, Contrast, Decompose, Grammar, Paraphrase
from holdfast.dataset.contract import DatasetContract
from holdfast.dataset.decompose import plan_row, step_rows, steps_of
from holdfast.dataset.heldout import HeldOut, Subject
from holdfast.dataset.similarity import normalise
from holdfast.dataset.slots import fill_all, seeded
from holdfast.dataset.validate import label_of, strict_json

DRAWS = 20  # tries for one row of a grammar before it counts as used up
GROUP = re.compile(r"\\(\d)")


class Augmented(NamedTuple):
    """rows: the new rows, to be put behind the training rows; counts: what the report says."""

    rows: list[Example]
    counts: dict[str, Any]


@dataclass
class _Tally:
    made: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    used_up: bool = False

    def document(self) -> dict[str, Any]:
        reasons = ("near_held_out", "duplicate", "conflicting")
        return {"made": self.made, **{name: self.left_out[name] for name in reasons}, "used_up": self.used_up}


def augment(
    examples: Sequence[Example],
    rules: AugmentRules,
    seed: int,
    *,
    max_share: float,
    held_out: Sequence[Example] = (),
    contract: DatasetContract | None = None,
    threshold: float = 0.8,
) -> Augmented:
    """New rows for training rows `examples`; synthetic rows are at most `max_share` of all training rows.

    held_out: rows of valid and test; a new row whose similarity with one of them reaches `threshold` is left out.
    """
    makers = _makers(_by_digest(examples, seed), rules, seed, contract)
    room = _room(len(examples), max_share)
    judge = _judge(examples, held_out, contract, threshold)
    tallies = {name: _Tally() for name, _ in makers}
    rows: list[Example] = []
    waiting = list(makers)
    while waiting and len(rows) < room:
        for name, candidates in list(waiting):
            if len(rows) == room:
                break
            tally = tallies[name]
            for candidate in candidates:
                if (reason := judge(candidate)) is None:
                    rows.append(candidate)
                    tally.made += 1
                    break
                tally.left_out[reason] += 1
            else:
                tally.used_up = True
                waiting.remove((name, candidates))
    return Augmented(rows, _describe(len(examples), rows, tallies, max_share))


def _describe(real: int, rows: Sequence[Example], tallies: dict[str, _Tally], max_share: float) -> dict[str, Any]:
    return {
        "real": real,
        "synthetic": len(rows),
        "share": round(len(rows) / (real + len(rows)), 4) if real + len(rows) else 0.0,
        "max_synthetic_share": max_share,
        "by_rule": {name: tally.document() for name, tally in tallies.items()},
    }


def _room(real: int, share: float) -> int:
    """The most synthetic rows s with s / (real + s) <= share."""
    room = int(share * real / (1 - share)) + 1
    while room and room > share * (real + room) + 1e-9:
        room -= 1
    return room


def _by_digest(examples: Sequence[Example], seed: int) -> list[Example]:
    """Rows in an order that depends only on the seed and on what they say."""
    return sorted(examples, key=lambda e: (hashlib.sha256(f"{seed}:{e.id}".encode()).digest(), e.source))


Maker = tuple[str, Iterator[Example]]


def _makers(
    examples: Sequence[Example], rules: AugmentRules, seed: int, contract: DatasetContract | None
) -> list[Maker]:
    """Each rule by name, with the rows it would make, in order, made when asked for."""
    made: list[Maker] = [(p.name, _paraphrases(p, examples, rules, seed, contract)) for p in rules.paraphrases]
    made += [(c.name, _contrasts(c, examples, rules, seed, contract)) for c in rules.contrasts]
    made += [(g.name, _grammar(g, examples, rules, seed, contract)) for g in rules.grammars]
    if rules.decompose:
        made.append(("decompose", _decompose(rules.decompose, examples)))
    return made


def _paraphrases(
    rule: Paraphrase, examples: Sequence[Example], rules: AugmentRules, seed: int, contract: DatasetContract | None
) -> Iterator[Example]:
    for copy in range(rule.rows):
        for example in _matching(examples, rule.when, contract):
            before, text = _split_question(example, contract)
            given = {"input": text, "answer": example.answer}
            made = fill_all((rule.text,), rules.slots, given, seeded(seed, rule.name, example.id, copy))[0]
            yield _derived(example, rule.name, _asked(example, before + made, example.answer), str(copy + 1))


def _contrasts(
    rule: Contrast, examples: Sequence[Example], rules: AugmentRules, seed: int, contract: DatasetContract | None
) -> Iterator[Example]:
    pattern = re.compile(rule.pattern)
    for example in _matching(examples, rule.when, contract):
        before, text = _split_question(example, contract)
        if not pattern.search(text):
            continue
        given = {"input": text, "answer": example.answer}
        parts = (rule.replace, rule.answer or "", *rule.set.values())
        replace, answer, *values = fill_all(parts, rules.slots, given, seeded(seed, rule.name, example.id))
        if rule.answer is None:
            changed = change_fields(example.answer, dict(zip(rule.set, values, strict=True)))
            if changed is None:
                continue
            answer = changed
        asked = pattern.sub(lambda m: GROUP.sub(lambda g: m[int(g[1])] or "", replace), text, count=1)  # noqa: B023
        if normalise(asked) != normalise(text):
            yield _derived(example, rule.name, _asked(example, before + asked, answer), "1")


def _grammar(
    rule: Grammar, examples: Sequence[Example], rules: AugmentRules, seed: int, contract: DatasetContract | None
) -> Iterator[Example]:
    system = _shared_system(examples)
    given = {"instruction": contract.instruction if contract else ""}
    seen: set[tuple[str, ...]] = set()
    for draw in range(rule.rows * DRAWS):
        if len(seen) == rule.rows:
            return
        parts = (rule.text, rule.answer, *rule.tags.values())
        text, answer, *tags = fill_all(parts, rules.slots, given, seeded(seed, rule.name, draw))
        if (text, answer) in seen:
            continue
        seen.add((text, answer))
        turns = (*system, Message(role="user", content=text.strip()), Message(role="assistant", content=answer))
        own = dict(zip(rule.tags, tags, strict=True))
        name = f"{rule.name}:{len(seen)}"
        yield Example(messages=turns, source=name, split="train", tags=_tags(own, rule.name, rule.name))


def _decompose(rule: Decompose, examples: Sequence[Example]) -> Iterator[Example]:
    for form in rule.forms:
        for example in examples:
            if len(example.messages) < 2 or example.messages[-2].role != "user":
                continue
            steps = steps_of(example.answer)
            if len(steps) < rule.minimum_steps:
                continue
            made = [plan_row(example, steps, rule.cue)] if form == "plan" else step_rows(example, steps)
            for number, messages in enumerate(made, 1):
                yield _derived(example, "decompose", messages, f"{form}-{number}")


def change_fields(answer: str, changes: dict[str, str]) -> str | None:
    """A JSON object with some fields changed, written as it was written; None for an answer that is none."""
    try:
        document = strict_json(answer)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    spaced = '": ' in answer or ", " in re.sub(r'"(?:[^"\\]|\\.)*"', "", answer)
    return json.dumps(document | changes, ensure_ascii=False, separators=(", ", ": ") if spaced else (",", ":"))


def _judge(
    examples: Sequence[Example], held_out: Sequence[Example], contract: DatasetContract | None, threshold: float
) -> Callable[[Example], str | None]:
    """Why a candidate is left out; None = it is taken, and remembered."""
    subject = Subject(contract.instruction if contract else "", [*examples, *held_out])
    index = HeldOut([subject.text(example) for example in held_out], threshold)
    answers = {_prompt(example): example.answer for example in [*held_out, *examples]}

    def judge(candidate: Example) -> str | None:
        prompt = _prompt(candidate)
        if prompt in answers:
            return "duplicate" if answers[prompt].split() == candidate.answer.split() else "conflicting"
        if index.nearest(subject.text(candidate)):
            return "near_held_out"
        answers[prompt] = candidate.answer
        return None

    return judge


def _prompt(example: Example) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, normalise(message.content)) for message in example.prompt)


def _matching(
    examples: Sequence[Example], when: dict[str, tuple[str, ...]], contract: DatasetContract | None
) -> Iterator[Example]:
    for example in examples:
        tags = {**example.tags, **({"label": label} if (label := label_of(example, contract)) else {})}
        asked = len(example.messages) > 1 and example.messages[-2].role == "user"
        if asked and all(str(tags.get(name)) in values for name, values in when.items()):
            yield example


def _split_question(example: Example, contract: DatasetContract | None) -> tuple[str, str]:
    """The last user turn: the instruction with what parts it from the input (may be empty), and the input."""
    text = example.messages[-2].content
    if contract is None or not text.startswith(contract.instruction):
        return "", text
    rest = text[len(contract.instruction) :]
    words = rest.lstrip()
    return text[: len(text) - len(words)], words


def _asked(example: Example, question: str, answer: str) -> tuple[Message, ...]:
    turns = Message(role="user", content=question), Message(role="assistant", content=answer)
    return (*example.messages[:-2], *turns)


def _derived(example: Example, rule: str, messages: tuple[Message, ...], part: str) -> Example:
    tags = _tags(example.tags, rule, example.source)
    return Example(messages=messages, source=f"{example.source}+{rule}:{part}", split="train", tags=tags)


def _tags(own: Any, rule: str, origin: str) -> dict[str, Any]:
    return {**own, "synthetic": True, "augmentation": rule, "from": origin}


def _shared_system(examples: Sequence[Example]) -> tuple[Message, ...]:
    """The system turn that all rows share, else none."""
    first = {example.messages[0] for example in examples}
    only = first.pop() if len(first) == 1 else None
    return (only,) if only and only.role == "system" else ()
