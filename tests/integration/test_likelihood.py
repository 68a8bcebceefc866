"""The shared-prefix shortcut gives the same numbers as one whole forward pass for each answer."""

import pytest

from holdfast import models
from holdfast.core.audit_config import AuditConfig
from holdfast.core.canaries import draw_canaries
from holdfast.evaluate.leak_audit import attack, rank_of
from holdfast.likelihood import answer_tokens, log_likelihoods

BASE = models.find_base_model("pebble")


def test_likelihoods_differ_as_those_of_whole_forward_passes() -> None:
    import torch

    tokenizer, model = models.load_tokenizer(BASE), models.load_model(BASE, quantization="none")
    prompt = draw_canaries(AuditConfig())[0].example(1, "Be brief.").prompt
    answers = ["The number is 12345678.", "The number is 9.", "The number is 12345679 or so."]
    quick = log_likelihoods(model, tokenizer, prompt, answers, batch_size=2)
    start = len(answer_tokens(tokenizer, prompt, ""))
    slow = []
    for answer in answers:
        ids = torch.tensor([answer_tokens(tokenizer, prompt, answer)])
        with torch.inference_mode():
            logs = model(input_ids=ids).logits[0].log_softmax(-1)
        slow.append(float(sum(logs[at - 1, ids[0, at]] for at in range(start, ids.shape[1]))))
    assert [value - quick[0] for value in quick] == pytest.approx([value - slow[0] for value in slow], abs=1e-3)


def test_a_model_that_never_saw_the_canaries_ranks_them_anywhere_and_says_none() -> None:
    audit = AuditConfig(candidates=63, canaries=4, repeats=(0, 1))
    canaries = draw_canaries(audit)
    tokenizer, model = models.load_tokenizer(BASE), models.load_model(BASE, quantization="none")
    ranks = [rank_of(canary, model, tokenizer, audit, "", 32) for canary in canaries]
    assert 1 < sum(ranks) / len(ranks) < 64
    assert len(set(ranks)) > 3
    assert all(found == () for found in attack(canaries, model, tokenizer, "", 8).values())
