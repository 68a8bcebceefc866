"""The checks that hold for every conversation, whatever format it came in."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from holdfast.core.records import Example, Message
from holdfast.sources.defects import Problem, Tags, Turns, broken_text, is_unicode, short

Split = Literal["train", "valid", "test"]
ROLES = ("system", "user", "assistant")
# These keys change what the model should see; leaving them out without a word would train something else.
MEANINGFUL_KEYS = frozenset({"tools", "functions", "history", "chosen", "rejected", "kto_tag", "images", "videos"})
WHOLE_LIMIT = 1 << 63


def build_example(
    row: dict[str, Any], read: Callable[[dict[str, Any]], Turns], source: str, split: Split | None, ignored: list[str]
) -> Example | list[Problem]:
    """The row as an Example, or everything that is wrong with it. Keys that are left out are appended to `ignored`."""
    turns, used, unreadable, rejected, more = read(row)
    problems: list[Problem] = [*unreadable] if unreadable else []
    tags: Tags = {**more} if more else {}
    if len(row) > len(used) or not row.keys() <= used:
        problems += read_tags(row, used, tags, ignored)
    if not unreadable:
        if not _are_sound(turns):
            problems += _list_problems(turns)
        if rejected is not None:
            problems += check_rejected(turns, rejected)
    if problems:
        return problems
    messages = tuple([Message(role=role, content=content) for role, content in turns])
    return Example(messages=messages, source=source, split=split, tags=tags, rejected=rejected)


def with_system_prompt(example: Example, prompt: str) -> Example:
    """The example with `prompt` as its first turn, unless it has a system turn or `prompt` is empty."""
    if not prompt or example.messages[0].role == "system":
        return example
    return msgspec.structs.replace(example, messages=(Message(role="system", content=prompt), *example.messages))


def check_turns(turns: Sequence[tuple[Any, Any]]) -> list[Problem]:
    """Every broken rule of a conversation: known roles in turn, text in each, the answer at the end."""
    return [] if _are_sound(turns) else _list_problems(turns)


def _are_sound(turns: Sequence[tuple[Any, Any]]) -> bool:
    """Quick and exact: the long way is only for what is wrong."""
    roles = []
    for role, content in turns:
        if type(role) is not str or type(content) is not str or not content or content.isspace():
            return False
        if not content.isascii() and not is_unicode(content):
            return False
        roles.append(role)
    return _sound_order(tuple(roles))


@lru_cache(maxsize=4096)
def _sound_order(roles: tuple[str, ...]) -> bool:
    return not _list_problems([(role, "text") for role in roles])


def _list_problems(turns: Sequence[tuple[Any, Any]]) -> list[Problem]:
    problems: list[Problem] = []
    previous: Any = None
    for number, (role, content) in enumerate(turns, 1):
        if role not in ROLES:
            if role == "tool":
                problems.append(Problem("tool_turn", f"turn {number}: tools are not supported yet", role))
            else:
                known = f"known roles: {', '.join(ROLES)}"
                problems.append(Problem("role", f"turn {number} has an unknown role; {known}", short(role)))
        elif role == "system" and number > 1:
            problems.append(Problem("system_first", f"turn {number} is a system turn; only the first may be", role))
        if role is not None and role == previous:
            problems.append(Problem("doubled_role", f"turns {number - 1} and {number} have the same role", short(role)))
        previous = role
        problems += check_content(f"turn {number}", content)
    roles = [role for role, _ in turns]
    if "user" not in roles:
        problems.append(Problem("no_user", "there is no user turn", short(roles)))
    elif next(role for role in roles if role != "system") == "assistant":
        problems.append(Problem("first_turn", "the first turn after the system's must be the user's", "assistant"))
    if "assistant" not in roles:
        problems.append(Problem("no_answer", "there is no assistant turn: nothing to learn", short(roles)))
    elif roles[-1] != "assistant":
        problems.append(Problem("last_turn", "the last turn must be the assistant's", short(roles[-1])))
    return problems


def check_content(where: str, content: Any) -> list[Problem]:
    """Why a text cannot be a turn: no text, empty, or not Unicode."""
    if not isinstance(content, str):
        return [Problem("content_type", f"{where}: content must be text", short(content))]
    if not content.strip():
        return [Problem("empty", f"{where}: content is empty", short(content))]
    return [] if is_unicode(content) else [broken_text(where, content)]


def check_rejected(turns: Sequence[tuple[Any, Any]], rejected: Any) -> list[Problem]:
    """The rejected answer must be a text of its own: equal to the chosen one there is nothing to prefer."""
    problems = check_content("the rejected answer", rejected)
    if not problems and turns and turns[-1][1] == rejected:
        problems = [Problem("same_answers", "the chosen and the rejected answer are the same", short(rejected))]
    return problems


def read_tags(row: dict[str, Any], used: frozenset[str], tags: Tags, ignored: list[str]) -> list[Problem]:
    """Put scalar keys beside the conversation into `tags`, names of other keys into `ignored`; return the problems."""
    problems: list[Problem] = []
    for key, value in row.items():
        if key in used:
            continue
        kind = type(value)
        if key in MEANINGFUL_KEYS and value:
            problems.append(Problem("meaningful_key", f"`{key}` is not supported and would be lost", short(value)))
        elif not is_unicode(key) or kind is str and not is_unicode(value):
            problems.append(broken_text("a key beside the conversation", f"{key}: {value}"))
        elif kind is float and not math.isfinite(value):
            problems.append(Problem("number", f"`{key}` is not a finite number", short(value)))
        elif kind is int and not -WHOLE_LIMIT <= value < WHOLE_LIMIT:
            problems.append(Problem("number", f"`{key}` does not fit into 64 bits", short(value)))
        elif kind is str or kind is int or kind is float or kind is bool:
            tags[key] = value
        else:
            ignored.append(key)
    return problems
