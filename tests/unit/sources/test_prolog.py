"""The Prolog worker: values, limits, and what happens when it is not there, dies, hangs or talks nonsense."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import ContractError, StageError, UsageError
from holdfast.sources import prolog as prolog_module
from holdfast.sources.prolog import DEFAULT_LIMITS, Prolog, PrologString, PrologTerm, check_bytes, start_prolog

KB = """
:- dynamic later/1.
node(pve1).
node("pve2").
node(3).
node(2.5).
node(f('A b', [1])).
pair(X, Y) :- member(X, [a, b]), member(Y, [1, 2]).
text(X, T) :- node(X), atom(X), format(atom(T), 'on ~w: ~a', [X, 'ü €']).
slow(X) :- between(1, inf, N), N < 0, X = N.
is_text(X) :- string(X).
secret(x).
"""
ALLOWED = ["node/1", "pair/2", "text/2", "slow/1", "is_text/1", "later/1"]


@pytest.fixture
def worker() -> Iterator[Prolog]:
    with start_prolog("kb") as started:
        started.load([("kb.pl", KB)], ALLOWED)
        yield started


def test_values_keep_their_kind(worker: Prolog) -> None:
    values = [value for (value,) in worker.ask("node", None)]
    assert values == ["pve1", "pve2", 3, 2.5, "f('A b',[1])"]
    assert [type(v) for v in values] == [str, PrologString, int, float, PrologTerm]


def test_rules_join_and_format(worker: Prolog) -> None:
    assert worker.ask("pair", None, 2) == [("a", 2), ("b", 2)]
    assert worker.ask("text", "pve1", None) == [("pve1", "on pve1: ü €")]
    assert worker.ask("later", None) == []


def test_a_string_goes_back_as_a_string(worker: Prolog) -> None:
    assert worker.ask("is_text", PrologString("x")) == [("x",)]
    assert worker.ask("is_text", "x") == []


@pytest.mark.parametrize("name", ["secret", "member", "shell", "missing"])
def test_only_listed_predicates_can_be_asked(worker: Prolog, name: str) -> None:
    with pytest.raises(ContractError, match=f"{name}/1 may not be asked"):
        worker.ask(name, None)


def test_a_passed_limit_is_an_error_and_the_worker_lives_on(worker: Prolog) -> None:
    with pytest.raises(ContractError, match=r"slow\(_\): more than (5000000 inferences|2 seconds)"):
        worker.ask("slow", None)
    assert worker.ask("pair", "a", 1) == [("a", 1)]


def test_more_answers_than_allowed_are_refused_not_cut() -> None:
    with start_prolog("kb", DEFAULT_LIMITS._replace(rows=3)) as worker:
        worker.load([("kb.pl", KB)], ALLOWED)
        with pytest.raises(ContractError, match="more than 3 rows"):
            worker.ask("pair", None, None)
        assert len(worker.ask("pair", "a", None)) == 2


def test_every_problem_of_every_file_is_named_and_nothing_is_taken() -> None:
    with start_prolog("kb") as worker:
        with pytest.raises(ContractError) as caught:
            worker.load([("a.pl", "a(1).\n:- halt.\n"), ("b.pl", "b(X) :- shell(X).\n\nc :- open(X).\n")], ["a/1"])
        for text in ("3 problems", "a.pl:2: directive", "b.pl:1: goal: shell/1", "b.pl:3: goal: open/1"):
            assert text in caught.value.message
        with pytest.raises(ContractError, match="may not be asked"):
            worker.ask("a", None)


def test_modules_of_the_files_know_each_other() -> None:
    with start_prolog("kb") as worker:
        worker.load(
            [("a.pl", ":- module(a, [p/1]).\np(1).\n"), ("b.pl", ":- module(b, []).\nq(X) :- a:p(X).\n")], ["q/1"]
        )
        assert worker.ask("q", None) == [(1,)]


def test_without_swipl_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="no `swipl` on the PATH") as caught:
        start_prolog("kb")
    assert "apt-get install swi-prolog-nox" in caught.value.hint


def test_a_worker_that_dies_refuses_the_knowledge_base(worker: Prolog) -> None:
    os.kill(worker.process.pid, signal.SIGKILL)
    with pytest.raises(ContractError, match=r"died \(signal 9\)"):
        worker.ask("node", None)


def test_a_worker_that_hangs_is_stopped(worker: Prolog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prolog_module, "GRACE_SECONDS", -1.5)
    os.kill(worker.process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(ContractError, match="was silent for"):
        worker.ask("node", None)
    assert time.monotonic() - begun < 10
    assert worker.process.poll() is not None


def fake_swipl(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program called swipl that is something else; without the walls, which would not let a shell start."""
    (folder / "swipl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "swipl").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(prolog_module, "make_jail", lambda *given: lambda: None)


def test_a_swipl_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_swipl(tmp_path, "exit 7", monkeypatch)
    with pytest.raises(StageError, match=r"did not start \(exit code 7\)"):
        start_prolog("kb")


def test_a_worker_that_talks_nonsense_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_swipl(tmp_path, "echo '{}'; read line; echo nonsense; read line", monkeypatch)
    with pytest.raises(StageError, match="answered what is no JSON"), start_prolog("kb") as worker:
        worker.load([("kb.pl", KB)], ALLOWED)


def test_a_worker_ends_with_its_block(worker: Prolog) -> None:
    worker.close()
    assert worker.process.returncode == -signal.SIGKILL


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_checking_bytes_never_fails_and_passes_only_plain_utf8(data: bytes) -> None:
    problems = check_bytes("f.pl", data, DEFAULT_LIMITS)
    if not problems:
        assert all(c.isprintable() or c in "\t\n\r\u00a0\u3000" or c.isspace() for c in data.decode())


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn"]), max_size=60))
@settings(max_examples=50, deadline=None)
def test_any_text_is_taken_or_refused_but_never_stops_the_worker(text: str) -> None:
    with start_prolog("kb") as worker:
        try:
            worker.load([("f.pl", text)], ["known_node/1"])
        except ContractError as error:
            assert "refused as a whole" in error.message
        assert worker.process.poll() is None


ATOMS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn"]), min_size=1, max_size=30)


@given(st.lists(ATOMS, min_size=1, max_size=8, unique=True))
@settings(max_examples=30, deadline=None)
def test_atoms_come_back_as_they_are_written(atoms: list[str]) -> None:
    quoted = ["'" + atom.replace("\\", "\\\\").replace("'", "\\'") + "'" for atom in atoms]
    with start_prolog("kb") as worker:
        worker.load([("f.pl", "".join(f"known_node({q}).\n" for q in quoted))], ["known_node/1"])
        assert [value for (value,) in worker.ask("known_node", None)] == atoms


def test_a_library_name_that_is_not_offered_may_be_defined_here() -> None:
    text = "flatten(X, Y) :- Y = flat(X).\nalarm(1, 2, 3, 4).\nq(Y) :- flatten(a, Y).\n"
    with start_prolog("kb") as worker:
        worker.load([("f.pl", text)], ["q/1", "alarm/4"])
        assert worker.ask("q", None) == [("flat(a)",)]
        assert worker.ask("alarm", None, None, None, None) == [(1, 2, 3, 4)]


def test_every_broken_clause_is_named_and_the_hint_is_about_what_was_found() -> None:
    text = "a(1).\nb(x y).\nc(').\n').\nd(1)) .\nstr(X) :- assertz(X).\ne(1)"
    with start_prolog("kb") as fresh, pytest.raises(ContractError) as caught:
        fresh.load([("kb.pl", text)], [])
    assert [line.split(":")[1] for line in caught.value.message.splitlines()[1:]] == ["2", "5", "7", "6"]
    assert "the last clause does not end with a full stop" in caught.value.message
    assert "the line" in caught.value.hint and "nothing that reads, writes" in caught.value.hint
    assert "directives" not in caught.value.hint


def test_a_file_of_broken_clauses_ends_soon() -> None:
    with start_prolog("kb") as fresh, pytest.raises(ContractError, match="20 problems"):
        fresh.load([("kb.pl", "b(x y).\n" * 10_000)], [])
