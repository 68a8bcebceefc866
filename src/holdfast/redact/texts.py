"""Which texts of an example are looked at, and where it came from."""

from collections.abc import Sequence

import msgspec

from holdfast.core.records import Example, Message

SHORTEST_NUMBER = 10**6  # a whole number in a tag from which it may be an account, a phone or a card


def example_texts(example: Example) -> list[str]:
    """Every text of an example that masking looks at."""
    texts = [message.content for message in example.messages]
    if example.rejected is not None:
        texts.append(example.rejected)
    for value in example.tags.values():
        if isinstance(value, str) or not isinstance(value, float | bool) and abs(value) >= SHORTEST_NUMBER:
            texts.append(str(value))
    return texts


def source_file(example: Example) -> str:
    """The file (or fact base) that an example came from."""
    return example.source.rpartition(":")[0] or example.source


def name_texts(example: Example) -> list[str]:
    """The texts that may hold names: turns, the unwanted answer, and tags that are text, in this order."""
    texts = [message.content for message in example.messages]
    if example.rejected is not None:
        texts.append(example.rejected)
    return texts + [value for value in example.tags.values() if isinstance(value, str)]


def with_texts(example: Example, texts: Sequence[str]) -> Example:
    """The example with other texts, given in the order of `name_texts`."""
    given = iter(texts)
    messages = tuple(Message(role=message.role, content=next(given)) for message in example.messages)
    rejected = None if example.rejected is None else next(given)
    tags = {name: next(given) if isinstance(value, str) else value for name, value in example.tags.items()}
    return msgspec.structs.replace(example, messages=messages, rejected=rejected, tags=tags)
