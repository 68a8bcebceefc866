"""What answering and scoring keep in memory at once, tensor by tensor, against the plan."""

from pathlib import Path
from typing import Any

import pytest

from holdfast import likelihood, models
from holdfast.core.records import Example, Message
from holdfast.export import base_choice, imatrix, merge, streamed
from holdfast.plan.constants import constant
from holdfast.plan.evaluate_memory import _reading, _scoring, _writing, adapted_layer, plain_layer
from holdfast.plan.lengths import Lengths
from holdfast.plan.shape import ModelShape, shape_of
from live_memory import LiveMemory
from plan_shapes import run_config

SMALL = {
    "model_type": "qwen2", "hidden_size": 256, "intermediate_size": 1280, "num_hidden_layers": 3, "vocab_size": 16384,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
PROMPT, ANSWER, ROWS, NEW = 300, 90, 6, 8


def build(targets: Any, train: dict[str, Any] | None = None, **changed: Any) -> Any:
    """Random 16-bit weights, as on a card, with PEFT's adapter (None: without)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = SMALL | changed
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if targets is not None:
        model = get_peft_model(
            model, LoraConfig(r=8, target_modules=targets, use_dora=bool((train or {}).get("use_dora")))
        )
    return model.eval()


def shape(**changed: Any) -> ModelShape:
    return shape_of(SMALL | changed, Path("small"))


def predicted(reading: bool, train: dict[str, Any], *, adapter: bool) -> int:
    config = run_config(train=train, evaluate={"batch_size": ROWS, "max_new_tokens": NEW})
    layer = adapted_layer(shape(), config.train, 2) if adapter else plain_layer(shape(), 2)
    lengths = Lengths(400, 1000, 10, PROMPT, longest_test=PROMPT + ANSWER, longest_answer=ANSWER)
    found = _reading(shape(), config, lengths, 2, layer) if reading else _scoring(shape(), lengths, ROWS, 2, layer)
    return sum(found.values())


FEW = {"lora_target_linear": False, "lora_target_modules": ["q_proj", "v_proj"]}
CASES = [
    (None, {}),
    ("all-linear", {}),
    (["q_proj", "v_proj"], FEW),
    (["down_proj"], {"lora_target_linear": False, "lora_target_modules": ["down_proj"]}),
    ("all-linear", {"use_dora": True}),
    (
        ["q_proj", "v_proj"],
        {"lora_target_linear": False, "lora_target_modules": ["q_proj", "v_proj"], "use_dora": True},
    ),
]


@pytest.mark.parametrize(("targets", "train"), CASES)
def test_reading_prompts_takes_what_the_plan_says(targets: Any, train: dict[str, Any]) -> None:
    model, tokenizer = build(targets, train), models.load_tokenizer(models.find_base_model("pebble"))
    prompts = [[5 + at % 100 for at in range(PROMPT)]] * ROWS
    with LiveMemory() as memory:
        models.generate(model, tokenizer, prompts, max_new_tokens=NEW, batch_size=ROWS, on_batch=lambda n: None)
    plan = predicted(True, train, adapter=targets is not None)
    assert 0.9 * plan < memory.peak < 1.01 * plan


@pytest.mark.parametrize(("targets", "train"), CASES)
def test_scoring_references_takes_what_the_plan_says(targets: Any, train: dict[str, Any]) -> None:
    model, tokenizer = build(targets, train), models.load_tokenizer(models.find_base_model("pebble"))
    row = models.TrainingTokens(input_ids=[5] * (PROMPT + ANSWER), labels=[-100] * PROMPT + [5] * ANSWER)
    with LiveMemory() as memory:
        likelihood._score_batch(model, tokenizer, [row] * ROWS, [PROMPT] * ROWS)
    plan = predicted(False, train, adapter=targets is not None)
    assert 0.9 * plan < memory.peak < 1.01 * plan


def test_a_short_prompt_with_dora_takes_what_its_matrices_take() -> None:
    train = {"lora_target_linear": False, "lora_target_modules": ["down_proj"], "use_dora": True}
    model, tokenizer = build(["down_proj"], train), models.load_tokenizer(models.find_base_model("pebble"))
    with LiveMemory() as memory:
        models.generate(model, tokenizer, [[5] * 4], max_new_tokens=1, batch_size=1, on_batch=lambda n: None)
    plan = adapted_layer(shape(), run_config(train=train).train, 2)(4)
    assert plan > 4 * SMALL["intermediate_size"] ** 2
    assert 0.9 * plan < memory.peak < 1.01 * plan


def test_writing_long_answers_takes_no_more_than_the_plan_says() -> None:
    model, tokenizer = build(None), models.load_tokenizer(models.find_base_model("pebble"))
    with LiveMemory() as memory:
        models.generate(
            model, tokenizer, [[5] * 9] * ROWS, max_new_tokens=250, batch_size=ROWS, on_batch=lambda n: None
        )
    config = run_config(evaluate={"batch_size": ROWS, "max_new_tokens": 250})
    plan = sum(_writing(shape(), config, Lengths(400, 1000, 10, 9), 2).values())
    assert 0.6 * plan < memory.peak < 1.01 * plan


def test_long_answers_over_a_large_vocabulary_are_scored_some_rows_at_a_time() -> None:
    vocabulary, answer = 65536, 400
    model, tokenizer = build(None, vocab_size=vocabulary), models.load_tokenizer(models.find_base_model("pebble"))
    examples = [
        Example(
            messages=(Message(role="user", content="q"), Message(role="assistant", content="so " * answer)), source="x"
        )
    ] * ROWS
    rows = models.encode_example(tokenizer, examples[0].messages)
    length = len(rows.input_ids) - len(models.encode_prompt(tokenizer, examples[0].prompt))
    with LiveMemory() as memory:
        likelihood.score_references(model, tokenizer, examples, ROWS)
    lengths = Lengths(2000, 5000, 10, 20, longest_test=len(rows.input_ids), longest_answer=length)
    changed = shape(vocab_size=vocabulary)
    plan = sum(_scoring(changed, lengths, ROWS, 2, plain_layer(changed, 2)).values())
    assert plan < ROWS * length * vocabulary * 2, "all rows at once would need more"
    assert 0.8 * plan < memory.peak < 1.01 * plan


def test_the_plan_has_the_sizes_of_the_code() -> None:
    assert (constant("scored_positions"), constant("scored_floats")) == (likelihood.POSITIONS, likelihood.FLOATS)
    assert constant("streamed_piece") == streamed.PIECE
    assert (constant("checked_rows"), constant("checked_positions")) == (base_choice.ITEMS, merge.CHECKED_POSITIONS)
    assert constant("streamed_tokens") == base_choice.TOKENS == imatrix.LARGEST_TOKENS
