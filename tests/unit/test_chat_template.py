"""What a chat template refuses is the user's error, not a bug. pytest tests/unit"""

from typing import Any

import pytest

from holdfast.core.errors import ModelError
from holdfast.core.records import Message
from holdfast.models import encode_example, render_prompt


class Refusing:
    """A tokenizer whose template knows no system role, as Gemma's."""

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        from jinja2 import TemplateError

        if messages[0]["role"] == "system":
            raise TemplateError("System role not supported")
        return "asked"


def test_a_template_without_a_system_role_is_an_error_with_the_next_step() -> None:
    user = Message(role="user", content="x")
    assert render_prompt(Refusing(), [user]) == "asked"
    with pytest.raises(ModelError, match="refuses a conversation of system, user: System role not supported") as caught:
        render_prompt(Refusing(), [Message(role="system", content="Be brief."), user])
    assert "collect.system_prompt" in caught.value.hint


class Needing(Refusing):
    """A template that insists on a system turn."""

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        from jinja2 import TemplateError

        raise TemplateError("System role needed")


def test_a_template_that_needs_a_system_role_is_not_told_to_leave_it_out() -> None:
    with pytest.raises(ModelError, match="System role needed") as caught:
        render_prompt(Needing(), [Message(role="user", content="x")])
    assert "chat_template.jinja" in caught.value.hint
    assert "without collect.system_prompt" not in caught.value.hint


class Thinking:
    """A template that writes an empty block of thoughts before the last answer and not into the prompt, as Qwen3's."""

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        last = len(messages) - 1
        shown = [
            f"<{m['role']}>{'<think></think>' if m['role'] == 'assistant' and at == last else ''}{m['content']}"
            for at, m in enumerate(messages)
        ]
        return "".join(shown) + ("<assistant>" if options["add_generation_prompt"] else "")


def test_a_template_that_writes_before_the_answer_is_an_error_with_what_and_the_next_step() -> None:
    rows = [Message(role="user", content="x"), Message(role="assistant", content="yes")]
    with pytest.raises(ModelError, match="'yes' right after its prompt, but '<think></think>yes'") as caught:
        encode_example(Thinking(), rows)
    assert "chat_template.jinja" in caught.value.hint
