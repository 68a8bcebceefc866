"""Operations text and chats: alerts with runbook answers, telemetry, logs, configurations, prose, post-mortems."""

from __future__ import annotations

import slots
from opsdata import CONDITIONS, CONFIGS, LEVELS, LOGS, PROSE, USERS, Condition
from pick import Rng, between, capital, chance, pick, sample
from wording import Message, assistant, compact, system, user

Chat = list[Message]
slots.FILL["user"] = lambda rng: pick(rng, USERS)
slots.FILL["level"] = lambda rng: pick(rng, LEVELS)
COUNTDOWN = ("cert_days_left", "ups_minutes")
GRADES = (
    ("info", "warning", "critical"),
    ("notice", "warning", "alarm"),
    ("minor", "major", "severe"),
    ("ok", "warn", "crit"),
    ("green", "amber", "red"),
)


def alert(rng: Rng) -> tuple[str, Condition, str, int, int]:
    """An alert: its text, condition, node, value and threshold."""
    c = pick(rng, CONDITIONS)
    node = slots.host(rng) if c.plane != "service" else slots.service(rng)
    value = between(rng, c.low, c.high)
    limit = max(1, int(c.low * (0.6 + 0.4 * rng.random())))
    if c.metric in COUNTDOWN:
        limit = c.high + between(rng, 0, 7)
    unit = f" {c.unit}" if c.unit and c.unit != "%" else c.unit
    grade = pick(rng, ("warning", "critical", "alarm", "major", "notice", "red", "page"))
    form = pick(
        rng,
        (
            "ALERT {name} on {node}: {metric} is {v} (threshold {t}), severity {g}",
            "[{g}] {node} {metric}={v} limit={t}: {name}",
            "node: {node}\ncondition: {name}\nvalue: {v}\nthreshold: {t}\nseverity: {g}",
            "{node}: {name}, {v} now, limit {t}",
            "Firing: {name} ({plane})\nInstance: {node}\nValue: {v}, threshold {t}",
            "{clock} {node} reports {name}: {metric} {v}, allowed {t}",
            "json",
        ),
    )
    if form == "json":
        text = compact(
            {
                "node": node,
                "condition": c.name,
                "metric": c.metric,
                "value": value,
                "threshold": limit,
                "severity": grade,
            }
        )
    else:
        text = form.format(
            name=c.name,
            node=node,
            metric=c.metric,
            v=f"{value}{unit}",
            t=f"{limit}{unit}",
            g=grade,
            plane=c.plane,
            clock=slots.clock(rng),
        )
    return text, c, node, value, limit


def runbook(rng: Rng, c: Condition) -> str:
    """Cause, actions and escalation."""
    actions = list(c.actions)
    style = between(rng, 0, 3)
    cause = " or ".join(c.causes[:2]) if chance(rng, 0.6) else c.causes[0]
    if style == 0:
        return f"Probable cause: {cause}. Actions: {'; '.join(actions)}. Escalate to: {c.escalate}."
    if style == 1:
        return (
            f"Cause: {cause}.\n"
            + "\n".join(f"{i}. {capital(a)}." for i, a in enumerate(actions, 1))
            + f"\nIf it persists, call the {c.escalate}."
        )
    if style == 2:
        return (
            f"{capital(cause)} is likely. First {', then '.join(actions)}. "
            f"The {c.escalate} takes over if this does not help."
        )
    return f"Likely {cause}.\nDo now: {', '.join(actions)}.\nEscalation: {c.escalate}."


