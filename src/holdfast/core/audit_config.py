"""`audit:` of a run: what is planted to measure how much training memorises."""

from typing import Annotated

from pydantic import Field, field_validator

from holdfast.core.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class AuditConfig(Section):
    """The leak audit. Rows with random numbers are planted in the training split; what the model can say of them later
    is what it could say of a secret that stood in the data as often."""

    enabled: bool = False
    """Plant canaries and measure them. The trained model knows the canaries: use it for a rehearsal, not for serving
    where that matters."""
    repeats: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 4, 16)
    """How often a canary stands in the training rows, one level each; 0 = control, never planted."""
    canaries: Annotated[int, Field(gt=0, le=64)] = 4
    """Canaries at each level."""
    digits: Annotated[int, Field(ge=6, le=18)] = 8
    """Digits of a planted number."""
    candidates: Annotated[int, Field(ge=31)] = 255
    """Random numbers that each canary is ranked among; the exposure cannot exceed log2(candidates + 1) bits."""
    seed: int = 20260731
    """Draws the canaries; registered before training by being part of the configuration."""
    protected_repeats: Annotated[int, Field(ge=0)] = 1
    """Gate: canaries that stand in the rows at most so often must stay secret."""
    maximum_extracted: Share = 0.0
    """Gate: share of those canaries that may be extracted."""

    @field_validator("repeats")
    @classmethod
    def _with_a_control(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if 0 not in value or len(set(value)) != len(value) or len(value) < 2:
            raise ValueError("repeats needs the control level 0 and at least one other, each once")
        return value
