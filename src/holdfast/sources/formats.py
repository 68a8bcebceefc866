"""One function for each format of a row: it turns one object into turns. What it cannot read it reports.

Field names are those of the tools that write such files; where tools disagree, every name is known and two that
contradict each other in one row are a defect.
"""

from collections.abc import Sequence
from typing import Any

from holdfast.sources.defects import Problem, Turns, names_of, short

SPEAKERS = {
    "human": "user", "user": "user", "input": "user",
    "gpt": "assistant", "assistant": "assistant", "output": "assistant", "system": "system",
}  # fmt: skip
TOOL_SPEAKERS = frozenset({"tool", "function_call", "observation", "function_response", "tool_call"})
QUESTIONS = ("instruction", "INSTRUCTION", "question")
ANSWERS = ("output", "expected", "response", "RESPONSE", "answer")
SYSTEMS = ("system", "system_prompt")
INPUTS = ("input", "context")
MESSAGES_KEYS = frozenset({"messages"})
CONVERSATIONS_KEYS = frozenset({"conversations"})


def read_messages(row: dict[str, Any]) -> Turns:
    """`{"messages": [{"role", "content"}, …]}`: the OpenAI chat format; some tools call the list `conversations`."""
    key, used = ("messages", MESSAGES_KEYS) if "messages" in row else ("conversations", CONVERSATIONS_KEYS)
    turns, problems = _role_turns(row.get(key), key)
    return Turns(turns, used, problems)


def _role_turns(messages: Any, key: str) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    if type(messages) is not list:
        return [], [Problem("messages", f"`{key}` must be a list of turns", short(messages))]
    turns: list[tuple[Any, Any]] = []
    problems: list[Problem] = []
    for number, turn in enumerate(messages, 1):
        if type(turn) is dict and len(turn) == 2 and "role" in turn and "content" in turn:
            turns.append((turn["role"], turn["content"]))
            continue
        if not isinstance(turn, dict):
            problems.append(Problem("turn", f"turn {number} must be an object with role and content", short(turn)))
            continue
        extra = sorted(key for key, value in turn.items() if key not in ("role", "content") and value is not None)
        if turn.get("role") == "tool" or turn.get("tool_calls"):
            problems.append(Problem("tool_turn", f"turn {number}: tools are not supported yet", short(turn)))
        elif extra:
            names = names_of(extra)
            problems.append(Problem("turn_keys", f"turn {number} has keys that would be lost", names))
        turns.append((turn.get("role"), turn.get("content")))
    return turns, problems


def read_sharegpt(row: dict[str, Any]) -> Turns:
    """`{"conversations": [{"from": "human" | "gpt" | "system", "value"}, …], "system"?}`."""
    used = frozenset({"conversations", "system"})
    turns, problems = _speaker_turns(row.get("conversations"), "conversations")
    return Turns(*_with_system(row, turns, problems, used))


def _speaker_turns(conversation: Any, key: str) -> tuple[list[tuple[Any, Any]], list[Problem]]:
    if not isinstance(conversation, list):
        return [], [Problem("conversations", f"`{key}` must be a list of turns", short(conversation))]
    turns: list[tuple[Any, Any]] = []
    problems: list[Problem] = []
    for number, turn in enumerate(conversation, 1):
        if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
            problems.append(Problem("turn", f"turn {number} must be an object with from and value", short(turn)))
            continue
        extra = [name for name, value in turn.items() if name not in ("from", "value") and value is not None]
        if extra:
            names = names_of(sorted(extra))
            problems.append(Problem("turn_keys", f"turn {number} has keys that would be lost", names))
        speaker = turn["from"]
        role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
        if isinstance(speaker, str) and speaker in TOOL_SPEAKERS:
            problems.append(Problem("tool_turn", f"turn {number}: tools are not supported yet", short(speaker)))
        elif role is None:
            known = ", ".join(SPEAKERS)
            problems.append(Problem("role", f"turn {number} has an unknown speaker; known: {known}", short(speaker)))
        turns.append((role, turn["value"]))
    return turns, problems


def _with_system(
    row: dict[str, Any], turns: list[tuple[Any, Any]], problems: list[Problem], used: frozenset[str]
) -> tuple[list[tuple[Any, Any]], frozenset[str], list[Problem]]:
    system = row.get("system")
    if system is None or system == "":
        return turns, used, problems
    if turns and turns[0][0] == "system":
        both = Problem("two_systems", "`system` and a system turn are given: which one counts?", short(system))
        return turns, used, [*problems, both]
    return [("system", system), *turns], used, problems


def read_instruction(row: dict[str, Any]) -> Turns:
    """`{"instruction", "input"?, "output" | "expected", "system"?, "history"?}`: the Alpaca format and relatives.

    Where there is no `input`, `context` is it, as in Dolly and in questions about a text.
    """
    turns, used, problems = _question(row)
    answer, answer_keys = _pick(row, ANSWERS, "two_answers", problems)
    used |= answer_keys
    if answer is None:
        problems.append(Problem("no_answer", "`output` (or `expected`) is missing", names_of(sorted(row))))
    return Turns([] if problems else [*turns, ("assistant", answer)], used, problems)


