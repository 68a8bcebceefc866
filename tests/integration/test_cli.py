"""The command line: light to start, help everywhere, one JSON document on stdout, `eval` on every kind of row.

bench/startup.py measures the seconds; here stands what must not be loaded, which no slow machine changes.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from small_run import (
    INSTRUCTION,
    ROOT,
    SmallRun,
    arguments,
    environment,
    holdfast,
    ticket_rows,
    write_jsonl,
    write_small,
)  # fmt: skip

VERBS = ("demo", "init", "doctor", "config-schema", "run", "prepare", "train", "evaluate", "export", "verify", "decide",
         "validate", "preview", "plan", "eval", "compare", "status", "check", "serve", "ask", "fetch")  # fmt: skip
LIBRARIES = ("torch", "transformers", "numpy", "peft", "trl", "datasets", "scipy", "gguf")
HEAVY = (*LIBRARIES, "rich", "pydantic", "yaml", "jinja2", "asyncio", "multiprocessing")


def modules_after(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has after some code."""
    tail = "\nimport sys; sys.stderr.write(chr(10) + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], env=environment(), capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import holdfast",
        "import holdfast.cli",
        "import sys; from holdfast.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass",
    ],
)
def test_no_heavy_library_is_imported(code: str) -> None:
    loaded = modules_after(code)
    assert "holdfast" in loaded
    assert loaded & set(HEAVY) == set()


def test_importing_the_pipeline_needs_no_heavy_library() -> None:
    assert modules_after("import holdfast.pipeline") & {"torch", "transformers", "numpy"} == set()


