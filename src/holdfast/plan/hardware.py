"""What this machine has: cards (by nvidia-smi), memory (/proc and the cgroup's limit), free disk, cores. No torch."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from holdfast.plan.constants import MIB

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_QUERY = "index,uuid,name,memory.total,memory.free,driver_version"


@dataclass(frozen=True)
class Gpu:
    """One card. Bytes; `free_bytes` is what no process holds now."""

    name: str
    total_bytes: int
    free_bytes: int
    driver: str


@dataclass(frozen=True)
class Hardware:
    """What a plan may count on. Bytes. `gpus` are those that training can use; `remarks` says what was left out."""

    gpus: tuple[Gpu, ...]
    ram_total_bytes: int
    ram_available_bytes: int
    disk_folder: str
    disk_free_bytes: int
    cores: int
    remarks: tuple[str, ...] = ()


def probe(folder: Path) -> Hardware:
    """Look at this machine; `folder` (which need not exist yet) says which disk counts."""
    remarks: list[str] = []
    gpus = visible_gpus(_nvidia_smi(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if gpus and _torch_has_no_cuda():
        remarks.append(f"{gpus[0].name} is not used: the installed torch is a build without CUDA")
        gpus = ()
    total, available = _memory()
    for limit, used in cgroup_limits(_PROC, _CGROUP):
        if limit < total:
            remarks.append(f"a cgroup limits memory to {limit / 2**30:.2f} GiB")
        total, available = min(total, limit), min(available, max(0, limit - used))
    existing = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), Path("/"))
    stat = os.statvfs(existing)
    free = stat.f_bavail * stat.f_frsize
    return Hardware(gpus, total, available, str(existing), free, _cores(), tuple(remarks))


def visible_gpus(listing: str, visible: str | None) -> tuple[Gpu, ...]:
    """Cards in nvidia-smi's CSV that CUDA_VISIBLE_DEVICES (indices or UUIDs; None = all) leaves, in its order."""
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.splitlines() if line.count(",") == 5]
    # An integrated or MIG device reports "[N/A]" for its memory: it cannot be planned for.
    rows = [row for row in rows if row[3].isdigit() and row[4].isdigit()]
    if visible is not None:
        wanted = [name.strip() for name in visible.split(",") if name.strip()]
        rows = [row for name in wanted for row in rows if row[0] == name or (len(name) > 4 and row[1].startswith(name))]
    return tuple(Gpu(row[2], int(row[3]) * MIB, int(row[4]) * MIB, row[5]) for row in rows)


def _nvidia_smi() -> str:
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _torch_has_no_cuda() -> bool:
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _memory() -> tuple[int, int]:
    """Total and available bytes; without /proc (macOS) the total stands for both."""
    try:
        text = (_PROC / "meminfo").read_text()
    except OSError:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return kib["MemTotal"] * 1024, kib.get("MemAvailable", kib.get("MemFree", 0)) * 1024


def cgroup_limits(proc: Path, root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of every memory cgroup above this process that has a limit; version 2 and 1.

    Page cache that the kernel would drop first (inactive_file) does not count as used.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(base):
                break
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None and limit < 2**60:
                yield limit, max(0, used - _statistic(folder / "memory.stat", names[2]))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name} (\d+)$", path.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
