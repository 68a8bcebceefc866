"""Which texts of an example are looked at, and where it came from."""

from holdfast.core.records import Example

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
