"""Which base an adapter is merged into, from the losses of the validation answers."""

import pytest

from holdfast.export.base_choice import AnswerLoss, better_base


@pytest.mark.parametrize(
    ("original", "nf4", "trained_on", "chosen"),
    [
        (1.4178, 1.4282, "nf4", "nf4"),  # 0.7 % apart: what was trained on
        (1.3114, 1.3013, "nf4", "nf4"),
        (1.2000, 1.4282, "nf4", "original"),
        (1.4282, 1.4178, "original", "original"),
    ],
)
def test_a_near_tie_goes_to_the_base_that_was_trained_on(
    original: float, nf4: float, trained_on: str, chosen: str
) -> None:
    measured = {"original": AnswerLoss(original, 0.5, 100), "nf4": AnswerLoss(nf4, 0.5, 100)}
    assert better_base(measured, trained_on) == chosen  # type: ignore[arg-type]