def test_every_verb_is_in_the_help_and_has_its_own() -> None:
    overview = holdfast("--help", COLUMNS="120").out
    code = (
        "from typer.testing import CliRunner; from holdfast.cli import app\n"
        f"for verb in {VERBS!r}:\n"
        "    done = CliRunner().invoke(app, [verb, '--help']); print(verb, done.exit_code, len(done.output))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    for line, verb in zip(done.stdout.splitlines(), VERBS, strict=True):
        name, status, length = line.split()
        assert (name, status) == (verb, "0")
        assert int(length) > 100
        assert verb in overview


def only_document(*words: str | Path, code: int = 0) -> dict[str, Any]:
    """The one JSON document that a command printed on stdout."""
    done = holdfast(*words)
    assert done.code == code, done.err
    assert len(done.out.splitlines()) == 1
    document = json.loads(done.out)
    assert isinstance(document, dict)
    return document


def test_run_prints_one_document_with_what_the_design_promises(small: SmallRun) -> None:
    document = only_document(*small.command("--json"))
    assert document["verdict"] == "keep"
    assert document["exit_code"] == 0
    assert set(document["stages"].values()) == {"skipped"}
    assert {"estimate", "low", "high"} <= set(document["difference"])
    for result in (document["baseline"], document["tuned"], document["deployed"]["Q4_K_M"]):
        assert {"valid_json", "label_accuracy", "n"} <= set(result)
    assert document["items"] == 8
    assert document["p_value"] == pytest.approx(2 * 0.5**8)
    assert set(document["seconds"]) == set(document["stages"])
    assert document["run_dir"] == str(small.folder)
    story = holdfast(*small.command()).out
    assert "the ladder" in story and "nf4 + adapter" in story and "Q4_K_M *" in story


def test_verbs_that_look_at_a_run_print_one_document(small: SmallRun) -> None:
    assert only_document("status", small.folder, "--json")["verdict"] == "keep"
    assert only_document("check", small.folder, "--read-data", "--json")["problems"] == []
    assert only_document("ask", small.folder, "Nobody can log in since noon.", "--json")["stopped"] in (True, False)
    dry = only_document(*small.command("--dry-run", "--json"))
    assert set(dry["stages"].values()) == {"skip: up to date"}


def test_verbs_without_a_run_print_one_document(small: SmallRun) -> None:
    data = small.config.parent
    assert only_document("plan", "-c", small.config, "--json")["fits"] is True
    assert only_document("plan", "--model", "pebble", "--gpu", "8GB", "--json")["fits"] is True
    valid = only_document("validate", data / "train.jsonl", "--contract", data / "contract.yaml", "--json")
    assert (valid["rows"], valid["violations"]) == (40, [])
    assert only_document("config-schema", "--json")["properties"].keys() >= {"name", "train", "decide"}
    done = holdfast("doctor", "--json")
    assert done.code in (0, 1)
    assert json.loads(done.out)["findings"]["python"] is True


def test_a_run_and_its_copy_cannot_be_told_apart(small: SmallRun, copied: SmallRun) -> None:
    document = only_document("compare", small.folder, copied.folder, "--json")
    assert (document["best"], len(document["runs"]), document["pairs"][0]["p_adjusted"]) == (None, 2, 1.0)
    assert only_document("compare", small.folder, copied.folder, "--deployed", "--json")["deployed"] is True
    only_document("compare", small.folder, small.folder, "--json", code=2)


def test_a_plan_that_does_not_fit_is_one_document_and_exit_21(small: SmallRun) -> None:
    document = only_document("plan", "--model", "pebble", "--gpu", "0.5GB", "--json", code=21)
    assert (document["fits"], document["exit_code"]) == (False, 21)
    assert document["problem"]["next"]


def test_a_reader_of_a_pipe_may_go_away(small: SmallRun) -> None:
    command = f"{shlex.join(arguments('config-schema'))} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    assert done.stderr == ""


def test_an_error_is_one_document_too(small: SmallRun) -> None:
    document = only_document("run", "-c", small.config, "--until", "nothing", "--json", code=2)
    assert document["exit_code"] == 2
    assert "no stage 'nothing'" in document["error"]["message"]
    assert "collect" in document["error"]["next"]


def test_a_dry_run_writes_nothing_and_says_why(tmp_path: Path) -> None:
    run = write_small(tmp_path)
    document = only_document(*run.command("--dry-run", "--json"))
    assert document["stages"]["collect"] == "run: not done yet"
    assert not run.folder.exists()


def test_preview_shows_which_tokens_are_trained(copied: SmallRun) -> None:
    command = ["preview", "-c", str(copied.config), "--run-dir", str(copied.folder), "-n", "2"]
    rows = only_document(*command, "--json")["rows"]
    assert len(rows) == 2
    first = json.loads((copied.config.parent / "train.jsonl").read_text().splitlines()[0])
    trained = "".join(p for p, learns in zip(rows[0]["tokens"], rows[0]["trained"], strict=True) if learns)
    assert trained == first["output"] + "<|im_end|>"
    assert first["input"] in "".join(rows[0]["tokens"])
    text = holdfast(*command)
    assert text.code == 0
    assert "tokens are trained" in text.err
    assert f"{sum(rows[0]['trained'])} of {len(rows[0]['tokens'])}" in text.out


def test_init_writes_a_start_that_a_dry_run_accepts_and_never_overwrites(tmp_path: Path) -> None:
    files = only_document("init", tmp_path / "mine", "--json")["files"]
    assert "holdfast.yaml" in files
    config = tmp_path / "mine" / "holdfast.yaml"
    stages = only_document("run", "-c", config, "--run-dir", tmp_path / "run", "--dry-run", "--json")["stages"]
    assert stages["collect"].startswith("run")
    before = config.read_text()
    done = holdfast("init", tmp_path / "mine")
    assert done.code == 2
    assert "already has" in done.err
    assert config.read_text() == before


def as_messages(row: dict[str, Any]) -> dict[str, Any]:
    user = f"{row['instruction']}\n\n{row['input']}"
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": row["output"]}]}


def as_expected(row: dict[str, Any]) -> dict[str, Any]:
    return {"instruction": row["instruction"], "input": row["input"], "expected": row["output"], "domain": "x"}


@pytest.mark.parametrize("runtime", ["transformers", "gguf"])
def test_eval_takes_every_kind_of_row_and_scores_them_alike(runtime: str, small: SmallRun, tmp_path: Path) -> None:
    rows = ticket_rows("test.jsonl", 2, skip=5)
    assert rows[0]["instruction"] == INSTRUCTION
    kinds = {"output": rows, "expected": [as_expected(r) for r in rows], "messages": [as_messages(r) for r in rows]}
    if runtime == "gguf":
        kinds.pop("output")
    found = []
    for kind, data in kinds.items():
        path = write_jsonl(tmp_path / f"{kind}.jsonl", data)
        document = only_document("eval", small.folder, "--data", path, "--runtime", runtime, "--json")
        assert (document["items"], document["runtime"]) == (8, runtime)
        assert document["tuned"]["valid_json"] == 1.0
        assert document["baseline"]["valid_json"] == 0.0
        found.append([(sample["prompt"], sample["expected"], sample["tuned"]) for sample in document["samples"]])
    assert all(one == found[0] for one in found)


def test_eval_refuses_items_that_cannot_be_scored(small: SmallRun, tmp_path: Path) -> None:
    row = ticket_rows("test.jsonl", 1)[0] | {"output": '{"priority":"urgent"}'}
    done = holdfast("eval", small.folder, "--data", write_jsonl(tmp_path / "odd.jsonl", [row]))
    assert done.code == 20, done.err
    assert "odd.jsonl:1" in done.err
    assert "urgent" in done.err
    assert holdfast("eval", small.folder, "--data", tmp_path / "none.jsonl").code == 2
    assert holdfast("eval", small.folder, "--data", tmp_path / "odd.jsonl", "--runtime", "vllm").code == 2


def test_the_version_is_printed() -> None:
    assert holdfast("--version").out.startswith("holdfast ")
    assert (ROOT / "pyproject.toml").is_file()
