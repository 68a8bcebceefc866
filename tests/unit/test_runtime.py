"""The llama.cpp server as a child process, with a tiny random model written without torch."""

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from holdfast import llama_child
from holdfast.core.errors import ServerError
from holdfast.core.records import Message
from holdfast.llama_log import KEPT_LINES, LINE_BYTES, SHOWN_LINES, SHOWN_SECONDS, ServerLog
from holdfast.runtime import LlamaServer, start_server

HIDDEN, LAYERS, FEED_FORWARD, HEADS, CONTEXT = 64, 2, 128, 4, 512
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SOURCE = str(Path(llama_child.__file__).parents[1])
START_AND_SLEEP = """
import sys, threading, time
from pathlib import Path
from holdfast.runtime import start_server
def start():
    print(start_server(Path(sys.argv[1])).process.pid, flush=True)
    time.sleep(600)
threading.Thread(target=start).start() if sys.argv[2] == "thread" else start()
"""
LLAMA_SERVER = """#!{python}
# Stands in for llama.cpp's binary: writes down how it was called, then serves the same API.
import json, os, signal, sys, xllamacpp
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
environment = {{k: v for k, v in os.environ.items() if k.startswith("LLAMA_")}}
open({record!r}, "w").write(json.dumps([sys.argv, environment]))
params = xllamacpp.CommonParams()
params.model.path = arguments["--model"]
params.port = int(arguments["--port"])
params.n_ctx = int(arguments["--ctx-size"])
params.api_keys = [os.environ["LLAMA_API_KEY"]] if "LLAMA_API_KEY" in os.environ else []
server = xllamacpp.Server(params)
signal.pause()
"""


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def write_tiny_gguf(path: Path) -> None:
    """A random llama model with one token for each byte, written with the gguf package alone."""
    alphabet = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in alphabet]
    bytes_as_text = [chr(b) for b in alphabet] + [chr(256 + i) for i in range(len(others))]
    tokens = [*bytes_as_text, *SPECIAL]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(int(gguf.LlamaFileType.ALL_F32))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(bytes_as_text) + [3] * len(SPECIAL))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), HIDDEN), "output": (len(tokens), HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.attn_{name}": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.ffn_{name}": (FEED_FORWARD, HIDDEN) for name in ("gate", "up")}
        shapes[f"blk.{layer}.ffn_down"] = (HIDDEN, FEED_FORWARD)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(HIDDEN, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.2, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture(scope="module")
def server(tiny: Path) -> Iterator[LlamaServer]:
    with start_server(tiny, parallel=1, n_ctx=CONTEXT, threads=1) as running:
        yield running


def write_llama_server(folder: Path) -> Path:
    binary = folder / "bin" / "llama-server"
    binary.parent.mkdir()
    binary.write_text(LLAMA_SERVER.format(python=sys.executable, record=str(folder / "record.json")))
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    return binary


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def test_answers_are_the_same_when_asked_twice(server: LlamaServer) -> None:
    questions = [user(f"question {i}") for i in range(8)]
    first = [reply.text for reply in server.chat_many(questions, 32)]
    second = [reply.text for reply in server.chat_many(questions[::-1], 32)][::-1]
    assert first == second
    assert len(set(first)) > 1


def test_a_reply_says_how_it_ended_and_how_long_it_was(server: LlamaServer) -> None:
    reply = server.chat(user("hello"), 5)
    assert (reply.tokens, reply.stopped) == (5, False)
    assert reply.prompt_tokens == len(server.tokenize(server.render(user("hello")), parse_special=True))
    assert 0 < reply.first_token_seconds < reply.seconds
    end = 256 + SPECIAL.index("<|im_end|>")
    ended = server.chat(user("hello"), 5, logit_bias={end: 1000.0})
    assert (ended.text, ended.stopped) == ("", True)


def test_the_template_of_the_file_renders_the_prompt(server: LlamaServer) -> None:
    messages = [Message(role="system", content="s"), *user(" ü\n")]
    expected = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n ü\n<|im_end|>\n<|im_start|>assistant\n"
    assert server.render(messages) == expected


def test_special_tokens_are_parsed_only_when_asked(server: LlamaServer) -> None:
    assert server.tokenize("<|im_end|>", parse_special=True) == [258]
    assert len(server.tokenize("<|im_end|>", parse_special=False)) == len("<|im_end|>")


def test_a_json_schema_is_enforced(server: LlamaServer) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    reply = server.chat(user("hello"), 60, json_schema=schema)
    assert json.loads(reply.text)["a"] in ("x", "y")


def test_progress_is_reported_for_each_answer(server: LlamaServer) -> None:
    done: list[int] = []
    server.chat_many([user(str(i)) for i in range(3)], 2, done.append)
    assert done == [1, 1, 1]


def test_a_prompt_that_is_too_long_is_an_error_with_numbers(server: LlamaServer) -> None:
    with pytest.raises(ServerError, match=r"400.*tokens\) exceeds the available context size") as caught:
        server.chat(user("x" * 2000), 5)
    assert "verify.n_ctx" in caught.value.hint


def test_only_this_machine_can_reach_it_and_no_page_or_slot_is_shown(server: LlamaServer) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    for route in ("/", "/slots"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(server.url + route, timeout=5)


def test_each_of_several_requests_has_the_whole_context(tiny: Path) -> None:
    with start_server(tiny, parallel=4, n_ctx=128, threads=1) as running:
        replies = running.chat_many([user("x" * 60)] * 4, 30)
        assert [reply.tokens for reply in replies] == [30] * 4


def ask_plainly(running: LlamaServer, text: str, **more: object) -> dict[str, Any]:
    """A client's request that says nothing of decoding."""
    body = json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode()
    answer: dict[str, Any] = json.load(urllib.request.urlopen(running.url + "/v1/chat/completions", body, timeout=60))
    return answer


def test_a_long_request_does_not_take_the_context_of_another(tiny: Path) -> None:
    with start_server(tiny, parallel=2, n_ctx=256, threads=1) as running:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask_plainly(running, "x" * 300, max_tokens=1)
        assert refused.value.code == 400
        replies = running.chat_many([user("x" * 100)] * 2, 1000)
        assert all(reply.prompt_tokens + reply.tokens <= 257 for reply in replies)


def test_a_request_that_says_nothing_of_decoding_is_answered_as_the_items_were(tiny: Path) -> None:
    with start_server(tiny, threads=1, answer_tokens=12) as running:
        greedy = running.chat(user("hello"), 12)
        for _ in range(3):
            answer = ask_plainly(running, "hello")
            assert answer["choices"][0]["message"]["content"] == greedy.text
            assert answer["usage"]["completion_tokens"] == 12
        assert ask_plainly(running, "hello", max_tokens=20)["usage"]["completion_tokens"] == 20


def test_the_environments_proxy_never_sees_a_prompt(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with start_server(tiny, threads=1) as running:
        assert running.chat(user("hello"), 1).tokens == 1


def test_an_api_key_is_required_and_on_no_command_line(tiny: Path) -> None:
    with start_server(tiny, threads=1, api_key="s3cret") as running:
        assert running.chat(user("hello"), 1).tokens == 1
        body = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(running.url + "/v1/chat/completions", body, timeout=5)
        assert refused.value.code == 401
        process = Path(f"/proc/{running.process.pid}")
        assert b"s3cret" not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()


def test_the_child_ends_with_the_block(tiny: Path) -> None:
    with start_server(tiny, threads=1) as running:
        process = running.process
    assert process.returncode is not None
    running.close()


@pytest.mark.parametrize("backend", ["xllamacpp", "llama-server"])
@pytest.mark.parametrize("started_in", ["main", "thread"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_when_the_parent_is_killed(
    tiny: Path, tmp_path: Path, how: signal.Signals, started_in: str, backend: str
) -> None:
    path = f"{write_llama_server(tmp_path).parent}:" if backend == "llama-server" else ""
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PATH": path + os.environ["PATH"]}
    command = [sys.executable, "-c", START_AND_SLEEP, str(tiny), started_in]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.send_signal(how)
        parent.wait()
    assert within(5, lambda: not is_alive(child))


def test_a_server_outlives_the_thread_that_started_it(tiny: Path) -> None:
    servers: list[LlamaServer] = []
    thread = threading.Thread(target=lambda: servers.append(start_server(tiny, threads=1)))
    thread.start()
    thread.join()
    time.sleep(0.3)
    with servers[0] as running:
        assert running.chat(user("hello"), 1).tokens == 1


def test_a_taken_port_is_named_before_anything_starts(tiny: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port}: Address already in use") as error:
            start_server(tiny, port=port)
    assert "--port 0" in error.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"nothing\.gguf cannot be read: No such file"):
        start_server(tmp_path / "nothing.gguf")


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ServerError, match="is not a GGUF file: it begins with b'hell'"):
        start_server(tmp_path / "text.gguf")


def test_a_truncated_file_is_refused_with_the_servers_words(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    (tmp_path / "half.gguf").write_bytes(data[: len(data) // 2])
    with pytest.raises(ServerError, match=r"half\.gguf cannot be served(?s:.*)not within the file bounds"):
        start_server(tmp_path / "half.gguf")


def test_a_server_that_dies_says_so(tiny: Path) -> None:
    with start_server(tiny, threads=1) as running:
        running.process.kill()
        running.process.wait()
        with pytest.raises(ServerError, match="it ended with signal 9") as caught:
            running.chat(user("hello"), 1)
        assert "dmesg" in caught.value.hint


def test_a_server_that_dies_after_days_shows_the_end_of_its_log(tiny: Path) -> None:
    with start_server(tiny, threads=1) as running:
        for n in range(9000):
            running.child.log.add(f"0.00.0 E an old error {n}\n".encode())
        running.child.log.add(b"7\n")
        running.child.log.add(b"9.99.9 E the last words\n")
        running.process.kill()
        message = running.gone("no answer").message
    assert "| E an old error 0\n" in message and "…" in message
    assert message.endswith("| 7\n  | E the last words") and message.count("\n") == 2 * KEPT_LINES + 1


def test_a_request_that_is_answered_prints_nothing_and_a_refused_one_a_line(tiny: Path) -> None:
    shown: list[str] = []
    with start_server(tiny, threads=1, n_ctx=256, parallel=1) as running:
        running.child.log.show(shown.append)
        running.chat(user("SECRET"), 3)
        with pytest.raises(ServerError):
            running.chat(user("SECRET" * 200), 3)
        assert within(5, lambda: bool(shown))
        with pytest.raises(ServerError):
            running.post("/completion", {"prompt": "x", "grammar": "root ::= \x1b[31m ("})
    assert "exceeds the available context size (256 tokens)" in shown[0]
    assert not [line for line in shown if "SECRET" in line or "\x1b" in line]
    assert any("\\x1b[31m" in line for line in shown)


def test_no_request_makes_the_log_or_what_is_shown_of_it_grow_without_end() -> None:
    now, shown = [0.0], list[str]()
    log = ServerLog(lambda: now[0])
    log.add(b"0.00.1 E while it was loaded\n")
    log.show(shown.append)
    for n in range(9000):
        log.add(f"0.00.2 E error {n}\n".encode())
    assert shown[:2] == ["E while it was loaded", "E error 0"] and len(shown) == SHOWN_LINES
    now[0] = SHOWN_SECONDS
    log.add(b"0.00.3 E later\n")
    assert shown[SHOWN_LINES:] == [f"({9001 - SHOWN_LINES} more lines were not shown)", "E later"]
    assert len(log.lines()) == 2 * KEPT_LINES + 1


def test_a_line_without_end_and_the_noise_of_an_older_server_are_left_out() -> None:
    log, shown = ServerLog(), list[str]()
    log.show(shown.append)
    text = b"x" * 10_000 + b"\n0.00.1 I srv log_server_r: request: POST /v1 200\n0.00.2 D prompt\n\nI am no level\n"
    log.follow(io.BufferedReader(io.BytesIO(text))).join()  # type: ignore[arg-type]
    assert shown == ["x" * LINE_BYTES, "I am no level"]


def test_the_server_goes_on_when_nothing_can_be_written_to_stderr() -> None:
    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    log = ServerLog()
    log.show(full)
    log.add(b"0.00.1 E one\n")
    assert log.lines() == ["E one"]


def test_an_open_descriptor_is_served_when_the_name_is_gone(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny.read_bytes())
    with copy.open("rb") as file:
        copy.unlink()
        with start_server(copy, descriptor=file.fileno(), threads=1) as running:
            assert running.chat(user("hello"), 1).tokens == 1


def test_a_llama_server_on_the_path_is_preferred(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = write_llama_server(tmp_path)
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LLAMA_ARG_TOOLS", "all")
    with start_server(tiny, parallel=2, n_ctx=100, api_key="s3cret", answer_tokens=48) as running:
        assert running.backend == "llama-server"
        assert running.chat(user("hello"), 1).tokens == 1
        child = running.process.pid
    arguments, variables = json.loads((tmp_path / "record.json").read_text())
    assert arguments[arguments.index("--ctx-size") + 1] == "200"
    assert arguments[arguments.index("--temp") + 1] == "0"
    assert arguments[arguments.index("--predict") + 1] == "48"
    assert variables["LLAMA_ARG_KV_UNIFIED"] == "0"
    assert "s3cret" not in arguments
    assert variables["LLAMA_API_KEY"] == "s3cret"
    assert "LLAMA_ARG_TOOLS" not in variables
    assert not is_alive(child)


def test_physical_cores_are_at_most_the_allowed_ones() -> None:
    assert 1 <= llama_child.physical_cores() <= len(os.sched_getaffinity(0))
