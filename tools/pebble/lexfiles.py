"""Load and check the lexicon: lexicon/*.txt, whose README.md defines sections and slots."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent / "lexicon"
SECTIONS = (
    "core",
    "important",
    "newcomers",
    "comms",
    "loss",
    "breach",
    "slow",
    "partial",
    "detour",
    "cosmetic",
    "internal",
    "docs",
    "single",
    "loud",
    "quiet",
    "calm",
)
SLOTS = frozenset(("who", "time", "code", "service", "host", "team", "n", "pct", "dur", "version", "city"))
WHO_ALWAYS = frozenset(("core", "important"))
WHO_MAYBE = WHO_ALWAYS | {"slow"}
SLOT = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Line:
    """One lexicon line: a report of one situation, and its gist."""

    domain: str
    section: str
    text: str
    gist: str


@dataclass
class Lexicon:
    """All accepted lines by section, the detours by domain, and what was refused."""

    lines: dict[str, list[Line]] = field(default_factory=lambda: {name: [] for name in SECTIONS})
    detours: dict[str, list[Line]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def add(self, line: Line) -> None:
        """File one line."""
        if line.section == "detour":
            self.detours.setdefault(line.domain, []).append(line)
        self.lines[line.section].append(line)

    def size(self) -> int:
        """How many lines there are."""
        return sum(map(len, self.lines.values()))


def is_held_out(line: Line, share: float) -> bool:
    """Whether this line lies in the fixed pseudo-random share that is kept from training."""
    digest = hashlib.sha256(line.text.encode()).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


def fault(section: str, text: str, gist: str) -> str:
    """What is wrong with a line, or an empty string."""
    slots = set(SLOT.findall(text))
    if section not in SECTIONS:
        return f"unknown section {section!r}"
    if slots - SLOTS:
        return f"unknown slot {sorted(slots - SLOTS)}"
    if "who" in slots and section not in WHO_MAYBE:
        return f"{{who}} in [{section}]"
    if section in WHO_ALWAYS and "who" not in slots:
        return f"no {{who}} in [{section}]"
    if not text or (not gist and section != "detour"):
        return "no text or no gist"
    if SLOT.search(gist) or len(gist) > 90:
        return "slot in the gist, or gist too long"
    return ""


def load(folder: Path = HERE, keep: str = "all", share: float = 0.0) -> Lexicon:
    """Read every file; keep is "all", "seen" (less the held-out share) or "held" (only that share).

    Detours are kept whole under "held" too where a domain has none held out.
    """
    lexicon, seen = Lexicon(), set()
    for path in sorted(folder.glob("*.txt")):
        section = ""
        for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            row = raw.strip()
            if not row or row.startswith("#"):
                continue
            if row.startswith("[") and row.endswith("]"):
                section = row[1:-1].strip()
                continue
            text, _, gist = (part.strip() for part in row.partition("=>"))
            text, gist = text.rstrip("."), gist.rstrip(".")
            wrong = fault(section, text, gist) or ("repeated" if text in seen else "")
            if wrong:
                lexicon.refused.append(f"{path.name}:{number}: {wrong}: {row[:80]}")
                continue
            seen.add(text)
            line = Line(path.stem, section, text, gist)
            if keep == "all" or (keep == "held") == is_held_out(line, share):
                lexicon.add(line)
    if not seen:
        raise FileNotFoundError(f"no lexicon lines under {folder}")
    return lexicon
