"""Each Triton kernel against the torch formula it stands for, in the same file. Needs a CUDA card."""

from typing import Any

import pytest
import torch

from holdfast.train import elementwise

DEVICE = "cuda"
DTYPE = torch.bfloat16
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE, dtype=torch.float32).to(DTYPE)


def off(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.float() - want.float()).norm() / want.float().norm())


def plainly(monkeypatch: Any, function: Any, *arguments: Any, **named: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(elementwise, "_on_card", lambda tensor: False)
        return function(*arguments, **named)


def test_norm_with_and_without_a_sum_before_it(monkeypatch: Any) -> None:
    x, o, weight = rand(37, 200), rand(37, 200), rand(200)
    for second in (o, None):
        got = elementwise.add_norm(x, second, weight, 1e-6)
        want = plainly(monkeypatch, elementwise.add_norm, x, second, weight, 1e-6)
        assert off(got[0], want[0]) < 1e-3
        assert off(got[1], want[1]) < 5e-3


def test_rows_of_a_table_in_pinned_host_memory() -> None:
    table = torch.randn(5000, 200, dtype=torch.bfloat16)
    ids = torch.randint(0, 5000, (3, 111), device="cuda")
    got = elementwise.gather_rows(table.pin_memory(), ids)
    assert torch.equal(got.cpu(), table[ids.cpu()])


def test_gradient_of_the_norm(monkeypatch: Any) -> None:
    dn, h, weight, around = rand(37, 200), rand(37, 200), rand(200), rand(37, 200)
    for residual in (around, None):
        got = elementwise.norm_backward(dn, h, weight, 1e-6, residual)
        assert off(got, plainly(monkeypatch, elementwise.norm_backward, dn, h, weight, 1e-6, residual)) < 5e-3


def test_swiglu_and_its_gradient_in_place(monkeypatch: Any) -> None:
    gate_up, dm = rand(29, 2 * 1100), rand(29, 1100)
    assert off(elementwise.swiglu(gate_up), plainly(monkeypatch, elementwise.swiglu, gate_up)) < 5e-3
    one, other = (gate_up.clone(), dm.clone()), (gate_up.float(), dm.float())
    elementwise.swiglu_backward(*one)
    plainly(monkeypatch, elementwise.swiglu_backward, *other)
    assert off(one[0], other[0]) < 5e-3
    assert off(one[1], other[1]) < 5e-3


@pytest.mark.parametrize("back", [False, True])
def test_rotary_in_place_on_a_part_of_each_row(back: bool, monkeypatch: Any) -> None:
    qkv, angle = rand(31, 7 * 32), torch.rand(31, 16, device=DEVICE)
    cos, sin = (torch.cat([f(angle)] * 2, 1).to(DTYPE) for f in (torch.cos, torch.sin))
    got, want = qkv.clone(), qkv.float()
    elementwise.rotate(got[:, : 6 * 32], got[:, : 6 * 32], cos, sin, 32, back=back)
    part = want[:, : 6 * 32]
    plainly(monkeypatch, elementwise.rotate, part, part, cos.float(), sin.float(), 32, back=back)
    assert off(got, want) < 5e-3
    assert torch.equal(got[:, 6 * 32 :], qkv[:, 6 * 32 :])


def test_scores_of_rows_and_their_gradient(monkeypatch: Any) -> None:
    logits, target = 3 * rand(23, 5000), torch.randint(0, 5000, (23,), device=DEVICE)
    one, other = logits.clone(), logits.float()
    got = elementwise.score_rows(one, target, grad=True)
    want = plainly(monkeypatch, elementwise.score_rows, other, target, grad=True)
    assert off(got[0], want[0]) < 1e-4
    assert off(got[1], want[1]) < 1e-4
    assert torch.equal(got[2], want[2])
    assert off(one, other) < 5e-3


@pytest.mark.parametrize("nested", [True, False])
def test_nf4_is_unpacked_as_bitsandbytes_does(nested: bool) -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = rand(96, 704)
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=nested)
    out = torch.full((96, 720), float("nan"), device=DEVICE, dtype=DTYPE)
    elementwise.unpack_nf4(packed, state, out[:, :704])
    assert off(out[:, :704], dequantize_4bit(packed, state)) < 1e-3
    assert bool(out[:, 704:].isnan().all())
