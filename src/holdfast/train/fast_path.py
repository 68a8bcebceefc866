"""Puts the fast parts under a PEFT model: which of them apply, and why others do not."""

import types
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from holdfast.core.config import TrainConfig
from holdfast.core.errors import ConfigError
from holdfast.train import chunked_loss
from holdfast.train.attention import Heads, register, segments_of
from holdfast.train.elementwise import add_norm, norm_backward
from holdfast.train.fused_layer import Batch, FusedLayer, Norm
from holdfast.train.fused_lora import fuse_linears
from holdfast.train.graphs import Graphs
from holdfast.train.groups import Group, build_group, gather_copies
from holdfast.train.host_embedding import move_to_host
from holdfast.train.offload import HostStore, host_store
from holdfast.train.recompute import Policy, same_for_all
from holdfast.train.shards import shard

SMALL = 2**28  # weights: on the CPU models up to here stay de-quantised (unpacking takes longer than their products)
FAMILIES = ("llama", "mistral", "qwen2")


@dataclass
class FastPath:
    """What was put under a model. `notes` say why a layer was left as it is."""

    layers: list[FusedLayer]
    notes: list[str]
    store: HostStore | None
    graphs: Graphs | None = None
    alone: list[Group] = field(default_factory=list)

    @property
    def linears(self) -> int:
        """LoRA matrices that are a node of their own."""
        return len(self.alone)

    def forget(self) -> None:
        """Drop what an aborted step left behind."""
        if self.store is not None:
            self.store.forget()


def can_fuse(train: TrainConfig) -> bool:
    """Whether the configuration lets decoder layers be fused; then they recompute by themselves."""
    kernels = train.kernels
    return kernels.fused_layer and kernels.attention and train.plain_lora


def put_under(model: Any, train: TrainConfig, policy: Policy | None, *, sharded: bool = False) -> FastPath:
    """Everything that the configuration switches on, under the PEFT model of a trainer that is already built.

    sharded: the weights will lie in parts (train/shards.py): none is kept unpacked, and no step is replayed.
    """
    layers = model.get_base_model().config.num_hidden_layers
    default = same_for_all("layer" if train.gradient_checkpointing else "none", layers)
    chosen = (policy or default)._replace(keep_weights=False, graph_tokens=0) if sharded else policy or default
    path = install(
        model, chosen, fused_layer=can_fuse(train), fused_lora=train.kernels.fused_lora,
        attention=train.kernels.attention, unpacked_on_cpu=not sharded,
    )  # fmt: skip
    if train.gradient_checkpointing and can_fuse(train) and not path.layers:  # the trainer was told not to do it
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    if train.kernels.chunked_loss and not getattr(model.get_base_model().config, "final_logit_softcapping", None):
        chunked_loss.install(model.get_base_model())
    return path


def special_attention(config: Any) -> str | None:
    """Why the model's attention is not plain causal attention over a document, so that its own has to stay."""
    kinds = getattr(config, "layer_types", None)
    window = any(kind != "full_attention" for kind in kinds) if kinds else getattr(config, "sliding_window", None)
    if window:
        return "attention with a sliding window stays as it is"
    if getattr(config, "attention_dropout", 0) or getattr(config, "attn_logit_softcapping", None):
        return "attention with dropout or capped scores stays as it is"
    return None


def install(
    model: Any,
    policy: Policy,
    *,
    fused_layer: bool = True,
    fused_lora: bool = True,
    attention: bool = True,
    unpacked_on_cpu: bool = True,
) -> FastPath:
    """Fuse the decoder layers of a PEFT model (else its LoRA linears), its final norm, its attention.

    The trainer's own gradient checkpointing must be off where layers are fused: the policy replaces it.
    """
    decoder = model.get_base_model().get_decoder()
    device, dtype = decoder.norm.weight.device, decoder.norm.weight.dtype
    path = FastPath([], [], host_store(device) if policy.offload and device.type == "cuda" else None)
    if policy.host_embedding and (why := move_to_host(model.get_base_model())):
        path.notes.append(f"{why}: it stays on the card")
    if special := special_attention(decoder.config):
        path.notes.append(special)
        attention = fused_layer = False
    if attention:
        decoder.config._attn_implementation = register()
    if fused_layer:
        _fuse_all(decoder, path, policy, unpacked_on_cpu=unpacked_on_cpu)
    if fused_lora and not path.layers:
        path.alone = fuse_linears(model, dtype)
    if path.layers:
        _fuse_final_norm(decoder.norm)
    if attention:
        _describe_batches(decoder, path.layers)
    return path


