"""What a chat template refuses is the user's error, not a bug. pytest tests/unit"""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.conversation import encode_example, render_prompt
from holdfast.core.chat_template import OFF, has_date, keeps_clock, settle_in, settled, stop_tokens, template_of
from holdfast.core.errors import ModelError
from holdfast.core.records import Message


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


TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


def test_a_switch_for_thoughts_is_set_once_and_only_where_there_is_one() -> None:
    assert settled(TEMPLATE) == OFF + TEMPLATE
    assert settled(OFF + TEMPLATE) == OFF + TEMPLATE
    assert settled("{{ messages }}") == "{{ messages }}"
    assert settled({"default": TEMPLATE}) == {"default": TEMPLATE}


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_folder_gets_the_switch_in_every_file_that_readers_look_at(name: str, tmp_path: Path) -> None:
    text = json.dumps({"chat_template": TEMPLATE, "eos_token": "</s>"}) if name.endswith("json") else TEMPLATE
    (tmp_path / name).write_text(text)
    settle_in(tmp_path)
    assert template_of(tmp_path) == OFF + TEMPLATE
    if name.endswith("json"):
        assert json.loads((tmp_path / name).read_text()) == {"chat_template": OFF + TEMPLATE, "eos_token": "</s>"}
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    settle_in(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_folder_without_the_switch_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template":  "{{ messages }}"}')
    settle_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer_config.json"]
    assert (tmp_path / "tokenizer_config.json").read_text() == '{"chat_template":  "{{ messages }}"}'


CLOCK = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}"
    "{%- endif %}{{- 'Today: ' + date_string }}"
)


def test_a_date_of_the_day_becomes_one_date_in_each_form() -> None:
    assert settled('{{ strftime_now( "%Y-%m-%d" ) }}') == '{{ "2024-07-26" }}'
    once = settled(CLOCK)
    assert once.startswith('{% set date_string = "26 Jul 2024" %}{%- if not')
    assert "strftime_now(" not in once
    assert (settled(once), has_date(CLOCK), has_date(TEMPLATE)) == (once, True, False)
    both = settled(CLOCK + TEMPLATE)
    assert both == OFF + once + TEMPLATE
    assert settled(both) == both


def test_a_date_in_a_form_that_is_not_written_there_stays() -> None:
    assert not has_date("{{ strftime_now(form) }}")
    assert keeps_clock("{{ strftime_now(form) }}")
    assert not keeps_clock(CLOCK)
    assert settled("{{ strftime_now(form) }}") == "{{ strftime_now(form) }}"


class Thinking:
    """A template that writes an empty block of thoughts before the last answer and never into the prompt."""

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


def test_the_tokens_at_which_servers_stop_are_those_of_both_files(tmp_path: Path) -> None:
    assert stop_tokens(tmp_path) == []
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    assert stop_tokens(tmp_path) == [1]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    assert stop_tokens(tmp_path) == [7, 8, 1]
    (tmp_path / "config.json").write_text('{"eos_token_id": null}')
    assert stop_tokens(tmp_path) == [7, 8]
