"""Fillers for slots without a label: hosts, services, products, alerts, commands, times, headings."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from people import rows

Rng = random.Random
ROLES = (
    "Duty Manager;Incident Commander;Shift Lead;On-call engineer;Network engineer;System administrator;Service Desk;"
    "Change Manager;Platform Engineer;Head of Operations;Team Lead;Site Reliability Engineer;DBA;Security Officer;"
    "release manager;account manager;developer;auditor;storage admin;field technician;first line;second line;operator;"
    "Account Manager;Problem Manager;Customer Success;Data Protection Officer;Product Owner;Scrum Master;architect"
).split(";")
TEAMS = "payments platform storage billing network identity search security database mobile data release".split()
KINDS = "web db api cache mail edge node app build queue proxy dns log kube ceph pve ora win nas bastion etl".split()
SERVICES = (
    "billing-api checkout ledger auth-proxy nginx postgres sshd kubelet etcd coredns mysqld inventory search-indexer "
    "image-resizer notifier session-store cron-runner payments-gw report-builder haproxy mailer vpn-gw prometheus"
).split()
ALERTS = (
    "Kube Pod Node Host Disk Memory Cpu Etcd Target Instance High Low Error Rate Latency Crash Looping Down Full Not "
    "Ready Missing Backup Failed Certificate Expiry Expiring Soon Queue Depth Replica Lag Watchdog Filesystem Network "
    "Out Of Many Requests Job Slow Stale Cluster Quorum Lost Leader Ceph Raid Degraded Temperature Fan Power Clock Skew"
).split()
COMMANDS = (
    "kubectl get pods -n {svc}", "kubectl describe node {host}", "systemctl restart {svc}", "journalctl -u {svc} -n {n}",
    "ssh {host} df -h", "docker logs {svc}", "tail -f /var/log/{svc}.log", "curl -s http://{host}:{n}/health",
    "rsync -a {host}:/srv/ /mnt/{svc}/", "helm upgrade {svc} ./charts/{svc}", "terraform apply -target=module.{svc}",
    "psql -h {host} -c 'select 1'", "grep -c {svc} /etc/hosts", "ping -c {d} {host}", "dig +short {host}", "zpool status",
    "ip route add {ip} dev eth{d}", "mount /dev/sd{d} /mnt", "kill -9 {n}", "git checkout -b fix/{svc}", "top -b -n {d}",
)  # fmt: skip
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
USERS = "jdoe svc_backup a.miller root deploy k8s-admin ops1 mtaylor sgarcia ext_4411 nagios oncall x123456".split()


@lru_cache(maxsize=1)
def products() -> tuple[str, ...]:
    """All product names."""
    return tuple(rows("products.txt")[0].split(";"))


def host(rng: Rng) -> str:
    """A host name."""
    name = f"{rng.choice(KINDS)}{rng.choice(('-', '', '0', '-prd-'))}{rng.randint(1, 40)}"
    return name + rng.choice(("", "", "", ".internal", ".example.net", "-eu", ".corp.local"))


def alert(rng: Rng) -> str:
    """An alert name as rules have them."""
    return "".join(rng.sample(ALERTS, rng.randint(2, 4)))


def stamp(rng: Rng) -> str:
    """A time stamp of a log line."""
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}"
    day = f"20{rng.randint(18, 29)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    return rng.choice((f"{day}T{clock}Z", f"{day} {clock},{rng.randint(0, 999):03d}", f"{rng.choice(MONTHS)[:3]} {rng.randint(1, 28)} {clock}"))


def date(rng: Rng) -> str:
    """A date in one of several notations."""
    d, m, y = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2018, 2029)
    name = MONTHS[m - 1]
    return rng.choice((f"{y}-{m:02d}-{d:02d}", f"{d}.{m}.{y}", f"{m}/{d}/{y}", f"{d} {name}", f"{name} {d}, {y}", f"{d} {name[:3]}"))


def ticket(rng: Rng) -> str:
    """A ticket number."""
    return rng.choice(("INC", "CHG", "OPS-", "REQ", "SRV-", "#", "HELP-", "PRB", "JIRA-", "CS")) + str(rng.randint(100, 999999))


def command(rng: Rng) -> str:
    """A shell command."""
    text = rng.choice(COMMANDS)
    for slot in ("host", "svc", "n", "d", "ip"):
        text = text.replace("{" + slot + "}", FILLERS[slot](rng))
    return text


FILLERS: dict[str, Callable[[Rng], str]] = {
    "host": host,
    "svc": lambda rng: rng.choice(SERVICES),
    "prod": lambda rng: rng.choice(products()),
    "role": lambda rng: rng.choice(ROLES),
    "team": lambda rng: rng.choice(TEAMS),
    "alert": alert,
    "camel": alert,
    "cmd": command,
    "stamp": stamp,
    "date": date,
    "tkt": ticket,
    "day": lambda rng: rng.choice(DAYS),
    "month": lambda rng: rng.choice(MONTHS),
    "user": lambda rng: rng.choice(USERS),
    "n": lambda rng: str(rng.randint(1, 9999)),
    "d": lambda rng: str(rng.randint(1, 9)),
    "pct": lambda rng: f"{rng.randint(1, 100)}%",
    "ver": lambda rng: f"{rng.randint(0, 15)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}",
    "clock": lambda rng: f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
    "dur": lambda rng: f"{rng.randint(2, 90)} {rng.choice(('s', 'min', 'minutes', 'hours', 'seconds'))}",
    "ip": lambda rng: f"10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
}
