"""What a chat template refuses is the user's error, not a bug. pytest tests/unit"""

from typing import Any

import pytest

from holdfast.core.errors import ModelError
from holdfast.core.records import Message
from holdfast.models import render_prompt


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
