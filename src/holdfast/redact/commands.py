"""Passwords that are arguments of commands: `mysql -pX`, `ipmitool -P X`, `snmpwalk -c X`, `curl -u user:X`.

Flags are read in their own case: `ipmitool -p` is a port and -P the password.
"""

import re
from collections.abc import Iterator

from holdfast.redact.credentials import is_placeholder, without_trailing
from holdfast.redact.spans import RANKS, Span

_VALUE = r"""\s{0,3}["']?(?P<v>[^\s"'<>|&;-][^\s"'<>|&;]{2,})"""


def _command(names: str, flag: str, value: str = _VALUE, reach: int = 120) -> re.Pattern[str]:
    """A command, further arguments of at most `reach` characters, the flag and its value `v`."""
    return re.compile(rf"(?i:{names})\b[^\n|]{{0,{reach}}}?\s{flag}{value}")


# Words of which one, in lower case, is in every match; the pattern.
COMMANDS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (("mysql", "mariadb"), _command(r"mysql(?:dump|admin|import)?|mariadb(?:-dump)?", "-p",
                                    r"""(?P<v>[^\s"'<>]{3,}|(?<=p)'[^']+'|"[^"]+")""")),
    (("sshpass", " login", "htpasswd", "mongo", "smbclient", "sqlcmd", "bcp", "vncviewer", "twine"),
     _command(r"sshpass|docker\s+login|podman\s+login|helm\s+registry\s+login|az\s+login|htpasswd|mongo\w*|smbclient"
              r"|sqlcmd|bcp|vncviewer|twine", "-[pP]")),
    (("ipmitool",), _command("ipmitool", "-P")),
    (("ipmi",), _command(r"ipmi(?:power|console|-\w+)", "-p")),
    (("snmp",), _command(r"snmp\w+", "-c")),
    (("snmp",), _command(r"snmp\w+", "-A")),
    (("snmp",), _command(r"snmp\w+", "-X")),
    (("redis-cli",), _command("redis-cli", "-a", r"""\s{1,3}["']?(?P<v>[^\s"'<>|&;]{3,})""")),
    (("ldap",), _command(r"ldap(?:search|modify|add|delete|passwd|whoami)", "-w",
                         r"""\s{0,3}["']?(?P<v>[^\s"'<>|&;]{3,})""", 200)),
    (("curl",), _command("curl", "(?:-u|--user|--proxy-user|-U)",
                         r"""[\s=]{0,3}["']?[^\s:"'<>]{1,80}:(?P<v>[^\s"'<>]{2,})""", 200)),
    (("etcdctl",), _command("etcdctl", "--user", r"""[\s=]{1,3}["']?[^\s:"'<>]{1,80}:(?P<v>[^\s"'<>]{2,})""")),
    (("-pass",), re.compile(r"""-pass(?:in|out)\s+pass:(?P<v>[^\s"'<>]{3,})""")),
)  # fmt: skip


def find_in_commands(text: str, lower: str) -> Iterator[Span]:
    """Passwords on command lines; `lower` is `text` in lower case."""
    if " -" not in text:
        return
    for words, pattern in COMMANDS:
        for word in words:
            if word in lower:
                yield from _values(pattern, text)
                break


def _values(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    for match in pattern.finditer(text):
        start, end = match.span("v")
        value = without_trailing(text, start, end)
        if len(value) > 2 and not is_placeholder(value):
            yield Span(start, start + len(value), "PASSWORD", RANKS["PASSWORD"])
