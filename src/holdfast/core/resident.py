"""How much memory a process has held at most, as Linux counts it."""

from pathlib import Path


def peak_memory(pid: int | None = None) -> int | None:
    """Largest resident memory of a running process (None: this one), bytes; mapped pages included.

    VmHWM of /proc/PID/status (proc(5)): `getrusage` would count what a parent held before it forked. None where
    Linux does not say.
    """
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
