"""`serve` ends when it is told to, also before it serves."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.errors import IntegrityError, UsageError
from holdfast.core.rundir import RunDir
from holdfast.serve import launch

CONFIG = RunConfig.model_validate({"name": "r", "collect": {"sources": [{"path": "a"}]}})


def test_a_signal_while_the_model_is_loaded_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def model(*_: Any) -> Iterator[launch.CheckedModel]:
        yield launch.CheckedModel(tmp_path / "m.gguf", 0, "sha256:0", tmp_path.stat())

    def load(*_: Any, **named: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("loading went on")

    monkeypatch.setattr(launch, "require_keep", lambda *_: None)
    monkeypatch.setattr(launch, "checked_model", model)
    monkeypatch.setattr(launch, "start_server", load)
    RunDir(tmp_path).write_config(CONFIG)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            launch.serve(tmp_path, host="127.0.0.1", port=0, api_key_file=None, quant=None, console=Console(quiet=True))
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_empty_question_is_not_answered(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no question"):
        launch.ask(tmp_path, " \n", quant=None, console=Console(quiet=True))


@pytest.mark.parametrize("content", [b"", b"two words", b"a,b", b"\xff\xfe\x00", "schl\u00fcssel".encode(), b"a\x07"])
def test_a_file_that_holds_no_key_is_refused(content: bytes, tmp_path: Path) -> None:
    key = tmp_path / "api.key"
    key.write_bytes(content)
    with pytest.raises(UsageError, match="must hold one key"):
        launch.serve(tmp_path, host="127.0.0.1", port=0, api_key_file=key, quant=None, console=Console(quiet=True))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_key_that_others_can_read_is_warned_of(
    mode: int, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "api.key"
    key.write_text("k3y\n")
    key.chmod(mode)
    assert launch._read_key(key, Console()) == "k3y"
    assert ("others than its owner" in capsys.readouterr().err) == warned


def test_a_file_whose_measuring_was_begun_again_is_not_called_another_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    with pytest.raises(IntegrityError, match="stage verify was begun again and is not finished: m.gguf is not meas"):
        launch._require_measured(run, "m.gguf", "sha256:0")


def test_a_question_of_broken_bytes_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8 text"):
        launch.ask(tmp_path, os.fsdecode(b"caf\xe9"), quant=None, console=Console(quiet=True))
