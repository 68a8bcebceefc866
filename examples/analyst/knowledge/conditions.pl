% What raises an alert. A condition holds when every one of its thresholds is reached at the same time.
:- module(conditions, [alert_condition/4, threshold/5, breached/2]).

severity(cpu_steal_critical, critical).
severity(disk_latency_critical, critical).
severity(io_saturated_critical, critical).
severity(cpu_steal_plus_disk_degraded, warning).
severity(arc_miss_plus_io_saturated, warning).
severity(zfs_resilvering_under_cpu_pressure, critical).

% threshold(Condition, Metric, Operator, Value, Unit)
threshold(cpu_steal_critical, cpu_steal, >=, 40, '%').
threshold(disk_latency_critical, disk_latency, >=, 5, ms).
threshold(io_saturated_critical, io_utilisation, >=, 95, '%').
threshold(cpu_steal_plus_disk_degraded, cpu_steal, >=, 10, '%').
threshold(cpu_steal_plus_disk_degraded, disk_latency, >=, 0.5, ms).
threshold(arc_miss_plus_io_saturated, arc_miss, >=, 20, '%').
threshold(arc_miss_plus_io_saturated, io_utilisation, >=, 70, '%').
threshold(zfs_resilvering_under_cpu_pressure, arc_miss, >=, 20, '%').
threshold(zfs_resilvering_under_cpu_pressure, cpu_steal, >=, 10, '%').

% The detail of an alert is written from its thresholds, so that the two cannot disagree.
alert_condition(Condition, Severity, Detail, breached(Condition, _Sample)) :-
    severity(Condition, Severity),
    findall(Text, limit_text(Condition, Text), Texts),
    atomic_list_concat(Texts, ' and ', Detail).

limit_text(Condition, Text) :-
    threshold(Condition, Metric, Operator, Value, Unit),
    format(atom(Text), '~w ~w ~w ~w', [Metric, Operator, Value, Unit]).

% Sample is a list of Metric-Value pairs: what the monitoring measured in the same minute.
breached(Condition, Sample) :-
    severity(Condition, _),
    forall(threshold(Condition, Metric, >=, Limit, _), ( memberchk(Metric-Value, Sample), Value >= Limit )).
