"""Bad input, each with its exit code, a message that says what, where and what next, and nothing half-written."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.core.errors import EXIT_BUG
from small_run import (
    Finished,
    SmallRun,
    copy_pebble,
    holdfast,
    leftovers,
    start,
    stop,
    ticket_rows,
    wait_for,
    write_jsonl,
    write_small,
)


@pytest.fixture
def fresh(tmp_path: Path) -> SmallRun:
    """Data and configuration; nothing is run yet."""
    return write_small(tmp_path / "data")


def refuse(run: SmallRun, code: int, *words: str, command: list[str] | None = None) -> Finished:
    """Run it: this exit code, all these words in the message, something to do next, nothing half-written."""
    done = holdfast(*(command or run.command()))
    assert done.code == code, f"exit {done.code}: {done.err}"
    assert code != EXIT_BUG
    missing = [word for word in words if word not in done.err]
    assert not missing, f"{missing} not in: {done.err}"
    assert "  next: " in done.err
    assert "Traceback" not in done.err
    assert leftovers(run.folder) == []
    return done


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_missing_model_folder_is_named(fresh: SmallRun) -> None:
    edit(fresh.config, "base_model: pebble", "base_model: ./no-such-model")
    refuse(fresh, 1, str(fresh.config.parent / "no-such-model"), "neither a folder", "nothing is downloaded", "fetch")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "*.safetensors"])
def test_an_incomplete_model_folder_says_what_is_missing(missing: str, fresh: SmallRun, tmp_path: Path) -> None:
    model = copy_pebble(tmp_path / "model")
    for path in model.glob(missing):
        path.unlink()
    edit(fresh.config, "base_model: pebble", f"base_model: {model}")
    refuse(fresh, 1, str(model), f"no {missing}")


@pytest.mark.parametrize(
    ("file", "kept", "message"),
    [("tokenizer.json", 5000, "tokenizer in"), ("model-00001-of-00002.safetensors", 5000, "is not whole")],
)
def test_a_half_copied_model_file_is_named(file: str, kept: int, message: str, fresh: SmallRun, tmp_path: Path) -> None:
    model = copy_pebble(tmp_path / "model")
    (model / file).write_bytes((model / file).read_bytes()[:kept])
    edit(fresh.config, "base_model: pebble", f"base_model: {model}")
    refuse(fresh, 1, str(model), message, "holdfast fetch")


def test_a_model_without_chat_template_is_refused(fresh: SmallRun, tmp_path: Path) -> None:
    model = copy_pebble(tmp_path / "model")
    (model / "chat_template.jinja").unlink()
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    edit(fresh.config, "base_model: pebble", f"base_model: {model}")
    refuse(fresh, 1, str(model), "no chat template", "chat_template.jinja")


def test_a_broken_line_17_is_named_with_its_file_and_line(fresh: SmallRun) -> None:
    data = fresh.config.parent / "train.jsonl"
    lines = data.read_text().splitlines()
    lines[16] = lines[16][:-2]
    data.write_text("\n".join(lines) + "\n")
    refuse(fresh, 20, "train.jsonl:17: json: not JSON", "1 of 56 rows", "holdfast validate")
    assert not list(fresh.folder.rglob("examples.jsonl"))


def test_a_row_without_an_assistant_turn_is_named(fresh: SmallRun) -> None:
    data = fresh.config.parent / "train.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]}
        for row in ticket_rows("train.jsonl", 10)
    ]
    rows[4]["messages"].pop()
    write_jsonl(data, rows)
    refuse(fresh, 20, "train.jsonl:5: no_answer: there is no assistant turn", "1 of ")


def test_an_unknown_key_gets_a_suggestion(fresh: SmallRun) -> None:
    edit(fresh.config, "  learning_rate:", "  learning_rat:")
    line = fresh.config.read_text().splitlines().index("  learning_rat: 1e-2") + 1
    refuse(fresh, 2, f"{fresh.config}:{line}: unknown key 'train.learning_rat', did you mean 'learning_rate'?")
    assert not fresh.folder.exists()


def test_a_number_where_a_list_belongs_is_named_with_all_other_errors(fresh: SmallRun) -> None:
    fresh.config.write_text(fresh.config.read_text() + "export: {quantizations: 4}\nsede: 1\n")
    end = len(fresh.config.read_text().splitlines())
    refuse(fresh, 2, "2 errors", f"{fresh.config}:{end - 1}: export.quantizations", "found 4 (int)",
           f"{fresh.config}:{end}: unknown key 'sede', did you mean 'seed'?", "config-schema")  # fmt: skip
    assert not fresh.folder.exists()


def test_a_number_for_the_sources_is_an_error_of_the_file(fresh: SmallRun) -> None:
    fresh.config.write_text("name: small\ncollect:\n  sources: 3\n")
    refuse(fresh, 2, f"{fresh.config}:3: collect.sources", "found 3 (int)")


def test_a_test_split_that_overlaps_training_is_refused(fresh: SmallRun) -> None:
    test = fresh.config.parent / "test.jsonl"
    row = json.loads((fresh.config.parent / "train.jsonl").read_text().splitlines()[6])
    row["input"] += " Thanks."
    write_jsonl(test, [*ticket_rows("test.jsonl", 2), row])
    refuse(fresh, 20, "test.jsonl:9", "train.jsonl:7", "0.6")
    assert not list(fresh.folder.rglob("train.jsonl"))


def test_a_target_module_that_does_not_exist_is_refused_with_those_that_do(fresh: SmallRun) -> None:
    refuse(fresh, 2, "train.lora_target_modules names q_prj; a qwen2 model has q_proj, k_proj, v_proj",
           command=fresh.command("--set", "train.lora_target_modules=[q_prj]"))  # fmt: skip


def test_an_unknown_stage_lists_the_stages(fresh: SmallRun) -> None:
    for option in ("--until", "--from"):
        refuse(fresh, 2, "no stage 'trian'", "collect, prepare", command=fresh.command(option, "trian"))
    assert not (fresh.folder / "journal.jsonl").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for verb in (["status"], ["check"], ["serve"], ["ask"], ["eval"]):
        more = {"ask": ["text"], "eval": ["--data", "x.jsonl"]}.get(verb[0], [])
        done = holdfast(*verb, tmp_path, *more)
        assert done.code == 2, done.err
        assert "is not a run folder" in done.err
        assert "next:" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_base_model_that_changed_after_the_run_is_named_by_check_and_eval(small: SmallRun, tmp_path: Path) -> None:
    run, base = small.copy(tmp_path), copy_pebble(tmp_path / "base")
    edit(run.folder / "run.yaml", str(small.base), str(base))
    assert holdfast("check", run.folder).code == 0
    weights = sorted(base.glob("*.safetensors"))[0]
    flip(weights)
    data = run.config.parent / "test.jsonl"
    for command in (["check", str(run.folder)], ["eval", str(run.folder), "--data", str(data)]):
        done = holdfast(*command)
        assert done.code == 22, done.err
        assert f"{weights}: base model file changed" in done.err
        assert "next:" in done.err


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_taken_port_is_named(small: SmallRun) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = holdfast("serve", small.folder, "--port", str(port))
    assert done.code == 1, done.err
    assert f"port {port}" in done.err
    assert "in use" in done.err
    assert "--port 0" in done.err
    assert done.out == ""


def test_what_was_not_kept_is_neither_served_nor_asked(small: SmallRun, tmp_path: Path) -> None:
    run = small.copy(tmp_path)
    done = holdfast(*run.command("--set", "decide.minimum_score=1", "--set", "decide.primary=label_accuracy"))
    assert done.code in (10, 11, 12), done.err
    verdict = run.verdict()
    for command in (["serve", str(run.folder), "--port", "0"], ["ask", str(run.folder), "Nobody can log in."]):
        done = holdfast(*command)
        assert done.code == 2, done.err
        assert f"its verdict is {verdict!r}" in done.err
        assert "decision.md" in done.err
        assert "next:" in done.err


def test_a_run_folder_in_use_is_not_touched_by_a_second_process(fresh: SmallRun) -> None:
    process = start(*fresh.command("--until", "baseline"))
    try:
        assert wait_for((fresh.folder / "01-collect" / "manifest.json").exists, process)
        done = holdfast(*fresh.command())
        assert done.code == 24, done.err
        assert f"in use by process {process.pid}" in done.err
    finally:
        stop(process, signal.SIGKILL)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip() if done else 'no mount command'}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_while_training_says_so_and_the_same_command_finishes_after_room_is_made(
    small: SmallRun, small_disk: Path
) -> None:
    ignore = shutil.ignore_patterns("05-*", "06-*", "07-*", "08-*", "09-*")
    run = SmallRun(small.config, small_disk / "run", small.base)
    shutil.copytree(small.folder, run.folder, ignore=ignore)
    command = ["train", "-c", str(run.config), "--run-dir", str(run.folder)]
    done = holdfast(*command)
    assert done.code == 1, done.err
    assert "the disk is full" in done.err
    assert f"MiB left in {run.folder}" in done.err
    assert "next: free space" in done.err
    assert not (run.folder / "05-train" / "manifest.json").exists()
    assert not (run.folder / "05-train" / "adapter").exists()
    assert not list(run.folder.rglob(".tmp-*"))
    assert all((path / "complete.json").exists() for path in run.folder.rglob("checkpoint-*"))
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    done = holdfast(*command)
    assert done.code == 0, done.err
    assert run.adapter_digest() == small.adapter_digest()
    assert holdfast("check", run.folder).code == 0