def runbook_chat(rng: Rng) -> Chat:
    """What to do about an alert."""
    text, c, _, _, _ = alert(rng)
    ask = pick(
        rng,
        (
            "What is the probable cause and what do we do?",
            "Give cause, actions and escalation.",
            "Write a short runbook answer.",
            "What now?",
            "Probable cause, immediate actions, escalation?",
            "How do I handle this alert?",
            "Advise the engineer on duty.",
            "What should be done first, and who is next?",
        ),
    )
    if chance(rng, 0.2):
        keys = pick(rng, (("cause", "action", "team"), ("why", "do", "escalate"), ("reason", "first_step", "owner")))
        return [
            user(f"{ask} JSON with keys {', '.join(keys)}.\n{text}"),
            assistant(compact(dict(zip(keys, (c.causes[0], c.actions[0], c.escalate), strict=False)))),
        ]
    if chance(rng, 0.3):
        return [system(f"You are the operations assistant. {ask}"), user(text), assistant(runbook(rng, c))]
    return [user(f"{text}\n{ask}" if chance(rng, 0.6) else f"{ask}\n{text}"), assistant(runbook(rng, c))]


def alert_facts(rng: Rng) -> Chat:
    """One to three questions on an alert's fields."""
    text, c, node, value, limit = alert(rng)
    asks = [
        ("Which node is it?", node),
        ("What is the value?", str(value)),
        ("What is the threshold?", str(limit)),
        ("What is the condition?", c.name),
        ("Who takes it if the first steps fail?", c.escalate),
        ("What is the first step?", capital(c.actions[0]) + "."),
        ("What is the likely cause?", capital(c.causes[0]) + "."),
        ("Sum it up in one line.", f"{c.name} on {node}"),
        ("As JSON with node and value.", compact({"node": node, "value": value})),
    ]
    if value != limit and c.metric not in COUNTDOWN:
        asks.append(("Is the value above the threshold?", "yes" if value > limit else "no"))
    chosen = sample(rng, asks, pick(rng, (1, 1, 2, 3)))
    if "threshold" not in text and "limit" not in text and "allowed" not in text:
        chosen = [asks[0]]
    chat: Chat = []
    for ask, answer in chosen:
        chat += [user(f"{text}\n{ask}" if not chat else ask), assistant(answer)]
    return chat


def telemetry(rng: Rng) -> Chat:
    """A measured value against its baseline."""
    c = pick(rng, [c for c in CONDITIONS if c.high > 150 and c.metric not in COUNTDOWN])
    node, base = slots.host(rng), between(rng, 20, 60)
    kind = between(rng, 0, 3)
    value = base + (between(rng, -3, 3), between(rng, 12, 25), between(rng, 70, 400), -between(rng, 12, 19))[kind]
    reading = (
        ("normal", "within the usual range"),
        ("raised", "above the baseline, keep watching"),
        ("abnormal", "far above the baseline, act now"),
        ("lowered", "below the baseline, check whether traffic is missing"),
    )[kind]
    event = f"{node} {c.metric}: {value} (baseline {base})"
    if chance(rng, 0.5):
        event = compact({"node": node, "metric": c.metric, "value": value, "baseline": base})
    options = sample(rng, ("normal", "raised", "abnormal", "lowered"), 4)
    ask, answer = pick(
        rng,
        (
            (f"Interpret the event. One of {', '.join(options)}.", reading[0]),
            (f"One of {', '.join(options)}, with a short reason.", f"{reading[0]}: {reading[1]}"),
            ("What does this reading mean?", f"{c.metric} on {node} is {reading[1]}."),
            ("Difference to the baseline?", str(value - base)),
            ('Reply as {"state":"...","delta":0}', compact({"state": reading[0], "delta": value - base})),
        ),
    )
    rule = (
        "normal: within 5 of the baseline; raised: 10 to 30 above; "
        "abnormal: more than 60 above; lowered: 10 or more below."
    )
    lead = [system(rule)] if chance(rng, 0.3) else []
    return [*lead, user(f"{'' if lead else rule + chr(10)}{event}\n{ask}"), assistant(answer)]


def thresholds(rng: Rng) -> Chat:
    """Grade a value by two thresholds given in the prompt."""
    names = pick(rng, GRADES)
    warn = between(rng, 20, 60)
    crit = warn + between(rng, 10, 35)
    value = between(rng, 1, 99)
    grade = names[0] if value < warn else names[1] if value < crit else names[2]
    metric = pick(rng, CONDITIONS).metric
    ask = pick(
        rng,
        (
            "{m}: {n1} from {w}, {n2} from {c}, else {n0}. The value is {v}. Which?",
            "Rule: below {w} {n0}; {w} or more {n1}; {c} or more {n2}. {m} = {v}. Grade?",
        ),
    )
    return [
        user(ask.format(m=metric, n0=names[0], n1=names[1], n2=names[2], w=warn, c=crit, v=value)),
        assistant(grade),
    ]


