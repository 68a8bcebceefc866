"""Hostile knowledge bases are refused as a whole and leave no trace. One folder of files, and bytes made here."""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from holdfast.core.errors import ContractError
from holdfast.core.knowledge_config import PrologSource
from holdfast.sources.prolog_jail import landlock_version, make_jail
from holdfast.sources.prolog_knowledge import read_prolog_knowledge

FOLDER = Path(__file__).parents[2] / "hostile_prolog"
FILES = sorted(FOLDER.glob("*.pl"))
# Sound facts beside each hostile file: refusing it refuses these too.
GOOD = "alert_condition(c, critical, 'd', true).\nrunbook_response(c, _, 'text').\n"

BYTES: dict[str, tuple[str, bytes]] = {
    "latin-1": ("encoding: byte 15 (0xe9) is not UTF-8", b"known_node('caf\xe9')."),
    "utf-16": ("encoding: byte 0 (0xff) is not UTF-8", "known_node(a).".encode("utf-16")),
    "overlong": ("is not UTF-8", b"known_node('\xc0\xaf')."),
    "byte order mark": ("invisible character U+FEFF", b"\xef\xbb\xbfknown_node(a)."),
    "nul": ("invisible character U+0000", b"known_node('a\0b')."),
    "escape": ("invisible character U+001B", b"known_node('\x1b[31m')."),
    "bidi": ("invisible character U+202E", "known_node('a\u202eb').".encode()),
    "zero width": ("invisible character U+200B", "known\u200b_node(a).".encode()),
    "huge list": ("huge_term", b"known_node([" + b"a," * 60_000 + b"a])."),
    "huge nesting": ("", b"known_node(" + b"f(" * 60_000 + b"a" + b")" * 60_000 + b")."),
    "deeper nesting": ("", b"known_node(" + b"f(" * 900_000),
    "many brackets": ("", b"known_node(" + b"[" * 900_000),
    "many operators": ("", b"known_node(" + b"- " * 900_000 + b"a)."),
    "huge atom": ("", b"known_node('" + b"a" * 1_500_000 + b"')."),
    "huge number": ("", b"known_node(" + b"9" * 1_500_000 + b")."),
    "huge power literal": ("", b"known_node(1e999999999)."),
    "large file": ("the limit is 2,097,152", b"% " + b"x" * 3_000_000),
    "many clauses": ("clauses", b"known_node(a).\n" * 30_000),
    "many predicates": ("predicates", b"".join(b"p%d(a).\n" % n for n in range(2000))),
    "many problems": ("500 problems", b":- halt.\n" * 500),
}


def read(folder: Path, hostile: bytes) -> None:
    (folder / "a_good.pl").write_text(GOOD)
    (folder / "hostile.pl").write_bytes(hostile)
    read_prolog_knowledge(folder, "kb", PrologSource())


def everything_below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_there_are_many_kinds() -> None:
    assert len(FILES) >= 60
    assert len({re.sub(r"_.*", "", path.stem) for path in FILES}) >= 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_hostile_file_is_refused_as_a_whole_and_leaves_no_trace(path: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    folder = tmp_path / "kb"
    folder.mkdir()
    text = path.read_text().replace("CANARY", str(canary))
    rule = re.match(r"% refused: (\w+)\n", text)
    assert rule, f"{path.name} does not say how it is refused"
    before = everything_below(Path.cwd() / "tests" / "hostile_prolog"), set(Path("/").iterdir())
    with pytest.raises(ContractError) as caught:
        read(folder, text.encode())
    message = caught.value.message
    if rule[1] == "asked":  # nothing to see in the file; the query passes a limit
        assert re.search(r"known_node\(_\): |silent for|died", message), message
    else:
        assert "refused as a whole" in message
        assert re.search(rf"^  kb/hostile\.pl:\d+: {rule[1]}: ", message, re.MULTILINE), message
    assert not canary.exists()
    assert everything_below(folder) == {str(folder / "a_good.pl"), str(folder / "hostile.pl")}
    assert (everything_below(Path.cwd() / "tests" / "hostile_prolog"), set(Path("/").iterdir())) == before


@pytest.mark.parametrize("name", BYTES)
def test_hostile_bytes_are_refused(name: str, tmp_path: Path) -> None:
    wanted, data = BYTES[name]
    with pytest.raises(ContractError) as caught:
        read(tmp_path, data)
    assert wanted in caught.value.message


def test_the_canary_works(tmp_path: Path) -> None:
    """Without the sandbox the same file does leave its trace, so the tests above can fail."""
    canary = tmp_path / "canary"
    text = (FOLDER / "directive_shell.pl").read_text().replace("CANARY", str(canary))
    (tmp_path / "kb.pl").write_text(text)
    subprocess.run(["swipl", "-q", "-f", "none", "-g", "halt", str(tmp_path / "kb.pl")], check=False, timeout=30)
    assert canary.exists()


def test_good_facts_alone_are_taken(tmp_path: Path) -> None:
    read(tmp_path, b"known_node(a).")


@pytest.mark.parametrize(
    ("goal", "touched"),
    [("shell('touch {0}')", True), ("open('{0}', write, S), close(S)", True), ("open('/etc/passwd', read, _)", False),
     ("tcp_socket(S), tcp_connect(S, '127.0.0.1':{port})", False)],
)  # fmt: skip
def test_the_walls_hold_when_the_check_of_clauses_does_not(tmp_path: Path, goal: str, touched: bool) -> None:
    """The process itself can start no program, write or read no file of ours and reach no network."""
    if not landlock_version():
        pytest.skip("this kernel has no Landlock")
    with socket.create_server(("127.0.0.1", 0)) as server:
        canary = tmp_path / "canary"
        script = tmp_path / "probe.pl"
        goal = goal.format(canary, port=server.getsockname()[1])
        script.write_text(
            ":- use_module(library(socket)).\n"
            f"probe :- catch(({goal}), _, fail), !, writeln(done).\nprobe :- writeln(stopped).\n"
            ":- initialization(probe).\n"
        )
        program = Path(shutil.which("swipl") or "").resolve()
        command = [str(program), "-q", "-f", "none", "-g", "halt", str(script)]
        free = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
        assert "done" in free.stdout, json.dumps([free.stdout, free.stderr])
        canary.unlink(missing_ok=True)
        jailed = subprocess.run(
            command, capture_output=True, timeout=60, check=False, text=True, cwd="/",
            preexec_fn=make_jail(program, script, 2**30, 20),
        )  # fmt: skip
        assert "stopped" in jailed.stdout, json.dumps([jailed.stdout, jailed.stderr])
        assert not canary.exists() or not touched