def _fuse_all(decoder: Any, path: FastPath, policy: Policy, *, unpacked_on_cpu: bool) -> None:
    """All decoder layers or, with a note, none."""
    device, dtype = decoder.norm.weight.device, decoder.norm.weight.dtype
    count = sum(m.in_features * m.out_features for m in decoder.layers.modules() if isinstance(m, torch.nn.Linear))
    keep = policy.keep_weights or (unpacked_on_cpu and device.type == "cpu" and count <= SMALL)
    for index, layer in enumerate(decoder.layers):
        fused = _fuse(layer, index, decoder.config, dtype, keep_weights=keep)
        if isinstance(fused, str):
            path.notes.append(fused)
            path.layers.clear()
            return
        fused.level, fused.mlp_tokens, fused.store = policy.levels[index], policy.mlp_tokens, path.store
        path.layers.append(fused)
    if device.type == "cuda" and policy.graph_tokens and path.store is None:
        path.graphs = Graphs(tuple(path.layers), policy.graph_tokens)
    for layer, fused in zip(decoder.layers, path.layers, strict=True):
        layer.forward = types.MethodType(_forward_of(fused, path.graphs, layer.forward), layer)


def shard_weights(path: FastPath | None, group: Any) -> int:
    """Divide the weights under `path` among the processes of `group`; bytes that this one gave away.

    Raises ConfigError when nothing can be divided: only holdfast's own layers and matrices gather what they need.
    """
    path = path or FastPath([], [], None)
    groups = [*(group for layer in path.layers for group in layer.groups()), *path.alone]
    if not groups:
        raise ConfigError(
            "train.distributed: fsdp divides only what holdfast computes itself, and here that is nothing: "
            + "; ".join(path.notes or ["train.kernels switches it off"]),
            hint="train.kernels.use: auto and lora_dropout: 0, or train.distributed: ddp",
        )
    return sum(shard(part.linear, group) for found in groups for part in found.parts)


def _fuse(layer: Any, index: int, config: Any, dtype: torch.dtype, *, keep_weights: bool) -> FusedLayer | str:
    """The fused layer, or why there is none."""
    if config.model_type not in FAMILIES:
        return f"{config.model_type} layers are not fused (only {', '.join(FAMILIES)})"
    attention, mlp = layer.self_attn, layer.mlp
    if getattr(config, "hidden_act", "silu") != "silu":
        return "layers with another activation than silu are not fused"
    named = (
        [attention.q_proj, attention.k_proj, attention.v_proj], [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj], [mlp.down_proj],
    )  # fmt: skip
    groups = [build_group(modules, dtype, widen=True, keep_weights=keep_weights) for modules in named]
    if any(group is None for group in groups):
        return "layers with LoRA dropout, DoRA or several adapters are not fused"
    qkv, o, gate_up, down = (group for group in groups if group is not None)
    norm_in, norm_mid = layer.input_layernorm, layer.post_attention_layernorm
    heads = Heads(config.num_attention_heads, config.num_key_value_heads, attention.head_dim, attention.scaling)
    return FusedLayer(
        index, heads,
        Norm(norm_in.weight.data, norm_in.variance_epsilon), Norm(norm_mid.weight.data, norm_mid.variance_epsilon),
        qkv, o, gate_up, down,
    )  # fmt: skip


def _forward_of(fused: FusedLayer, graphs: Graphs | None, before: Any) -> Any:
    def forward(self: Any, hidden_states: Tensor, *args: Any, **named: Any) -> Tensor:
        batch = named.pop("holdfast_batch", None)
        if batch is None or named.get("past_key_values") is not None:
            return before(hidden_states, *args, **named)
        if graphs is not None and graphs.fits(hidden_states):  # then the first layer runs them all
            return graphs.run(hidden_states, batch) if fused.index == 0 else hidden_states
        return fused.run(hidden_states, batch)

    return forward


def _describe_batches(decoder: Any, layers: list[FusedLayer]) -> None:
    """Before each pass: copy the adapters, and hand the documents and rotary angles down to every layer."""
    copies = gather_copies([group for layer in layers for group in layer.groups()])

    def describe(module: Any, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if named.get("past_key_values") is not None:
            return args, named
        x = named.get("input_ids") if named.get("input_ids") is not None else named.get("inputs_embeds")
        x = args[0] if x is None else x
        shape = (int(x.shape[0]), int(x.shape[1]))
        segments = segments_of(shape, x.device, named)
        extra: dict[str, Any] = {"cu_seq_lens_q": segments.bounds, "cu_seq_lens_k": segments.bounds}
        extra |= {"max_length_q": segments.longest, "max_length_k": segments.longest}
        if layers:
            copies.refresh()
            position = named.get("position_ids")
            if position is None:
                position = torch.arange(shape[1], device=x.device)[None]
            example = module.norm.weight.new_empty(1)
            with torch.no_grad():
                cos, sin = module.rotary_emb(example, position.expand(shape))
            width = cos.shape[-1]
            extra["holdfast_batch"] = Batch(segments, cos.reshape(-1, width), sin.reshape(-1, width))
        return args, named | extra

    decoder.register_forward_pre_hook(describe, with_kwargs=True)


class _FinalNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return add_norm(x, None, weight, eps)[1]

    @staticmethod
    def backward(ctx: Any, dn: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        return norm_backward(dn.contiguous(), x, weight, ctx.eps, None), None, None


def _fuse_final_norm(norm: Any) -> None:
    def forward(self: Any, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            rows = hidden.reshape(-1, hidden.shape[-1])
            return _FinalNorm.apply(rows, self.weight.data, self.variance_epsilon).view(hidden.shape)

    norm.forward = types.MethodType(forward, norm)
