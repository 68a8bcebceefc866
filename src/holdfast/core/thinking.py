"""Chat templates with a switch for thoughts (Qwen3's `enable_thinking`): the switch is off, from training to serving.

Such a template writes an empty block of thoughts before the last answer, and into the prompt only when the switch is
off. Left on, the text that asks is not the beginning of the text that was trained. The switch is set in the template
itself, so that every server that reads an exported file renders what was trained (decision 0021).
"""

import json
from pathlib import Path
from typing import Any

SWITCH = "enable_thinking"
OFF = "{% set enable_thinking = false %}"


def has_switch(template: str) -> bool:
    """Whether a chat template asks for the switch."""
    return SWITCH in template


def without_thoughts(template: Any) -> Any:
    """The template with its switch off; what has none, or is no text, as it is. Twice is once."""
    if not isinstance(template, str) or not has_switch(template) or template.startswith(OFF):
        return template
    return OFF + template


def template_of(folder: Path) -> str | None:
    """The chat template of a model's folder, as transformers chooses it; None without one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    template = json.loads(settings.read_bytes()).get("chat_template") if settings.is_file() else None
    return template if isinstance(template, str) else None


def switch_off_in(folder: Path) -> None:
    """Set the switch in the template of a model's folder that holdfast writes; other files stay as they are."""
    template = template_of(folder)
    if template is None or (changed := without_thoughts(template)) == template:
        return
    (folder / "chat_template.jinja").write_text(changed, encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    document = json.loads(settings.read_bytes()) if settings.is_file() else {}
    if isinstance(document.get("chat_template"), str):  # older readers look only here
        document["chat_template"] = changed
        settings.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
