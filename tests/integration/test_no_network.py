"""A whole run in a network namespace of its own, in which there is nothing but a loopback interface."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from small_run import SmallRun, arguments, environment

ALONE = ["unshare", "-rn"]  # the loopback interface is there, but down: holdfast sets it up for its server
PROBE = """
import errno, socket
names = [name for _, name in socket.if_nameindex()]
assert names == ["lo"], names
for address in (("192.0.2.1", 443), ("1.1.1.1", 53)):
    with socket.socket() as probe:
        probe.settimeout(3)
        number = probe.connect_ex(address)
    assert number in (errno.ENETUNREACH, errno.EHOSTUNREACH), number
try:
    socket.getaddrinfo("huggingface.co", 443)
except OSError:
    print("alone")
"""


def alone(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command without any network."""
    return subprocess.run(
        [*ALONE, *command], env=environment(), capture_output=True, text=True, timeout=400, check=False
    )


@pytest.fixture(autouse=True)
def namespace() -> None:
    """Skip where a user may not make a network namespace."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare command")
    done = subprocess.run(["unshare", "-rn", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespace is permitted here: {done.stderr.strip()}")


def test_inside_there_is_really_no_network() -> None:
    done = alone(arguments()[0], "-c", PROBE)
    assert done.stdout == "alone\n", done.stderr


def test_a_whole_run_needs_no_network_and_ends_the_same(small: SmallRun, tmp_path: Path) -> None:
    run = SmallRun(small.config, tmp_path / "run", small.base)
    done = alone(*arguments(*run.command("--json")))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] == small.verdict()
    assert set(document["stages"].values()) == {"ran"}
    assert run.adapter_digest() == small.adapter_digest()