def log_lines(rng: Rng, count: int, memo: dict[str, str]) -> list[str]:
    """Log lines of one machine in order of time."""
    return sorted(slots.fill(rng, pick(rng, LOGS), memo) for _ in range(count))


def log_chat(rng: Rng) -> Chat:
    """A question over log lines."""
    memo: dict[str, str] = {}
    lines = log_lines(rng, between(rng, 2, 5), memo)
    body = "\n".join(lines)
    errors = sum("ERROR" in line for line in lines)
    ask, answer = pick(
        rng,
        (
            ("How many lines are these?", str(len(lines))),
            ("How many lines say ERROR?", str(errors)),
            ("Copy the last line.", lines[-1]),
            ("Copy the first line.", lines[0]),
            ("Is there an ERROR line?", "yes" if errors else "no"),
            ("When is the first entry?", lines[0].split()[0]),
            ("When is the last entry?", lines[-1].split()[0]),
        ),
    )
    return [user(f"{body}\n{ask}" if chance(rng, 0.6) else f"{ask}\n{body}"), assistant(answer)]


def logs(rng: Rng) -> str:
    """Plain text: a log."""
    return "\n".join(log_lines(rng, between(rng, 3, 8), {}))


def prose(rng: Rng) -> str:
    """Plain text: some sentences."""
    memo: dict[str, str] = {}
    return " ".join(slots.fill(rng, text, memo) for text in sample(rng, PROSE, between(rng, 2, 6)))


def config(rng: Rng) -> str:
    """Plain text: a configuration."""
    return slots.fill(rng, pick(rng, CONFIGS), {})


def runbook_page(rng: Rng) -> str:
    """Plain text: a runbook page or an alert with its answer."""
    text, c, _, _, _ = alert(rng)
    if chance(rng, 0.5):
        return f"{text}\n{runbook(rng, c)}"
    steps = "\n".join(f"{i}. {capital(a)}." for i, a in enumerate(c.actions, 1))
    causes = "\n".join(f"- {cause}" for cause in c.causes)
    return (
        f"# Runbook: {c.name}\n\nArea: {c.plane}\nMetric: {c.metric}\n\n## Probable causes\n{causes}\n\n"
        f"## Actions\n{steps}\n\n## Escalation\n{capital(c.escalate)}\n"
    )


def postmortem(rng: Rng) -> str:
    """Plain text: a short report after an incident."""
    c = pick(rng, CONDITIONS)
    start, length = between(rng, 0, 20), between(rng, 5, 58)
    last = pick(
        rng,
        (
            "No data was lost.",
            "Customers were informed.",
            "The alert fired in time.",
            "The alert came late.",
            "The spare took over.",
        ),
    )
    return slots.fill(
        rng,
        f"Incident report\nWhat happened: {c.name} on {{host1}}.\n"
        f"Start: {start:02d}:00. End: {start:02d}:{length:02d}. Duration: {length} minutes.\n"
        f"Cause: {pick(rng, c.causes)}.\nWhat helped: {pick(rng, c.actions)}.\n"
        f"Follow-up: {{name}} of the {{team}} team will report by {{day}}.\n{last}",
        {},
    )


CHATS = (runbook_chat, runbook_chat, alert_facts, alert_facts, telemetry, thresholds, log_chat)
TEXTS = (logs, prose, prose, prose, config, runbook_page, runbook_page, postmortem)


def ops_chat(rng: Rng) -> Chat:
    """Any operations chat."""
    return pick(rng, CHATS)(rng)


def ops_text(rng: Rng) -> str:
    """Any operations text."""
    return pick(rng, TEXTS)(rng)
