"""The judge against a real HTTP server of this machine that plays the model."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from holdfast.core.errors import ContractError, ServerError
from holdfast.core.records import Example, Message
from holdfast.core.scorer_config import ScorerConfig
from holdfast.evaluate.judge import check_judges, judge
from holdfast.evaluate.scorers import score_sample
from holdfast.evaluate.tasks import Task

ITEMS = [
    Example(messages=(Message(role="user", content=f"{n} + 1?"), Message(role="assistant", content=str(n + 1))),
            source=f"t:{n}") for n in range(12)
]  # fmt: skip


def honest(prompt: str) -> str:
    """PASS when the answer is the reference."""
    parts = {name: prompt.split(f"<<<{name}\n")[1].split(f"\n{name}>>>")[0] for name in ("REFERENCE", "ANSWER")}
    return "It says what the reference says.\nPASS" if parts["REFERENCE"] == parts["ANSWER"] else "No.\nFAIL"


@contextmanager
def model(says: Callable[[str], str], status: int = 200) -> Iterator[tuple[ScorerConfig, list[dict[str, Any]]]]:
    """A scorer whose judge answers as `says`, and the requests that it got."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body | {"path": self.path})
            self.send_response(status)
            if status == 302:
                self.send_header("location", "http://192.0.2.1/")
            self.end_headers()
            reply = {"choices": [{"message": {"content": says(body["messages"][0]["content"])}}]}
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        yield ScorerConfig(kind="judge", name="sums", url=url, question="It gives the sum."), asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_was_asked_and_said_stays_beside_the_answer() -> None:
    with model(honest) as (scorer, asked):
        task = Task(task="t", scorers=(scorer,))
        right, wrong = (score_sample(task, ITEMS[1], output, True, 1) for output in ("2", "3"))
    assert (right["scores"]["sums"], wrong["scores"]["sums"]) == (1, 0)
    assert right["judge"]["sums"]["answer"].endswith("PASS")
    assert "1 + 1?" in right["judge"]["sums"]["prompt"] and "It gives the sum." in right["judge"]["sums"]["prompt"]
    assert (asked[0]["temperature"], asked[0]["path"]) == (0, "/v1/chat/completions")


@pytest.mark.parametrize("said", ["", "I would PASS or FAIL it", "PASS\nI mean maybe", "pass", "PASS FAIL"])
def test_only_a_clear_verdict_on_the_last_line_counts(said: str) -> None:
    with model(lambda prompt: said) as (scorer, _):
        assert judge(scorer, "q", "r", "a").passed == 0


def test_a_judge_is_tried_before_it_is_believed() -> None:
    with model(honest) as (scorer, asked):
        check_judges([scorer], ITEMS)
        assert len(asked) == 16
    with model(lambda prompt: "PASS") as (scorer, _), pytest.raises(ContractError, match="0 of 8 answers to other"):
        check_judges([scorer], ITEMS)
    with model(lambda prompt: "FAIL") as (scorer, _), pytest.raises(ContractError, match="0 of 8 reference answers"):
        check_judges([scorer], ITEMS)


def test_a_judge_that_is_not_there_or_sends_elsewhere_is_an_error_that_says_how_to_start_one() -> None:
    with model(honest, status=302) as (scorer, asked):
        with pytest.raises(ServerError, match="answered 302"):
            judge(scorer, "q", "r", "a")
        assert len(asked) == 1
    with pytest.raises(ServerError, match="no usable answer") as caught:
        judge(scorer, "q", "r", "a")
    assert "llama-server" in caught.value.hint
