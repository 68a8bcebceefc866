"""Walls round the Prolog worker, put up between fork and exec: limits, no network, no file but the ones it is made of.

Each wall is tried; a kernel that lacks one (Landlock: Linux 5.13, network rules 6.7; user namespaces may be forbidden)
leaves the others. The first wall is the worker's own check of every clause; these hold when that check is wrong.
Landlock: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
SET_PDEATHSIG, SET_NO_NEW_PRIVS = 1, 38
NEW_USER, NEW_NET, NEW_IPC = 0x10000000, 0x40000000, 0x08000000
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many file rights each version of Landlock knows
BIND_AND_CONNECT = 3
# What a dynamically linked program needs in order to start.
READABLE = ("/usr", "/lib", "/lib64", "/opt", "/nix/store", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/proc")
LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")


def make_jail(program: Path, script: Path, memory_bytes: int, cpu_seconds: int) -> Callable[[], None]:
    """What `subprocess` calls in the child (`preexec_fn`): every wall for `program`, which alone may be started and
    reads `script`.

    memory_bytes: address space; cpu_seconds: processor time. No file can be written: the limit is 0 bytes, and none
    can be made where Landlock is there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()
    readable = _existing((*READABLE, str(program.parent), str(script)))
    startable = _existing((str(program), *LOADERS))

    def put_up() -> None:
        libc.prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        libc.unshare(NEW_USER | NEW_NET | NEW_IPC)
        libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if not _restrict_files(libc, readable, startable):
            os._exit(1)  # the kernel can, but did not: no worker without this wall
        for kind, limit in (
            (resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64),
        ):  # fmt: skip
            resource.setrlimit(kind, (limit, limit))

    return put_up


def landlock_version() -> int:
    """Version of Landlock in this kernel; 0 when there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def _existing(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if Path(path).exists()]


def _restrict_files(libc: ctypes.CDLL, readable: Sequence[str], startable: Sequence[str]) -> bool:
    """False when the kernel has Landlock and yet the wall does not stand."""
    version = int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1))
    if version < 1:
        return True
    handled = (1 << RIGHTS_BY_VERSION.get(version, 16)) - 1
    wanted = struct.pack("=QQ", handled, BIND_AND_CONNECT) if version >= 4 else struct.pack("=Q", handled)
    rules = libc.syscall(CREATE_RULESET, ctypes.c_char_p(wanted), ctypes.c_size_t(len(wanted)), 0)
    if rules < 0:
        return False
    for paths, wide in ((readable, READ_FILE | READ_DIR), (startable, EXECUTE | READ_FILE)):
        for path in paths:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rights = wide if Path(path).is_dir() else wide & ~READ_DIR  # a file takes no right of folders
            rule = struct.pack("=Qi", rights, descriptor)
            if libc.syscall(ADD_RULE, rules, 1, ctypes.c_char_p(rule), 0):
                return False
            os.close(descriptor)
    return int(libc.syscall(RESTRICT_SELF, rules, 0)) == 0
