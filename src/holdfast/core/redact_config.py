"""What is hidden before anything is written, and what may stay."""

from typing import Annotated

from pydantic import Field, field_validator

from holdfast.core.section import Section


class DenyRule(Section):
    """Words of the operator's own that are always masked."""

    type: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,30}$")] = "TERM"
    """What the placeholder is called: `TERM` gives `<TERM_1>`."""
    words: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Whole words or phrases, in any case."""
    pattern: str | None = None
    """A regular expression, for example `pve\\d+`, in any case."""

    @field_validator("pattern")
    @classmethod
    def _something_to_find(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("the expression is empty")
        return value


class RedactConfig(Section):
    """What `collect` hides before anything is written. Placeholders are typed and the same for the same value."""

    enabled: bool = True
    """Mask secrets and personal data; `false` writes the rows as they are."""
    types: dict[str, bool] = {}
    """Types to leave alone, for example `{PHONE: false}`."""
    keep: tuple[str, ...] = ()
    """Values that are not secret: a literal, `*.example.org`, a network such as `10.40.0.0/24`, or `/expression/`."""
    deny: tuple[DenyRule, ...] = ()
    """Words and expressions that are always masked."""
    ner: str | None = None
    """Names of people, organisations and places: `bundled`, the folder of a spaCy pipeline, or `presidio`."""
    pseudonym_key_file: str | None = None
    """Key of the account pseudonyms; `null` = a file in the user's configuration folder, made once."""
    scanner: bool = True
    """Look at the masked rows with independent rules; what is still found ends the run with exit code 20."""
