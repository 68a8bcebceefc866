"""Speed of single parts on one card: products, unpacking, attention, copies. One JSON line (milliseconds, median)."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

import torch
from train_gpu import environment, gemm_limit
from triton.testing import do_bench


def timed(function: Any) -> float:
    """Median milliseconds."""
    return round(float(do_bench(function, warmup=20, rep=60, return_mode="median")), 4)


def rand(*shape: int) -> torch.Tensor:
    """bf16 on the card."""
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def products(tokens: int) -> dict[str, float]:
    """TFLOP/s of the products of a Qwen2.5-7B layer, and of thin products beside them (ms)."""
    found: dict[str, float] = {}
    for name, outputs, inputs in (
        ("qkv", 4608, 3584),
        ("o", 3584, 3584),
        ("gate_up", 37888, 3584),
        ("down", 3584, 18944),
    ):
        x, w, dy = rand(tokens, inputs), rand(outputs, inputs), rand(tokens, outputs)
        y = torch.empty(tokens, outputs, device="cuda", dtype=torch.bfloat16)
        flop = 2 * tokens * outputs * inputs / 1e9
        found[f"{name} forward TFLOP/s"] = flop / timed(lambda x=x, w=w, y=y: torch.mm(x, w.t(), out=y))
        found[f"{name} backward TFLOP/s"] = flop / timed(lambda w=w, dy=dy: dy @ w)
        wide_x, wide_w = rand(tokens, inputs + 64), rand(outputs, inputs + 64)
        found[f"{name} augmented ms"] = timed(lambda x=wide_x, w=wide_w, y=y: torch.mm(x, w.t(), out=y))
        found[f"{name} forward ms"] = timed(lambda x=x, w=w, y=y: torch.mm(x, w.t(), out=y))
        a, b, thin = rand(16, inputs), rand(outputs, 16), rand(tokens, 16)
        found[f"{name} x A ms"] = timed(lambda x=x, a=a: x @ a.t())
        found[f"{name} += update ms"] = timed(lambda y=y, thin=thin, b=b: y.addmm_(thin, b.t()))
        found[f"{name} dy B ms"] = timed(lambda dy=dy, b=b: dy @ b)
        found[f"{name} dA ms"] = timed(lambda x=x, thin=thin: torch.mm(thin.t(), x, out_dtype=torch.float32))
        found[f"{name} dB ms"] = timed(lambda dy=dy, thin=thin: torch.mm(dy.t(), thin, out_dtype=torch.float32))
    return {name: round(value, 4) for name, value in found.items()}


def unpacking() -> dict[str, float]:
    """NF4 of one Qwen2.5-7B gate_proj: ours and bitsandbytes'."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    from holdfast.train import elementwise

    packed, state = quantize_4bit(rand(18944, 3584), quant_type="nf4", compress_statistics=True)
    out = rand(18944, 3584)
    found = {"bitsandbytes ms": timed(lambda: dequantize_4bit(packed, state))}
    for size in (512, 1024, 2048, 4096):
        elementwise._NF4_BYTES = size
        found[f"ours, {size} bytes ms"] = timed(lambda: elementwise.unpack_nf4(packed, state, out))
    return found


def layer_parts(tokens: int) -> dict[str, float]:
    """Attention over documents of 350 tokens, norm, rotary, SwiGLU, scores."""
    from holdfast.train import elementwise
    from holdfast.train.attention import Heads, Segments, attend, attend_backward

    heads = Heads(28, 4, 128, 128**-0.5)
    cuts = torch.tensor([*range(0, tokens, 350), tokens], dtype=torch.int32, device="cuda")
    segments, qkv = Segments(cuts, 350), rand(tokens, 36 * 128)
    out, lse = attend(qkv, heads, segments)
    x, weight, angle = rand(tokens, 3584), rand(3584), rand(tokens, 128)
    gate_up, m, logits = rand(tokens, 37888), rand(tokens, 18944), rand(2048, 152064)
    target = torch.randint(0, 152064, (2048,), device="cuda")
    return {
        "attention forward": timed(lambda: attend(qkv, heads, segments)),
        "attention backward": timed(lambda: attend_backward(out, qkv, out, lse, heads, segments)),
        "norm": timed(lambda: elementwise.add_norm(x, x, weight, 1e-6)),
        "norm backward": timed(lambda: elementwise.norm_backward(x, x, weight, 1e-6, x)),
        "rotary": timed(lambda: elementwise.rotate(qkv, qkv, angle, angle, 128)),
        "swiglu": timed(lambda: elementwise.swiglu(gate_up)),
        "swiglu backward": timed(lambda: elementwise.swiglu_backward(gate_up, m)),
        "scores of 2048 rows": timed(lambda: elementwise.score_rows(logits, target, grad=True)),
    }


def copies() -> dict[str, float]:
    """GB/s: device to device (read + write), device to pinned host, and back."""
    a, b = rand(2**29), rand(2**29)
    host = torch.empty(2**28, dtype=torch.bfloat16, pin_memory=True)
    return {
        "device": round(4 * 2**29 / timed(lambda: b.copy_(a)) / 1e6),
        "to host": round(2**29 / timed(lambda: host.copy_(a[: 2**28], non_blocking=True)) / 1e6, 1),
        "from host": round(2**29 / timed(lambda: a[: 2**28].copy_(host, non_blocking=True)) / 1e6, 1),
    }


def main() -> None:
    """One JSON line."""
    found: dict[str, Any] = {"bench": "gpu_parts", **environment(), "gemm_tflops": gemm_limit()}
    for name, part in (("unpacking", unpacking), ("copies", copies)):
        found[name] = part()
    for tokens in (16384, 1024):
        found[f"layer parts, {tokens} tokens"] = layer_parts(tokens)
        found[f"products, {tokens} tokens"] = products(tokens)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
