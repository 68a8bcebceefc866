"""Which rows hold something to be masked? Asked by workers, who give out no placeholder."""

from collections.abc import Sequence

from holdfast.core.records import Example
from holdfast.redact.placeholders import PLACEHOLDER
from holdfast.redact.redactor import Redactor
from holdfast.redact.texts import example_texts, name_texts


def screen(redactor: Redactor, examples: Sequence[Example]) -> list[int]:
    """Places of the examples that `Redactor.mask_examples` would not leave just as they are, or would refuse."""
    found = {at for at, example in enumerate(examples) if _holds_something(redactor, example)}
    rest = [at for at in range(len(examples)) if at not in found]
    if redactor.config.ner is not None:
        from holdfast.redact import names

        texts = [(at, text) for at in rest for text in name_texts(examples[at])]
        spans = names.find_names([text for _, text in texts], redactor.config.ner)
        found |= {at for (at, text), own in zip(texts, spans, strict=True) if redactor.hidden_names(text, own)}
    if redactor.config.scanner:
        from holdfast.redact.scanner import scan_examples

        found |= {at for at in rest if at not in found and scan_examples([examples[at]], redactor.policy)}
    return sorted(found)


def _holds_something(redactor: Redactor, example: Example) -> bool:
    for text in example_texts(example):
        if text in redactor.clean:
            continue
        if ("<" in text and PLACEHOLDER.search(text)) or redactor.find(text):
            return True
        redactor.note_clean(text)
    return False
