"""Ollama's Modelfile. Its Go template is derived from the chat template by rendering marked conversations.

Ollama's format: https://github.com/ollama/ollama/blob/main/docs/modelfile.md, template.md (`.Messages`, `.Role`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core.chat_template import stop_tokens, template_of

TEMPERATURE = 0.2
_SYSTEM, _USER, _ANSWER, _NEXT = "\u27e6system\u27e7", "\u27e6user\u27e7", "\u27e6answer\u27e7", "\u27e6next\u27e7"


class ChatFormat(NamedTuple):
    """The constant texts of a chat template, each pair before and after a message.

    `default` stands before a conversation without system message; `system` is None when the template refuses one.
    """

    default: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    ask: str

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """What Ollama makes of (role, content) pairs with our template."""
        parts = {"system": self.system or ("", ""), "user": self.user, "assistant": self.assistant}
        start = "" if messages[0][0] == "system" else self.default
        return start + "".join(parts[role][0] + text + parts[role][1] for role, text in messages) + self.ask


class ModelfileParts(NamedTuple):
    """What a Modelfile says. n_ctx and num_predict are in tokens."""

    gguf: str
    folder: Path
    system_prompt: str
    n_ctx: int
    num_predict: int


def render_modelfile(parts: ModelfileParts) -> str:
    """The text of a Modelfile for a merged model in `parts.folder`, next to the GGUF file that it names."""
    format_ = derive_format(parts.folder)
    lines = ["# Made by holdfast. Use: ollama create NAME -f Modelfile", f"FROM ./{parts.gguf}", ""]
    if format_ is None:
        lines += [
            "# No TEMPLATE: the chat template does more than put fixed texts around messages, so it cannot be written",
            "# in Ollama's language. Ollama guesses one from the GGUF file; check with: ollama show --template NAME",
        ]
    else:
        if _trims(parts.folder):
            lines += [
                "# The chat template cuts spaces and line ends around a message, Ollama's language cannot:",
                "# send messages without them.",
            ]
        lines.append(f'TEMPLATE """{go_template(format_)}"""')
    if parts.system_prompt:
        if format_ is not None and format_.system is None:
            lines.append("# No SYSTEM: the chat template takes no system message.")
        elif '"""' in parts.system_prompt:
            lines.append(
                '# No SYSTEM: the system prompt contains """, which a Modelfile cannot hold. Send it yourself.'
            )
        else:
            lines.append(f'SYSTEM """{parts.system_prompt}"""')
    for stop in stop_texts(parts.folder, format_):
        lines.append(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}")
    lines += [
        f"PARAMETER num_ctx {parts.n_ctx}",
        f"PARAMETER temperature {TEMPERATURE}",
        f"PARAMETER num_predict {parts.num_predict}",
    ]
    return "\n".join(lines) + "\n"


def go_template(format_: ChatFormat) -> str:
    """Ollama's TEMPLATE for a chat format."""
    roles = (("system", format_.system), ("user", format_.user), ("assistant", format_.assistant))
    known = [(role, pair) for role, pair in roles if pair is not None]
    branches = "".join(
        f'{{{{ {"if" if number == 0 else "else if"} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
        for number, (role, (before, after)) in enumerate(known)
    )
    default = f"{{{{ if not .System }}}}{format_.default}{{{{ end }}}}" if format_.default else ""
    return f"{default}{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{format_.ask}"


def derive_format(folder: Path) -> ChatFormat | None:
    """The constant texts of the chat template in a model folder, or None when it is not made of constant texts.

    A guess from five short conversations is accepted only when it renders other, longer ones exactly like the template.
    The beginning-of-text token is left out when the GGUF file tells the runtime to add it.
    """
    from jinja2 import TemplateError

    template, tokens = _read_template(folder)
    if template is None:
        return None
    try:
        format_ = _guess(template, tokens)
        if format_ is None:
            return None
        talks = ((1, 0), (3, 0), (5, 0), (1, 1), (3, 1), (5, 1))
        for turns, system in talks[: 6 if format_.system else 3]:
            talk = [("system", "S 1.")] * system
            talk += [("assistant" if n % 2 else "user", f"T {n}\nline") for n in range(turns)]
            if format_.render(talk) != _render(template, tokens, talk, ask=True):
                return None
    except (TemplateError, TypeError, ValueError, KeyError):
        return None
    bos = tokens.get("bos_token") or ""
    if bos and _adds_bos(folder):
        format_ = format_._replace(
            default=format_.default.removeprefix(bos),
            system=format_.system and (format_.system[0].removeprefix(bos), format_.system[1]),
        )
    texts = (format_.default, *(format_.system or ()), *format_.user, *format_.assistant, format_.ask)
    return None if any("{{" in text or '"""' in text for text in texts) else format_


