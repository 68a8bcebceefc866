"""The words in which chat tasks over a ticket are put: instructions, frames and JSON keys."""

from __future__ import annotations

import json

from pick import Rng, between, chance, pick

Message = dict[str, str]
REPORT = (
    "ticket",
    "report",
    "message",
    "case",
    "issue",
    "incident report",
    "note",
    "customer message",
    "problem report",
    "complaint",
    "mail",
    "entry",
    "request",
    "description",
    "support ticket",
    "incident",
)
GRAVITY = (
    "severity",
    "gravity",
    "impact",
    "urgency",
    "seriousness",
    "severity level",
    "impact level",
    "class",
    "weight",
    "level",
    "grade",
    "rank",
    "category of impact",
    "true impact",
    "degree of harm",
)
RATE = (
    "Rate the {gravity} of this {report}.",
    "What is the {gravity} of the {report}?",
    "Give the {gravity} of the {report}.",
    "Assess the {report} and name its {gravity}.",
    "Judge this {report} by impact.",
    "Which label fits this {report}?",
    "Triage the {report}.",
    "Sort this {report} into one of the levels.",
    "How serious is this {report}?",
    "Decide the {gravity} for the {report}.",
    "Pick the right level for this {report}.",
    "Grade the {report}.",
    "Choose the label that fits the {report} best.",
    "How bad is it?",
    "Label this {report}.",
    "Which level is it?",
    "Determine the {gravity}.",
    "Read the {report} and choose one level.",
    "Estimate how grave this {report} is.",
    "You are on triage duty. Rate the {report}.",
    "Put this {report} into the right queue.",
    "Evaluate the {report}.",
    "As the duty engineer, set the {gravity}.",
    "Say how urgent this {report} is.",
    "What level would you give this {report}?",
    "Please classify this {report} by {gravity}.",
    "Set the {gravity} for the {report}.",
    "Which {gravity} applies here?",
    "Tell me the {gravity} of this {report}.",
    "Assign a level to this {report}.",
    "Mark the {report} with one label.",
    "I need the {gravity} for this {report}.",
    "Judge the real impact, not the tone.",
    "Map the {report} to one label.",
)
CHOOSE = (
    "Options: {o}.",
    "Choose from {o}.",
    "Labels: {o}.",
    "Use one of: {o}.",
    "Possible values: {o}.",
    "Levels: {o}.",
    "One of {o}.",
    "Pick from: {o}.",
    "Allowed answers: {o}.",
    "({o})",
    "Valid labels are {o}.",
    "Scale: {o}.",
    "The answer must be one of {o}.",
    "Select one: {o}.",
    "Available levels: {o}.",
)
BARE = (
    "Answer with the label only.",
    "Reply with one label.",
    "Just the label.",
    "Label only, no explanation.",
    "Give only the label.",
    "One label, nothing else.",
    "Say only which.",
    "No other words.",
    "Output the label.",
)
REASONED = (
    "Answer as 'label: reason'.",
    "Give the label, a colon and a short reason.",
    "Add a brief reason after a colon.",
    "Format: label: reason.",
    "State the label and why, in one line.",
    "Label first, then the reason.",
    "Explain in a few words.",
)
SENTENCE = (
    "Answer in one sentence.",
    "Use a full sentence.",
    "Reply with a short sentence.",
    "One short sentence please.",
)
STEPS = (
    "Think step by step, then give the label.",
    "Go through scope, function and way round, then decide.",
    "Show your reasoning in steps.",
    "Reason about the impact first.",
    "Explain scope, function and workaround, then conclude.",
)
JSON_ASK = (
    "Reply with JSON only: {s}",
    "Return a JSON object {s}.",
    "Answer in JSON like {s}",
    "Output one line of JSON: {s}",
    "Respond only with JSON of the form {s}.",
    "Give compact JSON: {s}",
    "JSON schema: {s}",
    "Use exactly this JSON shape: {s}",
    "Format: {s}",
    "Fill in this JSON: {s}",
    "Answer with a JSON object of this shape: {s}. No other text.",
    "Return plain JSON, {s}.",
    "Produce valid JSON: {s}",
)
JSON_WORDS = (
    "Reply with JSON only, with {s}.",
    "Return a JSON object with {s}.",
    "Answer in one line of JSON: {s}.",
    "JSON, please; fields: {s}.",
    "Output compact JSON with the keys {s}.",
    "Keys of the JSON answer: {s}.",
    "Give a JSON object. Fields: {s}.",
    "Use JSON with these keys: {s}.",
    "Only JSON, no prose. Keys: {s}.",
)
LEVEL_KEYS = (
    "severity",
    "impact",
    "urgency",
    "level",
    "grade",
    "class",
    "rank",
    "tier",
    "sev",
    "rating",
    "gravity",
    "lane",
    "triage",
    "band",
    "label",
    "queue",
    "importance",
    "category",
    "weight",
    "alert",
    "status",
    "escalation",
    "seriousness",
    "risk",
    "code",
    "value",
    "result",
    "answer",
    "verdict",
    "stage",
)
NOTE_KEYS = (
    "summary",
    "note",
    "gist",
    "title",
    "headline",
    "issue",
    "problem",
    "short",
    "subject",
    "what",
    "in_short",
    "description",
    "synopsis",
    "text",
    "brief",
    "about",
    "line",
    "topic",
    "digest",
    "one_line",
    "abstract",
    "finding",
)
WHY_KEYS = ("why", "reason", "because", "rationale", "explanation", "basis", "justification", "grounds", "comment")
NOTE_HINTS = (
    "a few words",
    "short summary",
    "3 to 8 words",
    "what is wrong",
    "one short phrase",
    "max 10 words",
    "gist",
    "brief text",
    "...",
    "short text",
    "the problem in short",
    "under ten words",
)
WHY_HINTS = ("short reason", "why", "a few words", "one phrase", "...", "reason in brief", "what decides it")
FRAMES = (
    "{i}\n\n{t}",
    "{i}\n{t}",
    "{t}\n\n{i}",
    "{t}\n{i}",
    "{i}\n\nTicket: {t}",
    '{i}\n\n"{t}"',
    "Ticket:\n{t}\n\n{i}",
    "{i}\n---\n{t}",
    "{i}\n<<<\n{t}\n>>>",
    "Report: {t}\n{i}",
    "{i}\n\nText: {t}",
    '"{t}"\n{i}',
    "{i} {t}",
    "### Ticket\n{t}\n\n### Task\n{i}",
    "Here is a ticket.\n{t}\n{i}",
    "{i}\n<ticket>{t}</ticket>",
    "Message: {t}\n\n{i}",
    "{i}\n\nDescription:\n{t}",
    "Input: {t}\n{i}",
    "{i}\n\nMessage:\n{t}",
    "Incident: {t}\n\n{i}",
    "{i}\n* {t}",
)
ROLES = (
    "You are a triage assistant.",
    "You are a helpful assistant.",
    "You sort support tickets.",
    "You work on a support desk.",
    "You are an incident manager.",
    "You are a careful duty engineer.",
    "You answer briefly.",
    "You help the support team.",
    "You are the first reader of incoming reports.",
    "Be brief and exact.",
    "You assess incidents by impact, not by tone.",
    "You are an assistant for operations.",
    "You are a dispatcher.",
    "Answer with what is asked and nothing else.",
)


