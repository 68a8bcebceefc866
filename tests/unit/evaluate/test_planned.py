"""What the stages that ask the models take from the plan. Run: pytest tests/unit/evaluate"""

import json
from pathlib import Path

import pytest

from holdfast.evaluate.planned import answering, merged_fits
from plan_shapes import run_config


@pytest.mark.parametrize(("asked", "planned", "wanted"), [(16, 4, 4), (2, 16, 2), (16, 16, 16), (16, 0, 1)])
def test_the_plan_only_ever_makes_the_batch_smaller(asked: int, planned: int, wanted: int, tmp_path: Path) -> None:
    config = run_config(evaluate={"batch_size": asked, "max_new_tokens": 7})
    (tmp_path / "evaluate.json").write_text(json.dumps({"batch_size": planned}))
    found = answering(config, tmp_path)
    assert (found.batch_size, found.max_new_tokens) == (wanted, 7)


@pytest.mark.parametrize("fits", [True, False])
def test_the_merged_model_is_run_where_the_plan_found_room(fits: bool, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"evaluation": {"batch_size": 4, "merged": fits}}))
    assert merged_fits(tmp_path) == fits


def test_a_run_of_an_older_version_is_asked_as_it_is_configured(tmp_path: Path) -> None:
    assert answering(run_config(evaluate={"batch_size": 5}), tmp_path).batch_size == 5
