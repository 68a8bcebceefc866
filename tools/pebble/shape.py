"""pebble's shape and special tokens: the one place that the tokenizer, the trainer and the export agree on."""

from typing import NamedTuple

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END)

# Plain ChatML, no default system prompt: what is rendered is what was written.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

# Qwen2's split pattern, so that llama.cpp's "qwen2" pre-tokenizer fits (llama.cpp, src/llama-vocab.cpp).
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Shape(NamedTuple):
    """A Qwen2 shape. Every matrix width is a multiple of 256, so that k-quants need no fallback type."""

    vocab_size: int = 6144
    hidden_size: int = 512
    intermediate_size: int = 1024
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    context: int = 2048
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    @property
    def parameters(self) -> int:
        """Weights in all, with tied embeddings and Qwen2's q/k/v biases."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden_size * (2 * q + 2 * kv) + q + 2 * kv
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        return self.vocab_size * self.hidden_size + self.layers * layer + self.hidden_size

    def as_config(self) -> dict[str, object]:
        """`config.json` of the Hugging Face model, readable by transformers 4 and 5."""
        return {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta, "rms_norm_eps": self.norm_eps, "hidden_act": "silu",
            "tie_word_embeddings": True, "attention_dropout": 0.0, "use_sliding_window": False,
            "bos_token_id": None, "eos_token_id": self.vocab_size - 1, "pad_token_id": self.vocab_size - 3,
            "torch_dtype": "bfloat16", "initializer_range": 0.02, "use_cache": True,
        }  # fmt: skip
