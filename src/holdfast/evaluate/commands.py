"""Does a command line only look, or could it change something? An allow-list: what is not known to only look may not.

A line is cut at `|`, `||`, `&&`, `;` and line ends; every part must be on the list. Redirection into a file, command
substitution and background jobs count as change. Placeholders such as `<vmid>` are words like any other.
"""

import re
import shlex
from collections.abc import Callable, Sequence

CONNECTORS = ("|", "||", "&&", ";", "\n", "|&")
HARMLESS_TARGETS = ("/dev/null", "&1", "&2")
# Programs that run another one: how many words of their own follow before it (options are skipped).
WRAPPERS = {"sudo": 0, "time": 0, "nice": 0, "ionice": 0, "watch": 0, "stdbuf": 0, "timeout": 1, "nohup": 0, "env": 0}
OPTIONS_WITH_VALUE = {
    "nice": ("-n",), "watch": ("-n", "--interval"), "sudo": ("-u", "-g"), "timeout": ("-s", "-k"),
    "stdbuf": ("-o", "-i", "-e"), "ionice": ("-c", "-n"), "env": (), "time": (), "nohup": (),
}  # fmt: skip

# Look at something and cannot do anything else (whatever their options).
ALWAYS_WORDS = """
cat head tail less more grep egrep fgrep zgrep zcat wc cut tr column jq nl od hexdump strings basename dirname
realpath readlink stat ls du df free uptime who w last id whoami uname lscpu lsblk lspci lsusb lsmem lsof lsmod
ps pgrep pstree pidstat mpstat iostat vmstat iotop htop top nproc arc_summary ping traceroute tracepath mtr dig
nslookup host netstat pvereport pveversion pveperf blkid findmnt echo true printf sleep md5sum sha256sum diff
cmp slabtop numastat lldpctl getent
"""
ALWAYS = frozenset(ALWAYS_WORDS.split())
# Program → the first words after it (options skipped) that only look; several words are joined by a space.
READING = {
    "pvesh": "get ls usage help", "pvecm": "status nodes expected-status", "qm": "list status config pending "
    "showcmd guest-status listsnapshot", "pct": "list status config pending df listsnapshot",
    "pvesm": "status list path", "ha-manager": "status config", "pveceph": "status", "pvesr": "list status",
    "zpool": "status list iostat get history events", "zfs": "list get diff holds", "ceph": "status health df osd -s",
    "systemctl": "status show list-units list-timers is-active is-failed is-enabled cat list-dependencies list-jobs",
    "kubectl": "get describe logs top explain version cluster-info api-resources events auth diff",
    "helm": "list status history get show", "docker": "ps logs inspect stats images top version info events",
    "crictl": "ps logs inspect stats images info pods", "etcdctl": "get member endpoint",
    "nvme": "smart-log list error-log id-ctrl id-ns fw-log show-regs list-subsys", "mdadm": "--detail --examine",
    "git": "status log diff show", "apt": "list show policy", "apt-cache": "policy show search", "dpkg": "-l -s -L",
    "ip": "addr address a link route r neigh n rule -s -br", "bridge": "link fdb vlan", "tc": "-s qdisc",
    "ovs-vsctl": "show list", "corosync-quorumtool": "-s -l", "corosync-cfgtool": "-s",
    "promtool": "check query", "amtool": "alert config silence", "lvs": "", "vgs": "", "pvs": "",
    "numactl": "--hardware --show -H -s", "timedatectl": "status show", "hostnamectl": "status",
    "loginctl": "list-sessions", "chronyc": "tracking sources sourcestats activity", "ntpq": "-p -pn",
    "perf": "top list report", "bpftool": "prog map", "virsh": "list dominfo domstats", "rbd": "ls info",
}  # fmt: skip
# Options before the subcommand that take the next word.
LEADING_OPTIONS = {
    "kubectl": ("-n", "--namespace", "--context", "--kubeconfig", "--cluster", "--user"), "git": ("-C",),
    "helm": ("-n", "--namespace", "--kube-context", "--kubeconfig"), "docker": ("-H", "--host", "--context"),
}  # fmt: skip
# Wherever one of these words stands after a reading subcommand, the line is not trusted.
CHANGING_WORDS = """
add apply attach change clear cordon create delete destroy detach drain edit exec expire export flush format
import kill migrate move offline online out patch purge reboot remove replace reset resize restart rm rollback
scale scrub set shutdown start stop uninstall update upgrade
"""
CHANGING = frozenset(CHANGING_WORDS.split())
BARE = ("lvs", "vgs", "pvs", "timedatectl", "hostnamectl", "ip")