def _trims(folder: Path) -> bool:
    """Whether the chat template, which `derive_format` has understood, cuts the white space around a message."""
    template, tokens = _read_template(folder)
    return template is not None and "\n m \n" not in _render(template, tokens, [("user", "\n m \n")], ask=True)


def _guess(template: str, tokens: dict[str, str]) -> ChatFormat | None:
    """Cut rendered conversations at the marks; None when a mark is missing or the pieces do not fit each other."""
    from jinja2 import TemplateError

    def cut(*roles: str, ask: bool = False) -> list[str] | None:
        marks = {"system": [_SYSTEM], "user": [_USER, _NEXT], "assistant": [_ANSWER]}
        talk = [(role, marks[role][roles[:n].count(role)]) for n, role in enumerate(roles)]
        text = _render(template, tokens, talk, ask=ask)
        pieces = []
        for _, mark in talk:
            before, found, text = text.partition(mark)
            if not found:
                return None
            pieces.append(before)
        return [*pieces, text]

    only, asked = cut("user"), cut("user", ask=True)
    answered, again = cut("user", "assistant"), cut("user", "assistant", "user")
    if only is None or asked is None or answered is None or again is None:
        return None
    try:
        with_system = cut("system", "user")
    except TemplateError:
        with_system = None
    user_end = only[1]
    answer_end = answered[2]
    fits = asked[1].startswith(user_end) and again[1].startswith(user_end) and again[2].startswith(answer_end)
    user_start = again[2][len(answer_end) :]
    heads = [only[0], *([with_system[1]] if with_system else [])]
    if not fits or not all(head.endswith(user_start) for head in heads):
        return None
    return ChatFormat(
        default=only[0][: len(only[0]) - len(user_start)],
        system=(with_system[0], with_system[1][: len(with_system[1]) - len(user_start)]) if with_system else None,
        user=(user_start, user_end),
        assistant=(again[1][len(user_end) :], answer_end),
        ask=asked[1][len(user_end) :],
    )


def stop_texts(folder: Path, format_: ChatFormat | None) -> list[str]:
    """Texts that end an answer: the end tokens of the model, and the token that the chat template puts after one."""
    added = {t["id"]: t["content"] for t in _read(folder / "tokenizer.json").get("added_tokens") or []}
    texts = [added.get(number) for number in stop_tokens(folder)]
    texts.append(_text(_read(folder / "tokenizer_config.json").get("eos_token")))
    if format_ is not None:
        texts += [text for text in added.values() if text == format_.assistant[1].strip()]
    return list(dict.fromkeys(text for text in texts if text))


def _render(template: str, tokens: dict[str, str], talk: Sequence[tuple[str, str]], *, ask: bool) -> str:
    """Render as transformers does: sandboxed, blocks trimmed."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> str:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = refuse
    messages = [{"role": role, "content": text} for role, text in talk]
    values: dict[str, Any] = {**tokens, "messages": messages, "add_generation_prompt": ask}
    return environment.from_string(template).render(**values)


def _read_template(folder: Path) -> tuple[str | None, dict[str, str]]:
    settings = _read(folder / "tokenizer_config.json")
    tokens = {name: _text(settings[name]) for name in ("bos_token", "eos_token", "pad_token") if settings.get(name)}
    return template_of(folder), tokens


def _adds_bos(folder: Path) -> bool:
    from gguf import SpecialVocab

    return SpecialVocab(folder).add_special_token.get("bos", False)


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token or "")


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}
