% What to do. Every command only looks; what changes the cluster is a person's decision and stands as words under
% escalation. action/4 is in the order of the steps.
:- module(runbooks, [runbook_response/3]).
:- discontiguous probable_cause/2, action/4, escalation/2.

probable_cause(cpu_steal_critical, 'guests wait for processor time that the host gives to others: too many vCPUs, memory on the wrong NUMA node, or one runaway guest.').
action(cpu_steal_critical, Node, 'Load of the guests', Run) :- format(atom(Run), 'pvesh get /nodes/~w/qemu', [Node]).
action(cpu_steal_critical, _, 'Steal by second', 'vmstat 1 10').
action(cpu_steal_critical, _, 'NUMA layout', 'numactl --hardware').
action(cpu_steal_critical, _, 'Largest consumers', 'ps aux --sort=-%cpu | head -20').
escalation(cpu_steal_critical, 'Escalate when steal stays >= 40 % after guests were moved away, or when a process of the hypervisor itself takes the time.').

probable_cause(disk_latency_critical, 'reads are slow enough for guests to feel it: a failing NVMe device, or a resilver that competes for the disks.').
action(disk_latency_critical, _, 'Health of the device', 'nvme smart-log /dev/nvme0').
action(disk_latency_critical, _, 'State of the pool', 'zpool status -v').
action(disk_latency_critical, _, 'Latency by device', 'zpool iostat -v 1 5').
action(disk_latency_critical, _, 'Requests that wait', 'iostat -x 1 5').
escalation(disk_latency_critical, 'Escalate at once when the pool is DEGRADED, FAULTED or REMOVED, or when latency is > 10 ms during a resilver.').

probable_cause(io_saturated_critical, 'the NVMe device is busy all the time and requests queue: bursts of random writes from one guest, or copy-on-write from too many snapshots.').
action(io_saturated_critical, Node, 'Writes by guest', Run) :- format(atom(Run), 'pvesh get /nodes/~w/qemu --full 1', [Node]).
action(io_saturated_critical, _, 'Depth of the queue', 'cat /sys/block/nvme0n1/queue/nr_requests').
action(io_saturated_critical, _, 'Evictions of the ARC', 'arcstat -f hit,miss,arcsz 1 5').
action(io_saturated_critical, _, 'Number of snapshots', 'zfs list -t snapshot | wc -l').
escalation(io_saturated_critical, 'Escalate when utilisation stays >= 95 % although the guest was throttled; plan a new device when less than 10 % of its endurance is left.').

probable_cause(cpu_steal_plus_disk_degraded, 'disk requests are done but their completion waits for a stolen vCPU; the host is short of processor and disk at once.').
action(cpu_steal_plus_disk_degraded, _, 'Steal before latency', 'vmstat 1 30').
action(cpu_steal_plus_disk_degraded, Node, 'Guests and their vCPUs', Run) :- format(atom(Run), 'pvesh get /nodes/~w/status', [Node]).
action(cpu_steal_plus_disk_degraded, _, 'Guests of the node', 'qm list').
action(cpu_steal_plus_disk_degraded, _, 'Work of the host itself', 'pidstat -u 1 5').
escalation(cpu_steal_plus_disk_degraded, 'Escalate when both remain after guests were moved away: then the whole rack lacks capacity, not one guest.').

probable_cause(arc_miss_plus_io_saturated, 'the working set fell out of the ARC and is read from disk again: balloons took the memory, or a data set outgrew the cache.').
action(arc_miss_plus_io_saturated, _, 'Size of the ARC', 'cat /proc/spl/kstat/zfs/arcstats').
action(arc_miss_plus_io_saturated, _, 'Target of the ARC', 'arcstat -f arcsz,c,hit,miss 1 5').
action(arc_miss_plus_io_saturated, _, 'Free memory', 'free -h').
action(arc_miss_plus_io_saturated, _, 'Reads by pool', 'zpool iostat -v').
escalation(arc_miss_plus_io_saturated, 'Escalate when misses do not fall within 10 minutes, or when less than 2 GB of memory is free: guests must then leave the node.').

probable_cause(zfs_resilvering_under_cpu_pressure, 'a resilver runs while its completions wait for stolen vCPUs; the pool stays degraded far longer than the estimate says.').
action(zfs_resilvering_under_cpu_pressure, _, 'Resilver in progress', 'zpool status -v | grep -A5 resilver').
action(zfs_resilvering_under_cpu_pressure, _, 'Time that remains', 'zpool status | grep scan').
action(zfs_resilvering_under_cpu_pressure, _, 'Share of the resilver', 'cat /sys/module/zfs/parameters/zfs_resilver_min_time_ms').
action(zfs_resilvering_under_cpu_pressure, Node, 'Guests that could leave', Run) :- format(atom(Run), 'pvesh get /nodes/~w/qemu', [Node]).
escalation(zfs_resilvering_under_cpu_pressure, 'Escalate at once when a second disk fails, and page the storage engineer when more than 4 hours remain. Nobody reboots the node meanwhile: the resilver would start again.').

runbook_response(Condition, Node, Text) :-
    conditions:alert_condition(Condition, _, Detail, _),
    topology:node_rack(Node, Rack),
    topology:rack_switch(Rack, Switch),
    probable_cause(Condition, Cause),
    escalation(Condition, Escalation),
    findall(Do-Run, action(Condition, Node, Do, Run), Actions),
    numbered(Actions, 1, Steps),
    atomic_list_concat(Steps, '\n', Numbered),
    format(atom(Text),
        '## Probable Cause\nOn ~w (~w, ~w) ~w: ~w\n\n## Immediate Actions\n~w\n\n## Escalation Criteria\n~w',
        [Node, Rack, Switch, Detail, Cause, Numbered, Escalation]).

numbered([], _, []).
numbered([Do-Run|Actions], Number, [Step|Steps]) :-
    format(atom(Step), '~w. ~w: `~w`', [Number, Do, Run]),
    Next is Number + 1,
    numbered(Actions, Next, Steps).
