"""Rows that plan before they answer: `<decompose>` with its `<step>`s, and rows of one step alone.

The idea of recursive language modelling: a task is divided into parts that the model can be asked one by one.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.core.records import Example, Message

HEADING = re.compile(r"^#{1,4}[ \t]+(\S.*?)[ \t]*#*$", re.MULTILINE)
NUMBERED = re.compile(r"^[ \t]*\d{1,3}[.)][ \t]+", re.MULTILINE)
COMMAND = re.compile(r"`([^`\n]+)`")
MARKERS = re.compile(r"</?(?:decompose|step)\b", re.IGNORECASE)


class Step(NamedTuple):
    """One part of an answer. title: what to do, one line; body: the answer's own words for it."""

    title: str
    body: str


def steps_of(answer: str) -> list[Step]:
    """The parts of an answer in order: its sections, or without headings its numbered items.

    A section of several commands becomes one step for each of them after its own. Text that already holds markers has
    no steps: they could not be told apart.
    """
    if MARKERS.search(answer):
        return []
    headings = list(HEADING.finditer(answer))
    if not headings:
        return [Step(_title(item), item) for item in numbered_items(answer)]
    steps = []
    ends = [heading.start() for heading in headings[1:]] + [len(answer)]
    for heading, end in zip(headings, ends, strict=True):
        body = answer[heading.end() : end].strip()
        steps.append(Step(heading[1], body))
        commands = [item for item in numbered_items(body) if COMMAND.search(item)]
        if len(commands) > 1:
            steps += [Step(_title(item), item) for item in commands]
    return [step for step in steps if step.body]


def numbered_items(text: str) -> list[str]:
    """`1. …` and `2) …` items, without their numbers, each up to the next item or an empty line."""
    starts = list(NUMBERED.finditer(text))
    marks = [*(start.start() for start in starts), len(text)]
    items = [text[start.end() : end].split("\n\n")[0].strip() for start, end in zip(starts, marks[1:], strict=True)]
    return [item for item in items if item]


def plan_row(example: Example, steps: list[Step], cue: str) -> tuple[Message, ...]:
    """The row asked with `cue`: the steps inside markers, then the answer as it is."""
    plan = "\n".join(f"<step>{number}. {step.title}</step>" for number, step in enumerate(steps, 1))
    question = example.messages[-2]
    return (
        *example.messages[:-2],
        Message(role="user", content=f"{question.content}\n\n{cue}"),
        Message(role="assistant", content=f"<decompose>\n{plan}\n</decompose>\n\n{example.answer}"),
    )


def step_rows(example: Example, steps: list[Step]) -> Iterator[tuple[Message, ...]]:
    """For each step the row that asks for it alone."""
    question = example.messages[-2]
    for number, step in enumerate(steps, 1):
        yield (
            *example.messages[:-2],
            Message(role="user", content=f"{question.content}\n\n<step>{number}. {step.title}</step>"),
            Message(role="assistant", content=step.body),
        )


def _title(item: str) -> str:
    """One line for a numbered item: its first line; the command stays in it."""
    return " ".join(item.split("\n")[0].split())
