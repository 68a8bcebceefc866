"""Stage `verify`, `serve` and `ask` with the bundled base model as if it were a merged one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finished_stage import finish_stage
from holdfast import models
from holdfast.core.config import CollectConfig, EvaluateConfig, RunConfig, Source, VerifyConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import IntegrityError, RefusedRequestError, ServerError, StageError, UsageError
from holdfast.core.records import Example, Message, read_jsonl
from holdfast.core.rundir import RunDir
from holdfast.evaluate import verify
from holdfast.evaluate.awkward import awkward_rows
from holdfast.evaluate.parity import NORMALISATION, Sides, check_parity, check_stop
from holdfast.evaluate.runtimes import answer_with_server, answer_with_transformers
from holdfast.evaluate.scorers import score_sample
from holdfast.evaluate.tasks import Task
from holdfast.export.gguf import convert_to_gguf
from holdfast.export.quantize import quantize_gguf
from holdfast.runtime import LlamaServer, start_server
from holdfast.serve.launch import ask, checked_model, prompt_messages, serve
from tiny_checkpoint import make_adapter

BOS = "<|endoftext|>"
BASE = models.find_base_model("pebble")
INSTRUCTION = "Classify the support ticket priority and return strict JSON."
TASK = {
    "task": "priority", "instruction": INSTRUCTION, "system_prompt": "You are terse.", "label_field": "priority",
    "labels": ["high", "low"], "required_fields": ["priority", "reason"], "schema": None,
}  # fmt: skip
SERVE = """
import sys
from pathlib import Path
from holdfast.core.console import Console
from holdfast.core.errors import guard
from holdfast.serve.launch import serve
def command():
    serve(Path(sys.argv[1]), host="127.0.0.1", port=0, api_key_file=None, quant=None, console=Console(as_json=True))
    return 0
