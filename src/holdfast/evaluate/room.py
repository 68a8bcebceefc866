"""Is there room for the right answer? An item whose reference is cut off at `max_new_tokens` cannot be won."""

from collections.abc import Sequence
from pathlib import Path

from holdfast import models
from holdfast.core.errors import StageError
from holdfast.core.records import Example


def check_room(folder: Path, examples: Sequence[Example], max_new_tokens: int) -> None:
    """Raise StageError when a reference answer, the token that ends it included, is longer than an answer may be.

    folder: the base model, whose tokenizer counts.
    """
    tokenizer = models.load_tokenizer(folder)
    lengths = []
    for example in examples:
        whole = models.encode_example(tokenizer, list(example.messages)).labels
        start = len(models.encode_prompt(tokenizer, list(example.prompt)))
        lengths.append(sum(label != models.NOT_TRAINED for label in whole[start:]))
    cut = [
        (length, example.source) for length, example in zip(lengths, examples, strict=True) if length > max_new_tokens
    ]
    if cut:
        longest, source = max(cut)
        raise StageError(
            f"{len(cut)} of {len(examples)} references are longer than evaluate.max_new_tokens {max_new_tokens}: "
            f"both models would be cut off before the answer ends; the longest has {longest} tokens ({source})",
            hint=f"--set evaluate.max_new_tokens={longest}, or shorten the answers",
        )
