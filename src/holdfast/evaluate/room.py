"""Is there room for the question and the right answer? An item that is cut off cannot be won."""

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
            hint=f"holdfast run -c FILE --set evaluate.max_new_tokens={longest}, or shorten the answers",
        )


def check_server_room(folder: Path, examples: Sequence[Example], max_new_tokens: int, n_ctx: int) -> None:
    """Raise StageError when a prompt and an answer do not fit the server's context of `n_ctx` tokens.

    folder: the base model, whose tokenizer counts. Checked before either model answers: the server is asked last.
    """
    tokenizer = models.load_tokenizer(folder)
    prompt, source = max((len(models.encode_prompt(tokenizer, list(one.prompt))), one.source) for one in examples)
    if prompt + max_new_tokens > n_ctx:
        raise StageError(
            f"{source}: its prompt has {prompt} tokens and an answer may have {max_new_tokens}: "
            f"{prompt + max_new_tokens} in all, but the run was measured with verify.n_ctx {n_ctx}",
            hint="shorten the item or leave it out; holdfast eval --runtime transformers has no such limit",
        )