sys.exit(guard(command))
"""
QUIET = Console(quiet=True)


def example(text: str, number: int) -> Example:
    content = f"{INSTRUCTION}\n\n{text}"
    answer = json.dumps({"priority": "high" if number % 2 else "low", "reason": "because"})
    turns = (("system", "You are terse."), ("user", content), ("assistant", answer))
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    return Example(messages=messages, source=f"tickets.jsonl:{number}", tags={"domain": "disk"})


def run_config(**values: Any) -> RunConfig:
    settings = {"evaluate": EvaluateConfig(max_new_tokens=12), "verify": VerifyConfig(threads=1, parity_rows=10)}
    return RunConfig(name="tiny", collect=CollectConfig(sources=(Source(path="x"),)), **{**settings, **values})


def context_for(run: RunDir, config: RunConfig, test: list[Example]) -> StageContext:
    prepare, evaluate, out = run.stage("prepare"), run.stage("evaluate"), run.stage("verify")
    prepare.write_json("task.json", TASK)
    prepare.write_examples("test.jsonl", test)
    prepare.write_examples("train.jsonl", [example(f"Backup {i} failed.", 100 + i) for i in range(8)])
    shares = {"valid_json": 0.5, "label_accuracy": 0.5, "stopped": 1.0}
    intervals = {name: [0.1, 0.9] for name in shares}
    evaluate.write_json("results.json", {**shares, "n": len(test), "intervals": intervals})
    task = Task.model_validate(TASK)
    evaluate.write_jsonl("samples.jsonl", [score_sample(task, item, "no", stopped=True, tokens=2) for item in test])
    run.stage("plan").write_json("evaluate.json", {"batch_size": 4})
    run.stage("plan").write_json("plan.json", {"evaluation": {"batch_size": 4, "merged": True}})
    inputs = {name: run.stage(name).path for name in ("prepare", "plan", "export", "evaluate", "train")}
    return StageContext(config, out, inputs, QUIET, run)


def copy_base_with_bos(folder: Path, written_by_template: bool) -> Path:
    """The base model with a tokenizer that puts a BOS token first, and a template that may write one, too."""
    shutil.copytree(BASE, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    number = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == BOS)
    first, text = {"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing", "single": [first, text], "pair": [first, text, text],
        "special_tokens": {BOS: {"id": BOS, "ids": [number], "tokens": [BOS]}},
    }  # fmt: skip
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"bos_token": BOS, "add_bos_token": True, "tokenizer_class": "PreTrainedTokenizerFast"}
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(BOS + template if written_by_template else template)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    convert_to_gguf(BASE, folder / "tiny-F16.gguf", name="tiny")
    quantize_gguf(folder / "tiny-F16.gguf", folder / "tiny-Q4_K_M.gguf", "Q4_K_M")
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(BASE, tmp_path_factory.mktemp("adapter") / "adapter", scale=0.01)


@pytest.fixture
def run(tmp_path: Path, exported: Path, adapter: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    folder = run.stage("export").path
    shutil.copytree(BASE, folder / "merged")
    shutil.copytree(adapter, run.stage("train").path / "adapter")
    for file in exported.iterdir():
        shutil.copyfile(file, folder / file.name)
    return run


@pytest.fixture
def decided(run: RunDir) -> Callable[[str], Path]:
    """A finished run with the given verdict."""

    def finished(verdict: str) -> Path:
        run.write_config(run_config())
        run.stage("prepare").write_json("task.json", TASK)
        run.stage("verify").write_json("ladder.json", {"rungs": []})
        run.stage("decide").write_json("decision.json", {"verdict": verdict})
        finish_stage(run.stage("prepare").path, "prepare", {})
        measured = finish_stage(
            run.stage("verify").path, "verify", finish_stage(run.stage("export").path, "export", {})
        )
        finish_stage(run.stage("decide").path, "decide", measured)
        return run.path

    return finished


def test_every_rung_is_scored_and_the_samples_are_the_same_twice(run: RunDir) -> None:
    test = [example(f"The disk of host db-{i} is {90 + i} % full. 日本語 🚀", i) for i in range(6)]
    context = context_for(run, run_config(), test)
    verify.run(context)
    folder = run.stage("verify").path
    ladder, parity = (json.loads((folder / name).read_text()) for name in ("ladder.json", "parity.json"))
    assert [rung["rung"] for rung in ladder["rungs"]] == ["F16", "Q4_K_M"]
    assert ladder["deploy"] == "Q4_K_M"
    for rung in ladder["rungs"]:
        assert rung["size_bytes"] == (run.stage("export").path / rung["file"]).stat().st_size
        assert rung["n"] == 6
        assert rung["tokens_per_second"] > 0
        assert 0 <= rung["valid_json"] <= 1
    assert (parity["rows"], parity["identical"], parity["differences"]) == (10, 10, [])
    assert parity["bos_ok"] and parity["stop_ok"]
    assert parity["end_tokens"] == ["<|im_end|>"]
    assert parity["files"] == ["tiny-F16.gguf", "tiny-Q4_K_M.gguf"]
    assert [rung["rung"] for rung in ladder["before"]] == ["adapter", "merged"]
    steps = [(step["step"], step.get("above"), step.get("below")) for step in ladder["losses"]]
    assert steps == [
        ("template", None, None), ("merge", "adapter", "merged"), ("conversion", "merged", "F16"),
        ("quantisation", "F16", "Q4_K_M"),
    ]  # fmt: skip
    kl = {step["step"]: step["kl"] for step in ladder["losses"][1:]}
    assert kl["conversion"] < 1e-3 < kl["quantisation"] < kl["merge"]
    for rung in ladder["rungs"]:
        assert rung["peak_memory_bytes"] > rung["size_bytes"] / 2
        assert rung["prompt_tokens_per_second"] > 0
        assert rung["intervals"]["label_accuracy"][0] <= rung["label_accuracy"]
    assert ladder["structured"]["structured"]["n"] == 6
    assert ladder["structured"]["schema"]["properties"]["priority"] == {"enum": ["high", "low"]}
    first = {file.name: file.read_bytes() for file in folder.glob("samples-*.jsonl")}
    verify.run(context)
    assert {file.name: file.read_bytes() for file in folder.glob("samples-*.jsonl")} == first
    assert len(list(read_jsonl(folder / "samples-Q4_K_M.jsonl"))) == 6


def test_a_merged_model_without_room_is_left_out_and_its_step_joins_the_next(run: RunDir) -> None:
    context = context_for(run, run_config(), [example("The disk of host db-1 is 91 % full.", 1)])
    run.stage("plan").write_json("plan.json", {"evaluation": {"batch_size": 1, "merged": False}})
    verify.run(context)
    folder = run.stage("verify").path
    ladder = json.loads((folder / "ladder.json").read_text())
    assert [rung["rung"] for rung in ladder["before"]] == ["adapter"]
    steps = [(step["step"], step.get("above"), step.get("below")) for step in ladder["losses"][1:]]
    assert steps == [("merge and conversion", "adapter", "F16"), ("quantisation", "F16", "Q4_K_M")]
    assert not (folder / "samples-merged.jsonl").exists()


@pytest.mark.parametrize("refusal", [RefusedRequestError, ServerError])
def test_a_model_whose_answers_no_grammar_can_hold_is_verified_without(
    refusal: type[ServerError], run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """llama.cpp answers 400 for SentencePiece models whose prompt ends in plain text (Zephyr's). One that dies is no
    such case."""
    chat = LlamaServer.chat

    def refusing(self: LlamaServer, *given: Any, **named: Any) -> Any:
        if named.get("json_schema"):
            raise refusal("the server answered 400: Failed to initialize samplers")
        return chat(self, *given, **named)

    monkeypatch.setattr(LlamaServer, "chat", refusing)
    context = context_for(run, run_config(), [example(f"The disk of db-{i} is full", i) for i in range(3)])
    if refusal is ServerError:
        with pytest.raises(ServerError, match="Failed to initialize"):
            verify.run(context)
        return
    verify.run(context)
    assert json.loads((run.stage("verify").path / "ladder.json").read_text())["structured"] is None
    shown = capsys.readouterr()
    assert "clients must not send response_format" in shown.out + shown.err


def test_awkward_rows_differ_only_for_reasons_that_are_told(exported: Path) -> None:
    tokenizer = models.load_tokenizer(BASE)
    with start_server(exported / "tiny-F16.gguf", threads=1) as server:
        awkward = check_parity(tokenizer, server, [example("x", 1)])["awkward"]
    known = {row["row"]: row["reason"] for row in awkward["known_differences"]}
    assert known == {"accents (NFD)": NORMALISATION}
    assert awkward["rows"] == len(awkward_rows(tokenizer.all_special_tokens)) >= 29
    assert awkward["identical"] == awkward["rows"] - 1


def test_a_real_row_that_differs_stops_the_stage_and_the_difference_is_written(run: RunDir) -> None:
    context = context_for(run, run_config(), [example("x", 1), example("he\u0301llo", 7)])
    with pytest.raises(IntegrityError, match=r"1 of 10 rows differ(?s:.*)tickets\.jsonl:7: from token \d+") as error:
        verify.run(context)
    assert NORMALISATION in error.value.message
    assert "NFC" in error.value.hint
    assert [path.name for path in run.stage("verify").path.iterdir()] == ["parity.json"]
    report = json.loads((run.stage("verify").path / "parity.json").read_text())
    assert (report["rows"], report["identical"]) == (10, 9)
    difference = report["differences"][0]
    assert difference["row"] == "tickets.jsonl:7"
    assert difference["trained_ids"] != difference["served_ids"]


def test_another_chat_template_in_the_file_is_found(exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(BASE, tmp_path / "base")
    template = (BASE / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").write_text(template.replace("assistant\\n", "assistant\\n "))
    with (
        start_server(exported / "tiny-F16.gguf", threads=1) as server,
        pytest.raises(IntegrityError, match="1 of 1 rows differ"),
    ):
        check_parity(models.load_tokenizer(copy), server, [example("x", 1)])


def test_an_end_token_that_does_not_stop_the_server_is_found(tmp_path: Path) -> None:
    base = shutil.copytree(BASE, tmp_path / "base")
    for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
        text = (base / name).read_text().replace("<|im_end|>", "<|done|>")
        (base / name).write_text(text.replace('"eos_token": "<|done|>"', '"eos_token": "<|endoftext|>"'))
    convert_to_gguf(base, tmp_path / "wrong.gguf", name="wrong")
    sides = Sides(models.load_tokenizer(base), start_server(tmp_path / "wrong.gguf", threads=1))
    wanted = r"end token of training, '<\|done\|>'.*does not end generation"
    with sides.server, pytest.raises(IntegrityError, match=wanted):
        check_stop(sides, example("x", 1).prompt)


@pytest.mark.parametrize("written_by_template", [True, False])
def test_a_bos_token_comes_exactly_once(tmp_path: Path, written_by_template: bool) -> None:
    base = copy_base_with_bos(tmp_path / "base", written_by_template)
    convert_to_gguf(base, tmp_path / "bos.gguf", name="bos")
    tokenizer = models.load_tokenizer(base)
    with start_server(tmp_path / "bos.gguf", threads=1) as server:
        assert check_parity(tokenizer, server, [example("x", 1)])["bos"] == BOS


def test_a_prompt_that_does_not_fit_the_context_is_refused_with_numbers(run: RunDir) -> None:
    config = run_config(verify=VerifyConfig(threads=1, n_ctx=64))
    context = context_for(run, config, [example("disk " * 100, 1)])
    with pytest.raises(StageError, match=r"the longest test prompt has \d+ tokens .* verify\.n_ctx is 64") as error:
        verify.run(context)
    assert "--set verify.n_ctx=" in error.value.hint


def test_a_missing_quantisation_is_named(run: RunDir) -> None:
    (run.stage("export").path / "tiny-Q4_K_M.gguf").unlink()
    with pytest.raises(ServerError, match=r"tiny-Q4_K_M\.gguf cannot be read"):
        verify.run(context_for(run, run_config(), [example("x", 1)]))


def test_both_runtimes_give_the_same_answers(exported: Path) -> None:
    examples = [example(f"Printer {i} is on fire.", i) for i in range(4)]
    config = EvaluateConfig(max_new_tokens=8)
    served = answer_with_server(exported / "tiny-F16.gguf", examples, config, QUIET, threads=1)
    trained = answer_with_transformers(BASE, None, "none", examples, config, QUIET)
    assert [r.prompt_tokens for r in served] == [r.prompt_tokens for r in trained]
    # Near-ties may flip between the two programs even at 16 bits, so one answer may differ.
    same = [(a, b) for a, b in zip(served, trained, strict=True) if a.text == b.text]
    assert len(same) >= 3
    assert [(a.tokens, a.stopped) for a, _ in same] == [(b.tokens, b.stopped) for _, b in same]


def test_rows_for_parity_come_evenly_from_both_splits() -> None:
    test, train = ([example("x", base + i) for i in range(10)] for base in (0, 100))
    assert [e.source[14:] for e in verify.choose_rows(test, train, 4)] == ["0", "5", "100", "105"]
    assert len(verify.choose_rows(test, train[:1], 8)) == 8
    assert len(verify.choose_rows(test[:1], train, 100)) == 11


def test_ask_puts_the_question_as_training_did(decided: Callable[[str], Path]) -> None:
    path = decided("keep")
    messages = prompt_messages(RunDir(path), "The disk is full.")
    assert messages == list(example("The disk is full.", 1).prompt)
    assert prompt_messages(RunDir(path), messages[1].content) == messages
    reply = ask(path, "The disk is full.", quant=None, console=QUIET)
    assert reply.tokens > 0
    assert reply.text == ask(path, "The disk is full.", quant=None, console=QUIET).text


@pytest.mark.parametrize("verdict", ["iterate", "discard", "undecidable"])
def test_only_a_kept_model_is_served(decided: Callable[[str], Path], verdict: str) -> None:
    with pytest.raises(UsageError, match=f"verdict is '{verdict}'.*no flag to override"):
        ask(decided(verdict), "x", quant=None, console=QUIET)


def test_a_verdict_changed_by_hand_is_refused(decided: Callable[[str], Path]) -> None:
    path = decided("discard")
    RunDir(path).stage("decide").write_json("decision.json", {"verdict": "keep"})
    with pytest.raises(IntegrityError, match=r"decision\.json is not what the stage wrote"):
        ask(path, "x", quant=None, console=QUIET)


def test_one_flipped_bit_is_refused(decided: Callable[[str], Path]) -> None:
    path = decided("keep")
    file = RunDir(path).stage("export").path / "tiny-Q4_K_M.gguf"
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))
    with pytest.raises(IntegrityError, match="is not the file that was measured") as error:
        ask(path, "x", quant=None, console=QUIET)
    assert error.value.exit_code == 22


def test_a_file_exported_again_after_the_measurement_is_refused(decided: Callable[[str], Path]) -> None:
    path = decided("keep")
    run = RunDir(path)
    shutil.copyfile(run.stage("export").path / "tiny-F16.gguf", run.stage("export").path / "tiny-Q4_K_M.gguf")
    finish_stage(run.stage("export").path, "export", {})
    with pytest.raises(IntegrityError, match="exported again after it was measured"):
        ask(path, "x", quant=None, console=QUIET)


def test_a_run_whose_evidence_is_gone_is_refused(decided: Callable[[str], Path]) -> None:
    path = decided("keep")
    (RunDir(path).stage("verify").path / "ladder.json").unlink()
    with pytest.raises(IntegrityError, match=r"ladder\.json is gone, from which .* was decided"):
        ask(path, "x", quant=None, console=QUIET)


def test_the_file_that_was_hashed_is_the_file_that_is_served(decided: Callable[[str], Path]) -> None:
    run = RunDir(decided("keep"))
    with checked_model(run, run_config(), None) as model:
        evil = model.path.with_suffix(".evil")
        evil.write_bytes(b"GGUF nonsense")
        evil.replace(model.path)
        with start_server(model.path, descriptor=model.descriptor, threads=1) as server:
            assert server.chat(example("x", 1).prompt, 2).tokens > 0


def test_a_quantisation_that_was_not_made_is_named(decided: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match=r"no tiny-Q8_0\.gguf; it has: tiny-F16\.gguf, tiny-Q4_K_M\.gguf"):
        ask(decided("keep"), "x", quant="Q8_0", console=QUIET)


def test_other_machines_are_let_in_only_with_a_key(decided: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0"):
        serve(decided("keep"), host="0.0.0.0", port=0, api_key_file=None, quant=None, console=QUIET)
    (tmp_path / "key").write_text("\n")
    with pytest.raises(UsageError, match="must hold one key"):
        serve(tmp_path, host="0.0.0.0", port=0, api_key_file=tmp_path / "key", quant=None, console=QUIET)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_until_it_is_told_to_stop(decided: Callable[[str], Path], how: signal.Signals) -> None:
    path = decided("keep")
    source = str(Path(verify.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": f"{source}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", SERVE, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        document = json.loads(process.stdout.readline())
        body = json.dumps({"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}).encode()
        route = document["url"] + "/v1/chat/completions"
        with urllib.request.urlopen(route, body, timeout=30) as response:
            assert json.load(response)["model"] == "tiny"
        with urllib.request.urlopen(document["url"] + "/metrics", timeout=30) as response:
            assert b"llamacpp:tokens_predicted_total 2" in response.read()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(route, body.replace(b'"x"', b'"' + b"x " * 9999 + b'"'), timeout=30)
        time.sleep(0.1)
        process.send_signal(how)
        assert process.wait(timeout=10) == 0
        log = process.stderr.read()
        assert re.search("warning: llama.cpp: E srv .*exceeds the available context size", log)
        assert log.endswith("stopped\n") and "x x" not in log
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(document["url"] + "/health", timeout=5)
