"""How long `holdfast --help` takes: the wait of everyone who types a verb. One JSON line; exit 1 above the limit.

Processor seconds of the best of several tries (on a quiet machine the same as by the clock), beside those of an
interpreter that does nothing, so that two machines can be compared.

Run:  python bench/startup.py [--tries 5]
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
LIMIT_SECONDS = 0.3
COMMANDS = {"bare": ("-c", "pass"), "import": ("-c", "import holdfast"), "help": ("-m", "holdfast", "--help")}


def main() -> int:
    """Time each command, print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tries", type=int, default=5)
    tries = parser.parse_args().tries
    seconds = {name: min(processor_seconds(command) for _ in range(tries)) for name, command in COMMANDS.items()}
    slowest = max(seconds.values())
    print(json.dumps({
        "bench": "startup", "processor_seconds": seconds, "limit_seconds": LIMIT_SECONDS,
        "within": slowest <= LIMIT_SECONDS,
        "versions": {"python": platform.python_version(), "typer": importlib.metadata.version("typer")},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }))  # fmt: skip
    return 0 if slowest <= LIMIT_SECONDS else 1


def processor_seconds(command: tuple[str, ...]) -> float:
    """User and system seconds of one run of the interpreter with this command."""
    before = os.times()
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return round(spent, 2)


if __name__ == "__main__":
    sys.exit(main())
