"""Facts about the Modelfile: its Go template is derived from the chat template."""

from pathlib import Path

import pytest

from holdfast.export.modelfile import ModelfileParts, derive_format, go_template, render_modelfile
from tiny_checkpoint import CHATML, make_checkpoint

LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN25 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
)
NUMBERED = (
    "{% for message in messages %}{{ loop.index }}. {{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
UPPERCASE = CHATML.replace("message['content']", "message['content'] | upper")


def make_parts(folder: Path, system_prompt: str = "") -> ModelfileParts:
    return ModelfileParts("triage-Q4_K_M.gguf", folder, system_prompt, 1024, 64)


def test_chatml_becomes_a_range_over_messages(tmp_path: Path) -> None:
    format_ = derive_format(make_checkpoint(tmp_path / "m"))
    assert format_ is not None
    assert go_template(format_) == (
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        "{{ end }}{{ end }}<|im_start|>assistant\n"
    )


def test_llama3_is_derived_without_the_token_that_the_runtime_adds(tmp_path: Path) -> None:
    format_ = derive_format(make_checkpoint(tmp_path / "m", "llama", template=LLAMA3, bos=True))
    assert format_ is not None
    assert format_.user == ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>")
    assert format_.ask == "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert "<|endoftext|>" not in go_template(format_)


def test_default_system_message_is_kept(tmp_path: Path) -> None:
    format_ = derive_format(make_checkpoint(tmp_path / "m", template=QWEN25))
    assert format_ is not None
    assert go_template(format_).startswith(
        "{{ if not .System }}<|im_start|>system\nYou are Qwen.<|im_end|>\n{{ end }}{{ range"
    )


def test_template_that_refuses_system_messages_has_no_system_branch(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m", "mistral", template=NO_SYSTEM, bos=True)
    format_ = derive_format(folder)
    assert format_ is not None
    assert format_.system is None
    text = render_modelfile(make_parts(folder, "Be brief."))
    assert 'eq .Role "system"' not in text
    assert "# No SYSTEM" in text


@pytest.mark.parametrize("template", [NUMBERED, UPPERCASE, "{{ raise_exception('no') }}", "{% broken"])
def test_template_that_is_not_made_of_fixed_texts_is_not_guessed(tmp_path: Path, template: str) -> None:
    folder = make_checkpoint(tmp_path / "m", template=template)
    assert derive_format(folder) is None
    text = render_modelfile(make_parts(folder))
    assert "# No TEMPLATE" in text
    assert "\nTEMPLATE" not in text


def test_modelfile_names_the_deployed_file_and_the_limits(tmp_path: Path) -> None:
    lines = render_modelfile(make_parts(make_checkpoint(tmp_path / "m"), "Answer in JSON.")).splitlines()
    for line in (
        "FROM ./triage-Q4_K_M.gguf", 'SYSTEM """Answer in JSON."""', 'PARAMETER stop "<|im_end|>"',
        "PARAMETER num_ctx 1024", "PARAMETER temperature 0.2", "PARAMETER num_predict 64",
    ):  # fmt: skip
        assert line in lines


def test_a_template_that_trims_messages_is_remarked_because_ollama_does_not(tmp_path: Path) -> None:
    trimming = make_checkpoint(tmp_path / "t", "llama", template=LLAMA3, bos=True)
    assert "# send messages without them." in render_modelfile(make_parts(trimming))
    assert "# send messages" not in render_modelfile(make_parts(make_checkpoint(tmp_path / "m")))


def test_system_prompt_that_a_modelfile_cannot_hold_is_left_out_with_a_remark(tmp_path: Path) -> None:
    text = render_modelfile(make_parts(make_checkpoint(tmp_path / "m"), 'say """x"""'))
    assert "\nSYSTEM" not in text
    assert "# No SYSTEM" in text


def test_every_end_token_is_a_stop(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "m")
    (folder / "generation_config.json").write_text('{"eos_token_id": [286, 288]}')
    assert [line for line in render_modelfile(make_parts(folder)).splitlines() if "stop" in line] == [
        'PARAMETER stop "<|endoftext|>"',
        'PARAMETER stop "<|im_end|>"',
    ]
