"""Which command lines only look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.evaluate.commands import changes_state

LOOKS = """
zpool status -v | grep -A5 resilver
pvesh get /nodes/pve1/qemu --full 1
pvesh get /nodes/pve1/vms --output-format json | jq '.[].cpus'
ps aux --sort=-%cpu | head -20
cat /sys/block/nvme0n1/queue/nr_requests
watch -n 3600 'zpool status | grep scan'
qm config <vmid> | grep cpu
kubectl get pods -A -o wide
kubectl -n monitoring logs deploy/api --since=10m
ip -s link
ip addr show dev eth0
sudo journalctl -u ceph --since today
smartctl -a /dev/nvme0
nvme smart-log /dev/nvme0
ls /proc 2>/dev/null | wc -l
curl -s http://localhost:9090/api/v1/alerts
timeout 5 ping -c 3 10.0.0.1
find /var/log -name '*.log' -mtime -1
iptables -L -n
sed -n '1,5p' /etc/hosts
awk '{print $1}' /proc/loadavg
LANG=C free -h
systemctl status pvedaemon && pvecm status
""".strip().splitlines()
CHANGES = """
qm set 100 --ide0 disk,mbps_rd=200
qm stop 100
echo 10 > /sys/module/zfs/parameters/zfs_resilver_min_time_ms
cat x >> y
ionice -c 1 -n 0 -p $(pgrep qemu)
renice -5 1
kubectl delete pod x
kubectl -n get delete pod x
kubectl exec -it x -- sh
kubectl scale deploy x --replicas 0
systemctl restart pvedaemon
sudo reboot
zpool scrub tank
zpool clear tank
zfs destroy tank/a@b
pvesh set /nodes/pve1/config
ip link set eth0 down
ip route flush cache
watch -n 5 'zpool status; reboot'
env A=1 reboot
bash -c 'reboot'
xargs rm
ssh pve1 reboot
nvme format /dev/nvme0
smartctl -t long /dev/sda
dmesg -C
find / -delete
find / -exec rm {} +
sed -i s/a/b/ f
awk 'BEGIN{system("reboot")}'
curl -X POST http://x
curl -d a=b http://x
sysctl -w vm.swappiness=1
sysctl vm.swappiness=1
iptables -F
crontab -r
tee /etc/hosts
date -s 12:00
uniq a b
sort a -o b
ls & reboot
ls `reboot`
diff <(reboot) x
tcpdump -w f
ss -K dst 10.0.0.1
docker rm -f x
helm upgrade a b
ps aux; reboot
""".strip().splitlines()


@pytest.mark.parametrize("line", LOOKS)
def test_looking_is_allowed(line: str) -> None:
    assert changes_state(line) == ""


@pytest.mark.parametrize("line", CHANGES)
def test_changing_is_refused_with_a_reason(line: str) -> None:
    assert changes_state(line)


def test_what_is_unknown_is_refused() -> None:
    assert changes_state("frobnicate --all") == "frobnicate is not on the list of programs that only look"
    assert changes_state("") == ""
    assert changes_state("cat 'x") == "its quotes are not closed"


@given(st.sampled_from(LOOKS), st.sampled_from([" ; ", " && ", " || ", " | ", "\n"]), st.sampled_from(CHANGES))
def test_a_change_hides_behind_nothing(look: str, between: str, change: str) -> None:
    assert changes_state(look + between + change)
    assert changes_state(change + between + look)


@given(st.text(max_size=60))
def test_any_text_gets_an_answer(line: str) -> None:
    assert isinstance(changes_state(line), str)
