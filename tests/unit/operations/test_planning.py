"""The command that a plan proposes can be typed as it is."""

import pytest

from holdfast.operations.planning import next_command

FITS = "holdfast plan -c FILE --set sequence_len=512 --set train.lora_r=8"


@pytest.mark.parametrize(
    ("given", "overrides", "wanted"),
    [
        (["-c", "my run.yaml"], [], "-c 'my run.yaml' --set sequence_len=512 --set train.lora_r=8"),
        (
            ["--model", "m", "--gpu", "24GB"],
            ["sequence_len=9000", "train.lora_target_modules=[q_proj, v_proj]"],
            "--model m --gpu 24GB --set 'train.lora_target_modules=[q_proj, v_proj]' --set sequence_len=512 "
            "--set train.lora_r=8",
        ),
    ],
)
def test_what_was_given_stays_and_what_is_set_anew_does_not(
    given: list[str], overrides: list[str], wanted: str
) -> None:
    assert next_command(FITS, given, overrides) == f"holdfast plan {wanted}"


def test_a_smaller_model_takes_the_place_of_the_one_that_was_given() -> None:
    proposed = "holdfast plan -c FILE --set base_model=SMALLER"
    assert next_command(proposed, ["--model", "m", "--gpu", "8GB"], []) == "holdfast plan --model SMALLER --gpu 8GB"
    assert next_command(proposed, ["-c", "a.yaml"], []) == "holdfast plan -c a.yaml --set base_model=SMALLER"


def test_another_disk_is_proposed_with_the_same_configuration() -> None:
    proposed = "holdfast plan -c FILE --run-dir DIR (on another disk)"
    assert next_command(proposed, ["-c", "a.yaml"], []) == "holdfast plan -c a.yaml --run-dir DIR (on another disk)"
