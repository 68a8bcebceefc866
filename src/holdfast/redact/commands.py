"""Passwords that are arguments of commands: `mysql -pX`, `ipmitool -P X`, `snmpwalk -c X`, `curl -u user:X`.

Flags are read in their own case: `ipmitool -p` is a port and -P the password.
"""

import re
from collections.abc import Iterator

from holdfast.redact.credentials import is_placeholder, without_trailing
from holdfast.redact.spans import RANKS, Span

# Quoted: all between the quotes, also spaces and what a shell would take for its own.
_OPEN = r"""["']?(?P<v>(?<=')[^'\n]{3,200}(?=')|(?<=")[^"\n]{3,200}(?=")|[^\s"'<>|&;-][^\s"'<>|&;]{2,})"""
_VALUE = r"\s{0,3}" + _OPEN
_APART = r"\s{1,3}" + _OPEN
_ARGUMENT = r"""(?:"[^"\n]{1,80}"|'[^'\n]{1,80}'|[^\s"'|;&<>-][^\s"'|;&<>]{0,120})\s{1,3}"""
_OPTIONS = r"(?:-\w+\s{1,3}(?:\d+\s{1,3})?){1,5}"
_BATCH = r"(?=(?:-\w+\s{1,3}(?:\d+\s{1,3})?){0,4}-\w*b)"  # htpasswd: the password is an argument
_STDOUT = r"(?:-\w+\s{1,3}(?:\d+\s{1,3})?){0,4}-\w*n"  # htpasswd: there is no file


def _command(names: str, flag: str, value: str = _VALUE, reach: int = 120) -> re.Pattern[str]:
    """A command, further arguments of at most `reach` characters, the flag and its value `v`."""
    return re.compile(rf"(?i:{names})\b[^\n|]{{0,{reach}}}?\s{flag}{value}")


# Words of which one, in lower case, is in every match; the pattern.
COMMANDS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (("mysql", "mariadb"), _command(r"mysql(?:dump|admin|import)?|mariadb(?:-dump)?", "-p",
                                    r"""["']?(?P<v>(?<=')[^'\n]{3,200}(?=')|(?<=")[^"\n]{3,200}(?=")|[^\s"'<>]{3,})""")),
    (("sshpass", " login", "htpasswd", "mongo", "smbclient", "sqlcmd", "bcp", "vncviewer", "twine",
      "psexec", "crackmapexec", "netexec", "nxc", "racadm", "rdesktop", "evil-winrm"),
     _command(r"sshpass|docker\s+login|podman\s+login|helm\s+registry\s+login|az\s+login|htpasswd|mongo\w*|smbclient"
              r"|sqlcmd|bcp|vncviewer|twine|psexec|crackmapexec|netexec|nxc|racadm|rdesktop|evil-winrm", "-[pP]")),
    (("ipmitool",), _command("ipmitool", "-P")),
    (("ipmi",), _command(r"ipmi(?:power|console|-\w+)", "-p")),
    (("snmp",), _command(r"snmp\w+", "-c")),
    (("snmp",), _command(r"snmp\w+", "-A")),
    (("snmp",), _command(r"snmp\w+", "-X")),
    (("redis-cli",), _command("redis-cli", "-a", r"""\s{1,3}["']?(?P<v>[^\s"'<>|&;]{3,})""")),
    (("ldap",), _command(r"ldap(?:search|modify|add|delete|passwd|whoami)", "-w",
                         r"""\s{0,3}["']?(?P<v>[^\s"'<>|&;]{3,})""", 200)),
    (("curl",), _command("curl", r"(?:-u|--user|--proxy-user|-U|-[a-zA-Z]{1,6}[uU](?=\s))",
                         r"""[\s=]{0,3}["']?[^\s:"'<>]{1,80}:(?P<v>[^\s"'<>]{2,})""", 200)),
    (("etcdctl",), _command("etcdctl", "--user", r"""[\s=]{1,3}["']?[^\s:"'<>]{1,80}:(?P<v>[^\s"'<>]{2,})""")),
    (("smb", "rpc", "winexe", "samba-tool"),
     _command(r"smb\w+|rpcclient|net\s+(?:rpc|ads)|winexe|samba-tool", "(?:-U|--user)",
              r"""[\s=]{0,3}["']?[^\s%"'<>]{1,80}%(?P<v>[^\s"'<>|;]{3,})""")),
    (("openssl",), _command("openssl", "-[kK]", _APART, 200)),
    (("zip",), _command("(?:un)?zip", "-P")),
    (("7z",), _command("7z[azr]?", "-p", _OPEN)),
    (("storepass", "keypass"), re.compile(r"-(?:src|dest)?(?:store|key)pass" + _APART)),
    (("useradd", "usermod"), _command("user(?:add|mod)", "-p", _APART)),
    (("mosquitto",), _command(r"mosquitto_(?:pub|sub|rr)", "-P", _APART)),
    (("lftp",), _command("lftp", "-u", r"""\s{0,3}["']?[^\s,"'<>]{1,80},(?P<v>[^\s"'<>|&;]{3,})""")),
    (("--password-command",),
     re.compile(r"""--password-command[\s=]{1,3}["']?(?:echo|printf)\s+(?P<v>[^\s"'<>]{3,})""")),
    (("htpasswd", "mosquitto_passwd"),
     re.compile(rf"(?:htpasswd|mosquitto_passwd)\s+(?!{_STDOUT}){_BATCH}{_OPTIONS}{_ARGUMENT}{_ARGUMENT}{_OPEN}")),
    (("htpasswd",), re.compile(rf"htpasswd\s+(?={_STDOUT}){_BATCH}{_OPTIONS}{_ARGUMENT}{_OPEN}")),
    (("-pass",), re.compile(r"""-pass(?:in|out)\s+pass:(?P<v>[^\s"'<>]{3,})""")),
)  # fmt: skip

