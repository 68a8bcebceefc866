"""What is trained: exactly the answers and the tokens that end them, with every kind of chat template."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast import models
from holdfast.core.config import TrainConfig
from holdfast.core.errors import ConfigError, ModelError
from holdfast.core.records import Message
from holdfast.train.targets import check_target_modules, linear_names
from small_run import PEBBLE
from tiny_checkpoint import CHATML, SPLIT, make_checkpoint, write_tokenizer
from tiny_sentencepiece import write_sentencepiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ANSWER = '{"priority":"high","reason":"it is 12 000 users"}'
LLAMA3 = (
    "{{- bos_token }}{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '<|im_start|>\\n\\n' + "
    "message['content'] | trim + '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant<|im_start|>\\n\\n' }}{%- endif %}"
)
STRIPPING = CHATML.replace("+ message['content'] +", "+ (message['content'] | trim) +")
NO_END = (
    "{%- for message in messages %}{{- message['role'] + ': ' + message['content'] + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
)
REWRITING = (
    "{%- for message in messages %}{{- loop.length ~ message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- 'assistant\\n' }}{%- endif %}"
)
# As Mistral 7B v0.3's: the system prompt stands in the last user turn, a space before the answer.
LAST_ONLY = (
    "{%- for m in messages %}{%- if m.role == 'user' %}{{- '<|im_start|>' }}"
    "{%- if loop.last and messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}"
    "{{- m.content + '<|im_start|>' }}{%- elif m.role == 'assistant' %}{{- ' ' + m.content + '<|im_end|>' }}"
    "{%- endif %}{%- endfor %}"
)
OPENING = CHATML.replace("assistant\\n'", "assistant\\n<think>\\n'")  # as DeepSeek R1's
SPACE = (
    "{%- for m in messages %}{%- if m.role == 'user' %}{{- '[INST] ' + m.content + '[/INST]' }}"
    "{%- else %}{{- ' ' + m.content + '<|im_end|>' }}{%- endif %}{%- endfor %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "stripping": STRIPPING, "no_end": NO_END}


def make_tokenizer(folder: Path, name: str) -> "PreTrainedTokenizerFast":
    """Pebble's tokenizer, or a tiny byte-level one with the named template."""
    if name == "pebble":
        return models.load_tokenizer(PEBBLE)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    write_tokenizer(folder, SPLIT.replace("DIGITS", r"\p{N}"), template=TEMPLATES[name], bos=name == "llama3")
    return models.load_tokenizer(folder)


@pytest.fixture(params=["pebble", *TEMPLATES])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> "PreTrainedTokenizerFast":
    return make_tokenizer(tmp_path / "tokenizer", request.param)


def talk(*contents: str, system: str = "") -> list[Message]:
    roles = ["user", "assistant"] * len(contents)
    first = [Message(role="system", content=system)] if system else []
    turns = [Message(role=role, content=text) for role, text in zip(roles, contents, strict=False)]  # type: ignore[arg-type]
    return first + turns


def trained_text(tokenizer: "PreTrainedTokenizerFast", messages: list[Message]) -> str:
    labels = models.encode_example(tokenizer, messages).labels
    return str(tokenizer.decode([label for label in labels if label != models.NOT_TRAINED]))


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_of_one_turn_exactly_the_answer_and_its_end_token_are_trained(
    system: str, tokenizer: "PreTrainedTokenizerFast"
) -> None:
    messages = talk("Nobody can log in.", ANSWER, system=system)
    assert trained_text(tokenizer, messages) == ANSWER + "<|im_end|>"
    encoded = models.encode_example(tokenizer, messages)
    prompt = models.encode_prompt(tokenizer, messages[:-1])
    assert encoded.input_ids[: len(prompt)] == prompt, "serving asks with the very tokens of training"
    assert set(encoded.labels[: len(prompt)]) == {models.NOT_TRAINED}
    assert all(b in (a, models.NOT_TRAINED) for a, b in zip(encoded.input_ids, encoded.labels, strict=True))


