"""The shared-prefix shortcut gives the same numbers as one whole forward pass for each answer."""

from pathlib import Path

import pytest

from holdfast import likelihood, models
from holdfast.core.audit_config import AuditConfig
from holdfast.core.canaries import draw_canaries
from holdfast.core.errors import StageError
from holdfast.core.records import Example, Message
from holdfast.evaluate.leak_audit import attack, rank_of
from holdfast.evaluate.room import check_room
from holdfast.likelihood import ReferenceScore, log_likelihoods, score_references
from tiny_checkpoint import make_checkpoint
from tiny_sentencepiece import write_sentencepiece

BASE = models.find_base_model("pebble")


def test_likelihoods_differ_as_those_of_whole_forward_passes() -> None:
    import torch

    tokenizer, model = models.load_tokenizer(BASE), models.load_model(BASE, quantization="none")
    prompt = draw_canaries(AuditConfig())[0].example(1, "Be brief.").prompt
    answers = ["The number is 12345678.", "The number is 9.", "The number is 12345679 or so."]
    quick = log_likelihoods(model, tokenizer, prompt, answers, batch_size=2)
    start = len(models.encode_beginning(tokenizer, prompt, ""))
    slow = []
    for answer in answers:
        ids = torch.tensor([models.encode_beginning(tokenizer, prompt, answer)])
        with torch.inference_mode():
            logs = model(input_ids=ids).logits[0].log_softmax(-1)
        slow.append(float(sum(logs[at - 1, ids[0, at]] for at in range(start, ids.shape[1]))))
    assert [value - quick[0] for value in quick] == pytest.approx([value - slow[0] for value in slow], abs=1e-3)


@pytest.mark.parametrize("answer", ["in the user 12", " the ticket", "in\nthe 12 "])
def test_an_answer_that_begins_has_the_tokens_that_it_was_trained_with(answer: str, tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", "llama")
    write_sentencepiece(base)
    tokenizer, row = models.load_tokenizer(base), turns("the user", answer)
    prompt, trained = row.prompt, models.encode_example(tokenizer, row.messages).input_ids
    whole = models.encode_beginning(tokenizer, prompt, answer)
    word = models.encode_beginning(tokenizer, prompt, answer.split(" 12")[0])
    start = models.encode_prompt(tokenizer, prompt)
    assert (trained[: len(whole)], trained[len(whole)]) == (whole, tokenizer.eos_token_id)
    assert trained[: len(word)] == word and len(whole) >= len(word) > len(start)
    assert models.encode_beginning(tokenizer, prompt, "") == start
    assert whole != start + tokenizer(answer, add_special_tokens=False)["input_ids"], "alone it begins with a space"


def test_a_model_that_never_saw_the_canaries_ranks_them_anywhere_and_says_none() -> None:
    audit = AuditConfig(candidates=63, canaries=4, repeats=(0, 1))
    canaries = draw_canaries(audit)
    tokenizer, model = models.load_tokenizer(BASE), models.load_model(BASE, quantization="none")
    ranks = [rank_of(canary, model, tokenizer, audit, "", 32) for canary in canaries]
    assert 1 < sum(ranks) / len(ranks) < 64
    assert len(set(ranks)) > 3
    assert all(found == () for found in attack(canaries, model, tokenizer, "", 8).values())


def turns(question: str, answer: str) -> Example:
    return Example(
        messages=(Message(role="user", content=question), Message(role="assistant", content=answer)), source=question
    )


def test_references_are_scored_in_batches_as_one_by_one() -> None:
    import torch

    tokenizer, model = models.load_tokenizer(BASE), models.load_model(BASE, quantization="none")
    examples = [turns("Nobody can print.", "low"), turns("q", "high, because all of it is down " * 3), turns("?", "x")]
    for example, found in zip(examples, score_references(model, tokenizer, examples, 2), strict=True):
        encoded = models.encode_example(tokenizer, example.messages)
        with torch.inference_mode():
            logs = model(input_ids=torch.tensor([encoded.input_ids])).logits[0].log_softmax(-1)
        at = [n for n, label in enumerate(encoded.labels) if label != models.NOT_TRAINED]
        assert found.tokens == len(at)
        assert found.nats == pytest.approx(-sum(float(logs[n - 1, encoded.labels[n]]) for n in at), abs=1e-3)
        assert found.right == sum(int(logs[n - 1].argmax()) == encoded.labels[n] for n in at)


def test_fewer_logits_at_once_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, model = models.load_tokenizer(BASE), models.load_model(BASE, quantization="none")
    examples = [turns("q", f"high, because {'all of it is down ' * n}") for n in range(7)]
    answers, prompt = ["one", "two and more", "three, as was said"], examples[0].prompt
    whole = score_references(model, tokenizer, examples, 16), log_likelihoods(model, tokenizer, prompt, answers, 16)
    monkeypatch.setattr(likelihood, "POSITIONS", 30)
    monkeypatch.setattr(likelihood, "FLOATS", 4)
    parts = score_references(model, tokenizer, examples, 16), log_likelihoods(model, tokenizer, prompt, answers, 16)
    assert [(a.tokens, a.right) for a in parts[0]] == [(b.tokens, b.right) for b in whole[0]]
    assert [a.nats for a in parts[0]] == pytest.approx([b.nats for b in whole[0]], rel=1e-5)
    assert parts[1] == pytest.approx(whole[1], rel=1e-5)


def test_batches_hold_no_more_rows_and_positions_than_they_may() -> None:
    lengths = [5, 900, 30, 2000, 500, 10, 10]
    batches = list(likelihood._batches([0, 2, 5, 6, 4, 1, 3], lengths, 3))
    assert batches == [[0, 2, 5], [6, 4], [1], [3]], "one that is longer than all that may be goes alone"


def test_a_reference_that_would_be_cut_off_is_refused_with_the_room_that_it_needs() -> None:
    examples = [turns("Nobody can print.", "low"), turns("q", "high, because all of it is down")]
    needed = max(one.tokens for one in lengths_of(examples))
    check_room(BASE, examples, needed)
    with pytest.raises(StageError, match=f"1 of 2 references .* the longest has {needed} tokens \\(q\\)"):
        check_room(BASE, examples, needed - 1)


def lengths_of(examples: list[Example]) -> list[ReferenceScore]:
    model = models.load_model(BASE, quantization="none")
    return score_references(model, models.load_tokenizer(BASE), examples, 2)
