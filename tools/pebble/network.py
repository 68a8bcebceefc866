"""pebble's network in plain PyTorch: Qwen2 (https://arxiv.org/abs/2407.10671) on packed rows.

Documents of different length lie end to end in one row of tokens; `offsets` says where each begins, and attention never
crosses a border (torch's varlen flash attention). The parameter names are those of Hugging Face's Qwen2ForCausalLM.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

from shape import Shape


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32, then a learnt scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (x.float() * scale).to(x.dtype) * self.weight.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, half-rotation form; x: (tokens, heads, head_dim), cos/sin: (tokens, 1, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int) -> Tensor:
    """Causal attention inside each document."""
    out = varlen_attn(q, k, v, offsets, offsets, longest, longest, window_size=(-1, 0))
    return out if isinstance(out, Tensor) else out[0]


class Attention(nn.Module):
    """Grouped-query attention with biases on q, k and v, as Qwen2 has it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.k_proj = nn.Linear(shape.hidden_size, kv)
        self.v_proj = nn.Linear(shape.hidden_size, kv)
        self.o_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, offsets: Tensor, longest: int) -> Tensor:
        s = self.shape
        q = rotate(self.q_proj(x).view(-1, s.heads, s.head_dim), cos, sin)
        k = rotate(self.k_proj(x).view(-1, s.kv_heads, s.head_dim), cos, sin)
        v = self.v_proj(x).view(-1, s.kv_heads, s.head_dim)
        repeat = s.heads // s.kv_heads
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        mixed: Tensor = self.o_proj(attend(q, k, v, offsets, longest).reshape(-1, s.hidden_size))
        return mixed


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """Attention, then the MLP, each behind a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, offsets: Tensor, longest: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, offsets, longest)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Body(nn.Module):
    """Embedding, layers and last norm: what Hugging Face calls `model`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden_size, shape.norm_eps)


class Pebble(nn.Module):
    """Tokens and positions (both: one flat row) to logits (tokens, vocabulary). Embeddings are tied."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        for layer in self.modules():
            if isinstance(layer, Layer):
                nn.init.zeros_(layer.self_attn.o_proj.weight)
                nn.init.zeros_(layer.mlp.down_proj.weight)

    def forward(self, tokens: Tensor, positions: Tensor, offsets: Tensor, longest: int) -> Tensor:
        s = self.shape
        rates = s.rope_theta ** (-torch.arange(0, s.head_dim, 2, device=tokens.device).float() / s.head_dim)
        angles = (positions.float()[:, None] * rates[None]).repeat(1, 2)[:, None, :]
        x = self.model.embed_tokens(tokens)
        cos, sin = angles.cos().to(torch.bfloat16), angles.sin().to(torch.bfloat16)
        x = x.to(torch.bfloat16)
        for layer in self.model.layers:
            x = layer(x, cos, sin, offsets, longest)
        return functional.linear(self.model.norm(x), self.model.embed_tokens.weight.to(x.dtype))
