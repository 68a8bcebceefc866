import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.config import RunConfig
from holdfast.core.errors import ConfigError, IntegrityError
from holdfast.core.records import Example, Message, examples_bytes, jsonl_bytes
from holdfast.evaluate.rescore import rescore_rows, rescore_run
from holdfast.evaluate.scorers import score_sample, summarize
from holdfast.evaluate.tasks import Task

OLD = Task(task="t")
NEW = Task.model_validate({"task": "t", "scorers": [{"kind": "number", "name": "close", "tolerance": 2}]})
ITEMS = [
    Example(messages=(Message(role="user", content=f"q{n}"), Message(role="assistant", content=str(80 + n))),
            source=f"test.jsonl:{n + 1}") for n in range(12)
]  # fmt: skip
BY_ID = {item.id: item for item in ITEMS}


def answered(offset: int) -> list[dict[str, Any]]:
    return [score_sample(OLD, item, str(80 + n + offset), True, 2) for n, item in enumerate(ITEMS)]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("prepare", "baseline", "evaluate", "verify")}
    for folder in found.values():
        folder.mkdir()
    (found["prepare"] / "test.jsonl").write_bytes(examples_bytes(ITEMS))
    for name, file, offset in (("baseline", "samples.jsonl", 9), ("evaluate", "samples.jsonl", 1),
                               ("verify", "samples-F16.jsonl", 3)):  # fmt: skip
        rows = answered(offset)
        (found[name] / file).write_bytes(jsonl_bytes(rows))
        (found[name] / "results.json").write_text(json.dumps({**summarize(rows), "quantization": "nf4"}))
    ladder = {"deploy": "F16", "rungs": [{"rung": "F16", "size_bytes": 7, "label_accuracy": 0.0, "n": 12}]}
    (found["verify"] / "ladder.json").write_text(json.dumps(ladder))
    return found


def config(primary: str) -> RunConfig:
    return RunConfig.model_validate(
        {"name": "r", "collect": {"sources": [{"path": "a"}]}, "decide": {"primary": primary}}
    )


def test_the_same_task_gives_the_same_scores_again(folders: dict[str, Path]) -> None:
    documents = rescore_run(config("label_accuracy"), folders, OLD)
    assert documents["baseline/samples.jsonl"] == answered(9)
    assert documents["evaluate/results.json"] == json.loads((folders["evaluate"] / "results.json").read_text()) | {
        "intervals": documents["evaluate/results.json"]["intervals"]
    }


def test_a_new_scorer_judges_stored_answers_and_every_file(folders: dict[str, Path]) -> None:
    before = {path: path.read_bytes() for folder in folders.values() for path in folder.iterdir()}
    documents = rescore_run(config("close"), folders, NEW)
    shares = [documents[f"{name}/results.json"]["close"] for name in ("baseline", "evaluate")]
    assert shares == [0.0, 1.0]
    assert documents["evaluate/comparison.json"]["wins"] == 12
    rung = documents["verify/ladder.json"]["rungs"][0]
    assert (rung["close"], rung["size_bytes"]) == (0.0, 7)
    assert {path: path.read_bytes() for path in before} == before, "the run stays as it was"


def test_a_primary_score_that_the_task_lacks_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="'close'"):
        rescore_run(config("close"), folders, OLD)


def test_an_answer_to_an_unknown_item_is_refused() -> None:
    rows = [{**answered(0)[0], "id": "ffff"}]
    with pytest.raises(IntegrityError, match="1 answers are to items that are not in the test split"):
        rescore_rows(OLD, BY_ID, rows)