def _question(row: dict[str, Any]) -> tuple[list[tuple[Any, Any]], frozenset[str], list[Problem]]:
    """System turn, history and question of a row in the Alpaca format."""
    problems: list[Problem] = []
    question, question_keys = _pick(row, QUESTIONS, "two_instructions", problems)
    system, system_keys = _pick(row, SYSTEMS, "two_systems", problems)
    given_key = next((name for name in INPUTS if name in row), "input")
    given = row.get(given_key)
    for key, value in ((given_key, given), ("system", system)):
        if value is not None and not isinstance(value, str):
            problems.append(Problem("content_type", f"`{key}` must be text", short(value)))
    if not isinstance(question, str) or not question.strip():
        problems.append(Problem("instruction", "`instruction` is missing or empty", short(question)))
    turns: list[tuple[Any, Any]] = [("system", system)] if system else []
    for pair in _history(row, problems):
        turns += [("user", pair[0]), ("assistant", pair[1])]
    if not problems:
        asked = f"{question}\n\n{given}" if given and given.strip() else question
        turns.append(("user", asked))
    return turns, frozenset({given_key, "history"}) | question_keys | system_keys, problems


def _history(row: dict[str, Any], problems: list[Problem]) -> Sequence[Any]:
    history = row.get("history")
    if not history:
        return ()
    if isinstance(history, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        return history
    problems.append(Problem("history", "`history` must be a list of [question, answer] pairs", short(history)))
    return ()


def _pick(row: dict[str, Any], names: Sequence[str], rule: str, problems: list[Problem]) -> tuple[Any, frozenset[str]]:
    """The one value that stands under any of the names, and the names that the row has."""
    present = [name for name in names if name in row]
    values = [row[name] for name in present if row[name] is not None]
    if any(value != values[0] for value in values[1:]):
        what = " and ".join(f"`{name}`" for name in present)
        problems.append(Problem(rule, f"{what} differ: which one counts?", short(values)))
    return (values[0] if values else None), frozenset(present)


def read_prompt_completion(row: dict[str, Any]) -> Turns:
    """`{"prompt", "completion"}`, each a text or a list of messages."""
    used = frozenset({"prompt", "completion"})
    problems: list[Problem] = []
    turns = _turns_of(row.get("prompt"), "prompt", "user", problems)
    turns += _turns_of(row.get("completion"), "completion", "assistant", problems)
    if isinstance(row.get("label"), bool):
        what = "`label` marks good and bad answers (KTO), which is not supported and would be lost"
        problems.append(Problem("meaningful_key", what, short(row["label"])))
    return Turns(turns, used, problems)


def _turns_of(value: Any, key: str, role: str, problems: list[Problem]) -> list[tuple[Any, Any]]:
    """The turns of a text, of one message, or of a list of messages (roles or speakers)."""
    if isinstance(value, str):
        return [(role, value)]
    if value is None:
        problems.append(Problem("missing", f"`{key}` is missing", short(value)))
        return []
    messages = [value] if isinstance(value, dict) else value
    spoken = isinstance(messages, list) and any(isinstance(turn, dict) and "from" in turn for turn in messages)
    turns, found = (_speaker_turns if spoken else _role_turns)(messages, key)
    problems += (Problem(p.rule, f"`{key}`: {p.message}", p.value) for p in found)
    return turns


def read_preference(row: dict[str, Any]) -> Turns:
    """`{"prompt"?, "chosen", "rejected"}`: a better and a worse answer. Only the better one is trained and scored.

    The prompt is given (`prompt`, `conversations`, `messages` or `instruction`), or it is what both conversations begin
    with. Each answer is a text, a message, or a list of messages.
    """
    used = frozenset({"prompt", "chosen", "rejected"})
    problems: list[Problem] = []
    prompt: list[tuple[Any, Any]] = []
    if row.get("prompt") is not None:
        prompt = _turns_of(row["prompt"], "prompt", "user", problems)
    elif row.get("conversations") is not None:
        prompt = _turns_of(row["conversations"], "conversations", "user", problems)
        prompt, used, problems = _with_system(row, prompt, problems, used | {"conversations", "system"})
    elif row.get("messages") is not None:
        prompt, used = _turns_of(row["messages"], "messages", "user", problems), used | {"messages"}
    elif any(name in row for name in QUESTIONS):
        prompt, more, problems = _question(row)
        used |= more
    chosen = _turns_of(row.get("chosen"), "chosen", "assistant", problems)
    rejected = _turns_of(row.get("rejected"), "rejected", "assistant", problems)
    if problems:
        return Turns([], used, problems)
    shared = prompt or (chosen[:-1] if len(chosen) > 1 else [])
    better, worse = (_answer_after(shared, turns) for turns in (chosen, rejected))
    if better is None or worse is None:
        which = "chosen" if better is None else "rejected"
        what = f"`{which}` must be one answer to the prompt, or the prompt's turns and one answer"
        return Turns([], used, [Problem("preference", what, short(row[which]))])
    if not shared:
        return Turns([], used, [Problem("no_prompt", "there is no prompt: give `prompt`, or whole conversations",
                                        names_of(sorted(row)))])  # fmt: skip
    if worse[0] != "assistant":
        return Turns([], used, [Problem("last_turn", "`rejected` must end with the assistant's turn", short(worse[0]))])
    rejected_text = worse[1] if worse[1] is not None else ""
    return Turns([*shared, better], used, [], rejected_text)


def _answer_after(prompt: list[tuple[Any, Any]], turns: list[tuple[Any, Any]]) -> tuple[Any, Any] | None:
    """The one turn that follows the prompt, whether the prompt is repeated before it or not."""
    if len(turns) == 1:
        return turns[0]
    return turns[-1] if turns and turns[:-1] == prompt else None