def changes_state(line: str) -> str:
    """Why this command line may not be taken for one that only looks; empty when it only looks."""
    if "`" in line or "$(" in line or "<(" in line or ">(" in line:
        return "it runs a command inside a command"
    try:
        parts = _parts(line)
    except ValueError:
        return "its quotes are not closed"
    return next((why for part in parts if (why := _judge(part))), "")


def _parts(line: str) -> list[list[str]]:
    """The words of each command of the line. Placeholders such as <vmid> lose their brackets."""
    plain = re.sub(r"<([\w.-]+)>", r"\1", line)
    lexer = shlex.shlex(plain, posix=True, punctuation_chars="|&;<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in CONNECTORS or set(word) == {"\n"}:
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def _judge(words: Sequence[str]) -> str:
    words, why = _without_redirection(words)
    if why:
        return why
    if words and words[0] == "watch" and len(shown := _unwrap(words)) == 1:
        return changes_state(shown[0])
    while words and ("=" in words[0] and re.match(r"^\w+=", words[0]) or words[0].rsplit("/", 1)[-1] in WRAPPERS):
        words = _unwrap(words)
    if not words:
        return "it names no program"
    program = words[0].rsplit("/", 1)[-1]
    if check := SPECIAL.get(program):
        return check(words[1:])
    if program in ALWAYS:
        return ""
    if program not in READING:
        return f"{program} is not on the list of programs that only look"
    return _judge_reading(program, words[1:])


def _judge_reading(program: str, words: Sequence[str]) -> str:
    allowed = READING[program].split()
    while words and words[0] in LEADING_OPTIONS.get(program, ()):
        words = words[2:]
    if not words and program in BARE or not allowed:
        return ""
    first = next((w for w in words if w in allowed or not w.startswith("-")), words[0] if words else "")
    if first not in allowed:
        return f"{program} {first}".strip() + " is not one of its forms that only look"
    rest = words[words.index(first) + 1 :]
    bad = next((w for w in rest if w in CHANGING or w.startswith(("--output-directory", "--output="))), None)
    return f"{program} {first} … {bad} changes something" if bad else ""


def _without_redirection(words: Sequence[str]) -> tuple[list[str], str]:
    kept: list[str] = []
    skip = False
    for position, word in enumerate(words):
        if skip:
            skip = False
        elif word in (">", ">>", ">&", "&>", "&>>", ">|", "<>"):
            target = words[position + 1] if position + 1 < len(words) else ""
            if target not in HARMLESS_TARGETS and not (word == ">&" and target in ("1", "2")):
                return [], f"it writes into {target or 'something'}"
            if kept and kept[-1] in ("1", "2"):
                kept.pop()
            skip = True
        elif word in ("<", "<<<"):
            skip = True
        elif set(word) <= set("&<>|;"):
            return [], f"{word} is not understood"
        else:
            kept.append(word)
    return kept, ""


def _unwrap(words: Sequence[str]) -> list[str]:
    """The words behind a wrapper such as `sudo` or `timeout 5`, or behind NAME=value."""
    program = words[0].rsplit("/", 1)[-1]
    rest = list(words[1:])
    if program not in WRAPPERS:
        return rest
    while rest and rest[0].startswith("-"):
        takes_value = rest[0] in OPTIONS_WITH_VALUE[program]
        rest = rest[2:] if takes_value else rest[1:]
    return rest[WRAPPERS[program] :]


def _no_option(program: str, *options: str) -> Callable[[Sequence[str]], str]:
    """A program that only looks unless one of these options (or short letters in a cluster) is given."""

    def check(words: Sequence[str]) -> str:
        for word in words:
            for option in options:
                short = len(option) == 2 and re.match(r"^-[A-Za-z]+$", word) and option[1] in word[1:]
                if word == option or word.startswith(f"{option}=") or short:
                    return f"{program} {option} changes something"
        return ""

    return check


def _awk(words: Sequence[str]) -> str:
    text = " ".join(words)
    return "awk with system, a pipe or a file to write into" if re.search(r"system|\||>|-i\b|getline", text) else ""


def _sed(words: Sequence[str]) -> str:
    if any(re.match(r"^-[a-zA-Z]*i|^--in-place", word) for word in words):
        return "sed -i changes a file"
    scripts = [word for word in words if not word.startswith("-")][:1]
    return (
        "sed with w or e" if any(re.search(r"(^|[;/}0-9$]\s*)[we](\s|$)|/[gpIi0-9]*[we]", s) for s in scripts) else ""
    )


def _curl(words: Sequence[str]) -> str:
    for option in ("-X", "--request", "-d", "--data", "-T", "--upload-file", "-F", "--form", "-o", "-O", "--output"):
        if any(word == option or word.startswith(option) and len(option) == 2 for word in words):
            return f"curl {option} sends or writes something"
    return "curl with data" if any(word.startswith("--data") for word in words) else ""


def _ipmitool(words: Sequence[str]) -> str:
    plain = [word for word in words if not word.startswith("-")]
    looks = {"sensor", "sdr", "sel", "fru", "chassis", "power", "mc"}
    changes = {"on", "off", "cycle", "reset", "soft", "clear", "set", "identify", "bootdev", "policy"}
    if not set(plain) & looks or set(plain) & changes:
        return "ipmitool in this form may change something"
    return ""


SPECIAL: dict[str, Callable[[Sequence[str]], str]] = {
    "awk": _awk, "gawk": _awk, "mawk": _awk, "sed": _sed, "curl": _curl, "ipmitool": _ipmitool,
    "sort": _no_option("sort", "-o", "--output"), "find": _no_option(
        "find", "-delete", "-exec", "-execdir", "-ok", "-okdir", "-fprint", "-fprintf", "-fls"),
    "dmesg": _no_option("dmesg", "-c", "-C", "-D", "-E", "-n", "--clear", "--read-clear", "--console-off"),
    "journalctl": _no_option("journalctl", "--rotate", "--flush", "--sync", "--vacuum-size", "--vacuum-time",
                             "--vacuum-files", "--update-catalog", "--setup-keys"),
    "smartctl": _no_option("smartctl", "-t", "-s", "-X", "-o", "-S", "--test", "--set", "--smart", "--abort",
                           "--offlineauto", "--saveauto"),
    "ethtool": _no_option("ethtool", "-s", "-K", "-G", "-C", "-A", "-L", "-E", "-f", "-r", "-t", "-p", "-N", "-X", "-W",
                          "--change", "--offload", "--reset", "--flash", "--negotiate"),
    "hostname": lambda words: "hostname with a name sets it" if any(w[:1] != "-" for w in words) else "",
    "date": _no_option("date", "-s", "--set"), "sysctl": lambda words: (
        "sysctl writes" if any("=" in w or re.match(r"^-\w*[wp]|^--(write|load|system)", w) for w in words) else ""),
    "crontab": lambda words: "" if list(words) == ["-l"] else "crontab in this form changes something",
    "iptables": lambda words: "" if words and words[0] in ("-L", "-S", "--list") else "iptables changes something",
    "nft": lambda words: "" if words[:1] == ["list"] else "nft changes something",
    "ss": _no_option("ss", "-K", "--kill"), "yq": _no_option("yq", "-i", "--inplace", "--in-place", "-s"),
    "sar": _no_option("sar", "-o"), "arcstat": _no_option("arcstat", "-o"), "tree": _no_option("tree", "-o"),
    "uniq": lambda words: "uniq with a second file" if sum(w[:1] != "-" for w in words) > 1 else "",
    "tcpdump": _no_option("tcpdump", "-w", "-z"), "tee": lambda words: "tee writes into a file",
}  # fmt: skip
