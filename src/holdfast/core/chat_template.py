"""What holdfast settles in a chat template, so that what is asked at any time is what was trained.

Thoughts (Qwen3's `enable_thinking`): such a template writes an empty block of thoughts before the last answer, and into
the prompt only when the switch is off. Left on, the text that asks is not the beginning of the text that was trained
(decision 0021).

The date (Llama 3's `date_string`, also asked from `strftime_now`): such a template writes the day into every prompt.
Tomorrow's prompt would be another one than was trained and measured; and llama.cpp sets `date_string` to today itself
where transformers leaves it alone, so that not even today's would be the same (decision 0022).

Both are set in the template itself, so that every server that reads an exported file renders what was trained.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

SWITCH = "enable_thinking"
OFF = "{% set enable_thinking = false %}"
DATE = "date_string"
CALL = re.compile(r"\bstrftime_now\s*\(")
NOW = re.compile(CALL.pattern + r"""\s*(?P<quote>["'])(?P<format>[^"'\\]*)(?P=quote)\s*\)""")
DAY = datetime(2024, 7, 26)  # what Llama 3.1's template always writes, and 3.2's where there is no clock
DATED = f'{{% set {DATE} = "{DAY:%d %b %Y}" %}}'


def has_switch(template: str) -> bool:
    """Whether a chat template asks for the switch."""
    return SWITCH in template


def has_date(template: str) -> bool:
    """Whether a chat template writes the date, in a form that can be settled."""
    return DATE in template or NOW.search(template) is not None


def keeps_clock(template: str) -> bool:
    """Whether a chat template writes the time in a form that cannot be settled."""
    return CALL.search(NOW.sub("", template)) is not None


def settled(template: Any) -> Any:
    """The template with its switch off and one date; what has neither, or is no text, as it is. Twice is once."""
    if not isinstance(template, str):
        return template
    text = NOW.sub(lambda call: call["quote"] + DAY.strftime(call["format"]) + call["quote"], template)
    settings = [OFF] * has_switch(text) + [DATED] * (DATE in text)
    return "".join(setting for setting in settings if setting not in text) + text


def template_of(folder: Path) -> str | None:
    """The chat template of a model's folder, as transformers chooses it; None without one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    template = json.loads(settings.read_bytes()).get("chat_template") if settings.is_file() else None
    return template if isinstance(template, str) else None


def stop_tokens(folder: Path) -> list[int]:
    """Ids of the tokens at which a server stops by the model's own files, beside those of its chat template."""
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        ids = json.loads(file.read_bytes()).get("eos_token_id") if file.is_file() else None
        found += [number for number in (ids if isinstance(ids, list) else [ids]) if isinstance(number, int)]
    return list(dict.fromkeys(found))


def settle_in(folder: Path) -> None:
    """Settle the template of a model's folder that holdfast writes; other files stay as they are."""
    template = template_of(folder)
    if template is None or (changed := settled(template)) == template:
        return
    (folder / "chat_template.jinja").write_text(changed, encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    document = json.loads(settings.read_bytes()) if settings.is_file() else {}
    if isinstance(document.get("chat_template"), str):  # older readers look only here
        document["chat_template"] = changed
        settings.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
