"""bitsandbytes without its waits: the same steps."""

import pytest
import torch

from holdfast.train.optimizer import stop_waiting


def train(*, patched: bool) -> torch.Tensor:
    import bitsandbytes as bnb

    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(64, 128)) for _ in range(3)]
    optimizer = bnb.optim.AdamW8bit(weights, lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    if patched:
        assert stop_waiting(optimizer)
    for _ in range(3):
        sum((w * w).sum() for w in weights).backward()  # type: ignore[union-attr]
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    assert optimizer.state_dict()["state"]
    return torch.cat([w.detach().reshape(-1) for w in weights])


def test_the_patched_optimizer_takes_the_same_steps_and_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes.optim.optimizer as source

    want = train(patched=False)
    waits = []
    monkeypatch.setattr(source, "sync_gpu", waits.append)
    assert torch.equal(train(patched=True), want)
    assert waits == []
    train(patched=False)
    assert waits


def test_other_optimizers_stay_as_they_are() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    assert not stop_waiting(optimizer)
