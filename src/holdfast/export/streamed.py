"""Run a model whose weights stay on disk: one layer is in memory at a time, and every prompt goes through it.

So a check of an 8B model needs the memory of one layer and of the head in float32, not of the model. The layers are
those of transformers, an adapter is PEFT's own: nothing here repeats what is to be checked.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import ModelError
from holdfast.export.lora import is_old_copy
from holdfast.export.weights import Source

if TYPE_CHECKING:
    import torch

PIECE = 64  # positions whose logits are there at once
Watch = Callable[[str, "torch.Tensor"], None]


class Streamed:
    """A causal language model of `folder` (its config.json) with weights from `source`, and PEFT's adapter on it.

    Computes in float32 on `device`. Raises ModelError when a weight is in neither source nor adapter.
    """

    def __init__(self, folder: Path, source: Source, *, adapter: Path | None = None, device: str = "cpu") -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model.config._attn_implementation = _register_attention()
        self._plain: Any = model
        self._wrapped: Any = model if adapter is None else _with_adapter(model, adapter, device)
        self._source, self._device = source, device
        self._plain.eval()
        self._rotary: Any = type(model.model.rotary_emb)(config).to(device)

    def logits(self, prompts: Sequence[Sequence[int]], *, plain: bool = False) -> "Iterator[torch.Tensor]":
        """Logits of each prompt (token ids), float32 [positions, vocabulary] on the host, in order.

        plain: without the adapter.
        """
        import torch

        for pieces in self.logits_in_pieces(prompts, [range(len(prompt)) for prompt in prompts], plain=plain):
            yield torch.cat([logits.cpu() for _, logits in pieces])

    def logits_in_pieces(
        self, prompts: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], *, plain: bool = False
    ) -> "Iterator[Iterator[tuple[Sequence[int], torch.Tensor]]]":
        """Of each prompt, in order: (at most PIECE of its `positions`, their logits). Those of a long answer over a
        large vocabulary would take more memory than all else."""
        import torch

        with torch.inference_mode():
            states = self.states(prompts, plain=plain)
            head = self._plain.lm_head
            tied = bool(self._plain.config.tie_word_embeddings)
            self._load(head, "model.embed_tokens" if tied else "lm_head")
            for state, wanted in zip(states, positions, strict=True):
                parts = [wanted[start : start + PIECE] for start in range(0, len(wanted), PIECE)]
                yield ((part, head(state[0, list(part)])) for part in parts)
            _drop(head)

    def states(
        self, prompts: Sequence[Sequence[int]], *, plain: bool = False, watch: Watch | None = None
    ) -> "list[torch.Tensor]":
        """What the head would read: [1, positions, hidden] of each prompt.

        plain: without the adapter. watch: called with the name of each linear layer's weight and its input.
        """
        import torch

        with torch.inference_mode():
            return self._states(prompts, plain=plain, watch=watch)

    def _states(self, prompts: Sequence[Sequence[int]], *, plain: bool, watch: Watch | None) -> "list[torch.Tensor]":
        import torch

        body = self._plain.model
        self._load(body.embed_tokens, "model.embed_tokens")
        states = [body.embed_tokens(torch.tensor([list(ids)], device=self._device)) for ids in prompts]
        _drop(body.embed_tokens)
        for number, layer in enumerate(body.layers):
            name = f"model.layers.{number}"
            self._load(layer, name)
            _switch(layer, on=not plain)
            hooks = [] if watch is None else _watch(layer, name, watch)
            for index, state in enumerate(states):
                positions = torch.arange(state.shape[1], device=self._device)[None]
                turned = self._rotary(state, positions)
                out = layer(state, position_ids=positions, position_embeddings=turned, attention_mask=None)
                states[index] = out[0] if isinstance(out, tuple) else out
            for hook in hooks:
                hook.remove()
            _drop(layer)
        self._load(body.norm, "model.norm")
        for index, state in enumerate(states):
            states[index] = body.norm(state)
        return states

    def _load(self, module: Any, name: str) -> None:
        """Put the weights of a module in place; those that are there already (the adapter's) stay."""
        import torch

        for path, parameter in list(module.named_parameters()):
            if parameter.device.type != "meta":
                continue
            place = f"{name}.{path}".replace(".base_layer.", ".").replace(".original_module.", ".")
            if place not in self._source.names:
                raise ModelError(f"there is no weight {place} in the model's files", hint="copy the model again")
            owner = module.get_submodule(path.rpartition(".")[0])
            value = self._source.read(place).to(self._device)
            owner._parameters[path.rpartition(".")[2]] = torch.nn.Parameter(value, requires_grad=False)


def _register_attention() -> str:
    """Make `causal_attention` known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register("holdfast_streamed", causal_attention)
    return "holdfast_streamed"


def causal_attention(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    scaling: float | None = None,
    **_: Any,
) -> "tuple[torch.Tensor, None]":
    """Attention over one whole prompt: [1, heads, positions, head width] -> [1, positions, heads, head width].

    Keys and values are repeated for the query heads that share them. In float32 torch has no fused kernel for grouped
    heads on a card, and its plain one holds heads x positions² numbers (docs/log.md).
    """
    import torch

    shared = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(shared, dim=1) for part in (key, value))
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return mixed.transpose(1, 2).contiguous(), None


def _with_adapter(model: Any, folder: Path, device: str) -> Any:
    """PEFT's adapter, on `device`, around a model without weights. (PEFT's own loading would put the adapter where the
    base is: on the meta device, without values.)"""
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.utils import load_peft_weights

    settings = LoraConfig.from_pretrained(str(folder))
    settings.base_model_name_or_path = model.name_or_path  # PEFT warns when they differ
    wrapped = get_peft_model(model, settings).eval()
    known = {_saved_name(name): name for name in wrapped.state_dict() if ".default" in name}
    saved = load_peft_weights(str(folder), device="cpu")
    values = {name.replace(".modules_to_save.", "."): value for name, value in saved.items() if not is_old_copy(name)}
    foreign = sorted(set(values) - set(known))
    if foreign:
        raise ModelError(f"the adapter in {folder} has tensors without a place, for example {foreign[0]}")
    there = {known[name]: value.to(device, dtype=torch.float32) for name, value in values.items()}
    wrapped.load_state_dict(there, strict=False, assign=True)
    for parameter in wrapped.parameters():
        parameter.requires_grad_(False)
    return wrapped


def _saved_name(name: str) -> str:
    """What PEFT calls a parameter in the file of an adapter."""
    short = name.replace(".modules_to_save.default", "").replace(".default", "")
    return short.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def _switch(module: Any, *, on: bool) -> None:
    for part in module.modules():
        if hasattr(part, "enable_adapters"):
            part.enable_adapters(on)


def _watch(layer: Any, name: str, watch: Watch) -> list[Any]:
    import torch

    def hook(place: str) -> Callable[..., None]:
        return lambda module, inputs, output: watch(place, inputs[0])

    linear = [(path, part) for path, part in layer.named_modules() if isinstance(part, torch.nn.Linear)]
    return [part.register_forward_hook(hook(f"{name}.{path}.weight")) for path, part in linear if "lora_" not in path]


def _drop(module: Any) -> None:
    """Forget the base weights of a module; the adapter's stay."""
    import torch

    for path, parameter in list(module.named_parameters()):
        if "lora_" not in path and ".default" not in path:
            owner = module.get_submodule(path.rpartition(".")[0])
            empty = torch.empty_like(parameter, device="meta")
            owner._parameters[path.rpartition(".")[2]] = torch.nn.Parameter(empty, requires_grad=False)