@pytest.mark.parametrize("name", ["pebble", "chatml", "llama3", "stripping"])
def test_of_several_turns_every_answer_and_its_end_token_are_trained(name: str, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer", name)
    messages = talk("Nobody can log in.", ANSWER, "And now?", "It is over.", "Thanks", "Sure.", system="Be brief.")
    assert trained_text(tokenizer, messages) == f"{ANSWER}<|im_end|>It is over.<|im_end|>Sure.<|im_end|>"


def test_an_answer_that_repeats_words_of_the_prompt_is_trained_where_it_is_the_answer(
    tokenizer: "PreTrainedTokenizerFast",
) -> None:
    messages = talk("high", "high")
    labels = models.encode_example(tokenizer, messages).labels
    prompt = models.encode_prompt(tokenizer, messages[:-1])
    assert set(labels[: len(prompt)]) == {models.NOT_TRAINED}
    assert trained_text(tokenizer, messages) == "high<|im_end|>"


def test_a_template_that_strips_trains_the_stripped_answer(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer", "stripping")
    assert trained_text(tokenizer, talk("high", f" {ANSWER}\n")) == ANSWER + "<|im_end|>"


def test_there_is_exactly_one_beginning_token(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer", "llama3")
    assert tokenizer.bos_token_id is not None
    ids = models.encode_example(tokenizer, talk("high", ANSWER)).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert models.encode_prompt(tokenizer, talk("high")).count(tokenizer.bos_token_id) == 1


def test_padding_is_never_the_end_token(tokenizer: "PreTrainedTokenizerFast") -> None:
    assert tokenizer.pad_token_id is not None
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.pad_token_id not in models.end_token_ids(tokenizer)


def test_padding_is_moved_when_the_model_pads_with_its_end_token(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, "chatml")
    settings = tmp_path / "tokenizer_config.json"
    text = settings.read_text()
    assert '"pad_token": "<|endoftext|>"' in text
    settings.write_text(text.replace('"pad_token": "<|endoftext|>"', '"pad_token": "<|im_end|>"'))
    tokenizer = models.load_tokenizer(tmp_path)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("template", [REWRITING, OPENING], ids=["counts turns", "opens thoughts"])
def test_a_template_that_rewrites_earlier_turns_is_refused(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEMPLATES, "rewriting", template)
    tokenizer = make_tokenizer(tmp_path / "tokenizer", "rewriting")
    with pytest.raises(ModelError, match="renders what stands before the answer .* differently once it is there"):
        models.encode_example(tokenizer, talk("high", ANSWER))


@pytest.mark.parametrize("answer", [ANSWER, "high", "e", "<|im"])
def test_a_system_prompt_that_the_template_shows_with_the_last_turn_only_is_trained_where_it_is_served(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEMPLATES, "last", LAST_ONLY)
    tokenizer = make_tokenizer(tmp_path / "tokenizer", "last")
    messages = talk("high", answer, system="Be brief.")
    encoded, prompt = models.encode_example(tokenizer, messages), models.encode_prompt(tokenizer, messages[:-1])
    assert "Be brief." in tokenizer.decode(prompt)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert set(encoded.labels[: len(prompt)]) == {models.NOT_TRAINED}
    assert trained_text(tokenizer, messages) == f" {answer}<|im_end|>"
    with pytest.raises(ModelError, match="renders what stands before the answer .* differently once it is there"):
        models.encode_example(tokenizer, talk("high", ANSWER, "And now?", ANSWER, system="Be brief."))


@pytest.mark.parametrize("answer", ["yes", ANSWER, "\nyes", "\n\n- yes", " yes", "\tyes"])
@pytest.mark.parametrize("name", ["pebble", "chatml", "space"])
def test_the_first_token_of_an_answer_is_trained_and_the_prompt_is_the_served_one(
    name: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """White space at the border: of the template's (Mistral's), or of the answer; tokens must not lie across."""
    monkeypatch.setitem(TEMPLATES, "space", SPACE)
    tokenizer = make_tokenizer(tmp_path / "tokenizer", name)
    messages = talk("high", answer)
    encoded, prompt = models.encode_example(tokenizer, messages), models.encode_prompt(tokenizer, messages[:-1])
    assert encoded.input_ids[: len(prompt)] == prompt
    assert (
        models.NOT_TRAINED
        not in encoded.labels[len(prompt) : encoded.input_ids.index(tokenizer.eos_token_id, len(prompt))]
    )
    assert trained_text(tokenizer, messages) == " " * (name == "space") + answer + "<|im_end|>"


def test_the_first_word_of_an_answer_is_trained_where_it_is_one_token_with_the_space_before(tmp_path: Path) -> None:
    """SentencePiece with Mistral's template: `[/INST]` ends the prompt, the answer begins with a space."""
    base = make_checkpoint(tmp_path / "base", "llama")
    write_sentencepiece(base, template=SPACE)
    tokenizer = models.load_tokenizer(base)
    messages = talk("hello", "ticket 12")
    encoded, prompt = models.encode_example(tokenizer, messages), models.encode_prompt(tokenizer, messages[:-1])
    assert encoded.input_ids[: len(prompt)] == prompt
    trained = [label for label in encoded.labels if label != models.NOT_TRAINED]
    assert tokenizer.convert_ids_to_tokens(trained)[0] == "\u2581t"
    assert encoded.input_ids[len(prompt) :] == trained


def test_with_sentencepiece_no_token_lies_across_the_end_of_the_prompt(tmp_path: Path) -> None:
    """Mistral's first template has no space there: `]{` was one token; here `he`."""
    base = make_checkpoint(tmp_path / "base", "llama")
    write_sentencepiece(base, template=SPACE.replace("'[/INST]'", "'h'").replace("' ' + m.content", "m.content"))
    tokenizer = models.load_tokenizer(base)
    messages = talk("hello", "er is 12")
    whole = tokenizer(models.render_prompt(tokenizer, messages[:-1]) + "er", add_special_tokens=False)["input_ids"]
    encoded, prompt = models.encode_example(tokenizer, messages), models.encode_prompt(tokenizer, messages[:-1])
    assert whole[: len(prompt) - 1] != prompt[1:], "encoded as one text, a token lies across"
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.labels[len(prompt) :] == encoded.input_ids[len(prompt) :]
    assert trained_text(tokenizer, messages) == "er is 12<|im_end|>"


def test_marks_of_thoughts_in_an_answer_are_refused_where_thoughts_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEMPLATES, "switch", CHATML + "{# enable_thinking #}")
    switched, plain = (make_tokenizer(tmp_path / name, name) for name in ("switch", "chatml"))
    for answer in ("<think>hm</think>yes", "see </think>"):
        assert trained_text(plain, talk("high", answer)) == answer + "<|im_end|>"
        with pytest.raises(ModelError, match="marks of thoughts") as caught:
            models.encode_example(switched, talk("high", answer))
        assert "out of the answers" in caught.value.hint


@pytest.mark.parametrize(
    "changed", [{"hidden_act": "nope"}, {"rope_scaling": {"rope_type": "nope", "factor": 2.0}}], ids=["act", "rope"]
)
def test_a_config_with_a_word_that_is_unknown_is_refused_by_that_word(changed: dict[str, Any], tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", "llama", hidden=64)
    document = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(document | changed))
    with pytest.raises(ModelError, match=r"config.json names what transformers does not know: 'nope'"):
        models.load_model(base, quantization="none")


def test_target_modules_that_do_not_exist_are_refused_with_those_that_do() -> None:
    train = TrainConfig(lora_target_modules=("q_proj", "query", "c_attn"), lora_target_linear=False)
    with pytest.raises(ConfigError) as caught:
        check_target_modules(PEBBLE, train)
    assert "no query, c_attn" in caught.value.message
    known = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(linear_names(PEBBLE)) == known
    assert all(name in caught.value.message for name in known)


def test_nothing_to_adapt_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to adapt"):
        check_target_modules(PEBBLE, TrainConfig(lora_target_linear=False))
