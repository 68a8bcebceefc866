"""The guard of conftest.py really stops what it says it stops."""

import os
import pwd
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
PROBE = HOME / ".holdfast-guard-probe"
OUTSIDE = ("192.0.2.1", 9)  # TEST-NET-1, RFC 5737: no such machine


def caught(action: Callable[[], object]) -> str:
    try:
        action()
    except BaseException as error:  # noqa: BLE001 (the guard's class lives in conftest, which cannot be imported by name)
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


@pytest.mark.parametrize(
    "action",
    [
        lambda: PROBE.write_text("x"),
        lambda: PROBE.open("a"),
        lambda: os.open(PROBE, os.O_WRONLY | os.O_CREAT),
        lambda: PROBE.mkdir(),
        lambda: PROBE.symlink_to("x"),
        lambda: shutil.rmtree(PROBE),
        lambda: os.mkdir(PROBE.name, dir_fd=os.open(HOME, os.O_RDONLY)),
    ],
)
def test_a_write_into_the_home_folder_is_stopped(action: Callable[[], object]) -> None:
    assert caught(action).startswith("ForbiddenError: a test wrote into the real home folder")
    assert not PROBE.exists()


def test_a_file_cannot_be_moved_into_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "ForbiddenError" in caught(lambda: (tmp_path / "file").replace(PROBE))
    assert "ForbiddenError" in caught(lambda: shutil.move(tmp_path / "file", PROBE))
    assert (tmp_path / "file").exists()


def test_a_link_does_not_lead_around_the_guard(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(HOME)
    assert "ForbiddenError" in caught(lambda: (tmp_path / "link" / PROBE.name).write_text("x"))
    assert not PROBE.exists()


def test_except_exception_cannot_hide_it() -> None:
    def careless() -> None:
        try:
            PROBE.write_text("x")
        except Exception:  # noqa: BLE001 (what is tested)
            return

    assert "ForbiddenError" in caught(careless)


def test_the_home_folder_may_be_read_and_the_temporary_folder_written(tmp_path: Path) -> None:
    list(HOME.iterdir())
    HOME.mkdir(exist_ok=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    shutil.rmtree(tmp_path / "a")


def test_another_machine_cannot_be_reached() -> None:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.settimeout(0.2)
        assert "talked to another machine" in caught(lambda: tcp.connect(OUTSIDE))
        assert "talked to another machine" in caught(lambda: tcp.connect_ex(OUTSIDE))
        assert "talked to another machine" in caught(lambda: udp.sendto(b"x", OUTSIDE))
    assert "asked the network for 'example.org'" in caught(lambda: socket.getaddrinfo("example.org", 443))
    assert "ForbiddenError" in caught(lambda: socket.create_connection(("example.org", 443), timeout=0.2))


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), timeout=5).close()
