"""The command that a plan proposes can be typed as it is."""

from pathlib import Path

import pytest

from holdfast import models
from holdfast.core.records import Example, Message
from holdfast.operations.planning import fewer_at_once, next_command
from plan_shapes import run_config, write_config

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


def test_items_with_longer_prompts_than_the_run_had_are_asked_fewer_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = run_config(
        plan={"gpu": "8GB"}, evaluate={"batch_size": 8}, base_model=str(write_config(tmp_path, "Qwen2.5-7B"))
    )
    monkeypatch.setattr(models, "find_base_model", Path)
    monkeypatch.setattr(models, "load_tokenizer", lambda folder: None)
    monkeypatch.setattr(models, "encode_prompt", lambda tokenizer, prompt: list(prompt[-1].content))

    def at_once(length: int) -> int:
        turns = (Message(role="user", content="x" * length), Message(role="assistant", content="low"))
        return fewer_at_once(config, [Example(messages=turns, source="a:1")]).evaluate.batch_size

    assert [at_once(length) for length in (10, 250, 1000, 4000)] == [8, 8, 2, 1]
