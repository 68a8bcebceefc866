"""A guard around every test: no write into the real home folder, no talk with another machine.

Python's audit events see both, whoever in this process causes them (child processes are out of its sight). What it
raises is a BaseException, so that no `except Exception` in the code under test can hide it.
"""

import gc
import ipaddress
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# A test says whether something is right, not whether the machine was busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

os.environ["HF_HUB_OFFLINE"] = "1"  # whichever test is the first to load a model

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event → positions of its (path, folder descriptor) pairs; -1 = there is no descriptor
PATHS: dict[str, tuple[tuple[int, int], ...]] = {
    "open": ((0, -1),), "os.mkdir": ((0, 2),), "os.rmdir": ((0, 1),), "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)), "os.link": ((1, 3),), "os.symlink": ((1, 2),), "os.truncate": ((0, -1),),
    "os.chmod": ((0, 2),), "os.utime": ((0, 3),), "shutil.rmtree": ((0, 1),), "sqlite3.connect": ((0, -1),),
}  # fmt: skip
ADDRESSES = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0}
HOME = os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)
# A checkout or a virtual environment may itself lie in the home folder.
ALLOWED = tuple(
    os.path.realpath(folder) for folder in (Path(__file__).parents[1], sys.prefix, os.environ.get("TMPDIR", "/tmp"))
)


class ForbiddenError(BaseException):
    """A test touched what no test may touch."""


class _Guard:
    active = False


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _check_path(event: str, path: Any, descriptor: Any) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    named = Path(os.fsdecode(path))
    if isinstance(descriptor, int) and descriptor >= 0:
        named = Path(f"/proc/self/fd/{descriptor}").readlink() / named
    real = os.path.realpath(named.parent) + "/" + named.name
    if HOME == "/" or not _below(real, HOME) or any(_below(real, folder) for folder in ALLOWED):
        return
    if event == "os.mkdir" and Path(real).is_dir():  # exist_ok: nothing is written
        return
    raise ForbiddenError(f"a test wrote into the real home folder: {event} {real}")


def _check_address(event: str, address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else address if event == "socket.getaddrinfo" else None
    if isinstance(host, bytes):
        host = host.decode()
    if not isinstance(host, str) or host in ("", "localhost"):
        return  # a Unix or netlink socket, or this machine
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        raise ForbiddenError(f"a test asked the network for {host!r}: {event}") from None
    if not (number.is_loopback or number.is_unspecified):
        raise ForbiddenError(f"a test talked to another machine: {event} {address}")


def _audit(event: str, values: tuple[Any, ...]) -> None:
    if not _Guard.active:
        return
    if event in ADDRESSES:
        _check_address(event, values[ADDRESSES[event]])
    elif event in PATHS and not (event == "open" and not (values[2] or 0) & WRITING):
        for path, descriptor in PATHS[event]:
            _check_path(event, values[path], values[descriptor] if descriptor >= 0 else None)


sys.addaudithook(_audit)


class _Settled:
    modules = 0


def pytest_runtest_setup() -> None:
    """What pytest collected, and libraries that a test imported, stay: the collector need not walk them again at the
    end of every stage (models.let_go), which took half a second each time."""
    if len(sys.modules) > _Settled.modules + 200:
        gc.collect()
        gc.freeze()
        _Settled.modules = len(sys.modules)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Fixtures of every scope run inside this, collecting and pytest's own caches do not."""
    _Guard.active = True
    yield
    _Guard.active = False