def system(content: str) -> Message:
    """A system message."""
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    """A user message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An assistant message."""
    return {"role": "assistant", "content": content}


def compact(value: object) -> str:
    """One-line JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def instruction(rng: Rng, options: str) -> str:
    """A request for a severity label."""
    text = pick(rng, RATE).format(gravity=pick(rng, GRAVITY), report=pick(rng, REPORT))
    return f"{text} {pick(rng, CHOOSE).format(o=options)}"


def chat(rng: Rng, ask: str, text: str, answer: str, rules: str = "") -> list[Message]:
    """One turn: the instruction and the text framed, or the instruction in the system message and the text alone."""
    roll = rng.random()
    if roll < 0.3:
        lead = f"{pick(rng, ROLES)} " if chance(rng, 0.6) else ""
        glue = "\n" if "\n" in rules else " "
        content = f"{lead}{ask}{glue}{rules}" if rules else lead + ask
        body = text if chance(rng, 0.8) else f"{pick(rng, ('Ticket', 'Report', 'Message', 'Text', 'Input'))}: {text}"
        return [system(content), user(body), assistant(answer)]
    if roll < 0.45:
        head = [system(f"{pick(rng, ROLES)}{chr(10) + rules if rules else ''}")]
        return [*head, user(frame(rng, ask, text)), assistant(answer)]
    if rules:
        ask = f"{rules}\n{ask}" if chance(rng, 0.4) else f"{ask}\n{rules}"
    return [user(frame(rng, ask, text)), assistant(answer)]


def frame(rng: Rng, ask: str, text: str) -> str:
    """Instruction and text in one message."""
    form = pick(rng, FRAMES)
    if "\n" in ask and form in ("{i} {t}", "{i}\n{t}"):
        form = "{i}\n\n{t}"
    return form.replace("{i}", ask).replace("{t}", text)


def json_request(rng: Rng, fields: list[tuple[str, str]]) -> str:
    """A request for JSON that names the keys; fields are (key, what belongs there)."""
    style = between(rng, 0, 4)
    if style <= 1:
        shape = "{" + ",".join(f'"{key}":"{hint}"' for key, hint in fields) + "}"
    elif style == 2:
        shape = "{" + ", ".join(f'"{key}": <{hint}>' for key, hint in fields) + "}"
    else:
        form = '"{}" ({})' if style == 3 else "{} = {}"
        parts = [form.format(key, hint) for key, hint in fields]
        given = (" and " if style == 3 else ", ").join(parts)
        return pick(rng, JSON_WORDS).replace("{s}", given)
    return pick(rng, JSON_ASK).replace("{s}", shape)
