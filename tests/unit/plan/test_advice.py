"""Fine-tune, retrieve or prompt, for every combination of answers. Run: pytest tests/unit/plan/test_advice.py"""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.console import Console
from holdfast.core.errors import ConfigError, UsageError
from holdfast.operations.planning import advise as operation
from holdfast.plan.advice import RULES, Answers, advise, describe_advice, questions

READY: dict[str, Any] = {
    "source_changes": "never", "prompt": "drifts", "narrow": True, "able": "yes", "experts_agree": True,
    "examples": "hundreds", "held_out": True, "owner": True,
}  # fmt: skip


def said(**changes: Any) -> str:
    return str(advise(Answers.model_validate(READY | changes))["recommendation"])


def every_combination() -> list[Answers]:
    choices = [[c == "yes" for c in given] if given == ("yes", "no") else given for _, _, given in questions()]
    names = [name for name, _, _ in questions()]
    return [Answers.model_construct(**dict(zip(names, values, strict=True))) for values in product(*choices)]


def test_training_is_advised_only_when_nothing_speaks_against_it() -> None:
    combinations = every_combination()
    assert len(combinations) == 3 * 4 * 2 * 3 * 2 * 3 * 2 * 2
    trained = [a for a in combinations if advise(a)["train"]]
    for answers in trained:
        assert answers.narrow and answers.experts_agree and answers.able == "yes" and answers.prompt == "drifts"
        assert answers.examples != "none" and answers.held_out and answers.owner
    assert len(trained) == 3 * 2, "when the source changes x how many examples"


def test_facts_that_must_follow_at_once_are_never_trained_alone() -> None:
    for answers in every_combination():
        if answers.source_changes == "at once":
            assert advise(answers)["recommendation"] != "fine-tune"


def test_every_rule_decides_for_some_combination() -> None:
    seen = {advise(answers)["reason"] for answers in every_combination()}
    assert seen == {rule.reason for rule in RULES}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "fine-tune"),
        ({"source_changes": "at once"}, "fine-tune and retrieve"),
        ({"source_changes": "at once", "examples": "none"}, "retrieve"),
        ({"prompt": "mostly"}, "prompt"),
        ({"prompt": "not tried"}, "prompt"),
        ({"narrow": False}, "redesign"),
        ({"experts_agree": False, "source_changes": "at once"}, "redesign"),
        ({"able": "no"}, "other model"),
        ({"able": "unknown"}, "prepare"),
        ({"held_out": False}, "prepare"),
        ({"owner": False}, "prepare"),
    ],
)
def test_what_decides(changes: dict[str, Any], wanted: str) -> None:
    assert said(**changes) == wanted


def test_other_reasons_are_told_too() -> None:
    advice = advise(Answers.model_validate(READY | {"narrow": False, "prompt": "works", "able": "no"}))
    assert [row["recommendation"] for row in advice["also"]] == ["prompt", "other model"]
    assert describe_advice(advice).startswith("REDESIGN: ")


def test_the_advice_is_kept_in_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("\n".join(f"{key}: {_yaml(value)}" for key, value in READY.items()))
    assert operation(None, tmp_path / "a.yaml", tmp_path / "run", Console(quiet=True)) == 0
    assert '"recommendation": "fine-tune"' in (tmp_path / "run" / "advice.json").read_text()
    assert "FINE-TUNE" in capsys.readouterr().out


def test_wrong_and_missing_answers_are_all_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("prompt: often\nnarow: yes\n")
    with pytest.raises(ConfigError) as caught:
        operation(None, tmp_path / "a.yaml", None, Console(quiet=True))
    for words in ("prompt", "often", "narow", "'owner' is missing"):
        assert words in caught.value.message


def test_without_a_terminal_and_without_a_file_the_keys_are_named() -> None:
    with pytest.raises(UsageError) as caught:
        operation(None, None, None, Console(quiet=True))
    assert "experts_agree" in caught.value.hint


def _yaml(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else str(value)