# The same for commands whose password stands behind no dash. In the normalised copy `\\n` of `\\\\nas` is a line end.
DASHLESS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (("sshpass=",), re.compile(rf"\bSSHPASS={_OPEN}")),
    (("freerdp",), re.compile(rf"freerdp\d?\b[^\n|]{{0,160}}?\s/p:{_OPEN}")),
    (("net use",), re.compile(rf"(?i:net\s+use\b)[^|]{{0,120}}?\s/(?i:user):\S+\s{{1,3}}(?![/*]){_OPEN}")),
    (("net use",), re.compile(rf"(?i:net\s+use)\s+(?:\w:\s+)?[\\\n]\S+\s{{1,3}}(?![/*]){_OPEN}(?=[\"']?\s+/)")),
    (("net user",),
     re.compile(rf"(?i:net\s+user)\s+{_ARGUMENT}(?![/*]){_OPEN}(?=[\"']?\s+/(?i:add|domain|active|expires))")),
    (("rabbitmqctl",),
     re.compile(rf"rabbitmqctl\s+(?:add_user|change_password|authenticate_user)\s+{_ARGUMENT}{_OPEN}")),
    (("nmcli",), re.compile(rf"nmcli\b[^\n|]{{0,160}}?\spassword\s{{1,3}}{_OPEN}")),
    (("wpa_passphrase",), re.compile(rf"wpa_passphrase\s+{_ARGUMENT}{_OPEN}")),
    (("vault login",), re.compile(r"vault login\s+(?=\S*\d)(?=\S*[A-Za-z])(?P<v>[\w.-]{6,})")),
    (("assword", "assphrase"),  # expect(1): what is sent when a password is asked for
     re.compile(r"""ass(?:word|phrase)[^\n]{0,20}["}]?[^\w\n]{0,4}\n?\s{0,8}send(?:_\w+)?\s+(?:--\s+)?"""
                r"""["'](?P<v>[^"'\n]{3,100}?)\s{0,2}["']""")),
)  # fmt: skip
EVERY = (*COMMANDS, *DASHLESS)


def find_in_commands(text: str, lower: str) -> Iterator[Span]:
    """Passwords on command lines; `lower` is `text` in lower case."""
    for words, pattern in EVERY if " -" in text else DASHLESS:
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
