"""stdout holds the result and nothing else."""

import json

import pytest

from holdfast.core.console import Console

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("as_json", [False, True])
def test_only_the_result_reaches_stdout(as_json: bool, capsys: Captured) -> None:
    console = Console(as_json=as_json)
    console.say("working")
    console.warn("beware")
    with console.progress("training", 3) as bar:
        bar.advance()
        bar.advance(2, note="loss 0.1")
    assert capsys.readouterr().out == ""
    console.result({"a": "é", "b": 1}, "the answer")
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {"a": "é", "b": 1} if as_json else out == "the answer\n"
    assert out.count("\n") == 1


def test_progress_and_warnings_go_to_stderr(capsys: Captured) -> None:
    console = Console()
    console.say("1/9 collect: [bold]not markup[/bold]")
    console.warn("[x]")
    assert capsys.readouterr().err == "1/9 collect: [bold]not markup[/bold]\nwarning: [x]\n"


def test_quiet_keeps_warnings_and_drops_progress(capsys: Captured) -> None:
    console = Console(quiet=True)
    console.say("working")
    console.warn("beware")
    assert capsys.readouterr().err == "warning: beware\n"


def test_without_a_terminal_a_bar_is_a_line_every_ten_seconds(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Console().progress("training", 100) as bar:
        for _ in range(100):
            now += 0.25
            bar.advance(note="loss 1")
    said = capsys.readouterr().err
    assert said == "  training loss 1 41/100 (15 s left)\n  training loss 1 82/100 (4 s left)\n"


def test_what_was_done_before_counts_as_done_but_not_for_the_time_that_is_left(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Console().progress("training", 100, "row") as bar:
        bar.skip(70)
        now = 20.0
        bar.advance(10)
    assert capsys.readouterr().err == "  training 80/100 (0.5 row/s, 40 s left)\n"


def test_a_json_result_can_be_printed_whatever_a_file_is_called(capsys: Captured) -> None:
    Console(as_json=True).result({"run_dir": "/x/\udcff"}, "")
    out = capsys.readouterr().out
    assert out.isascii() and json.loads(out)["run_dir"] == "/x/\udcff"
