"""Keys of section `train`."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from holdfast.core.errors import ConfigError
from holdfast.core.section import Part, Positive, Section

QUANTIZATIONS: dict[str, Literal["nf4", "int8", "none"]] = {"qlora": "nf4", "int8": "int8", "lora": "none"}


class KernelsConfig(Section):
    """Which of holdfast's own parts lie under the trainer. Each can be switched off by itself."""

    use: Literal["auto", "never"] = "auto"
    """`never` leaves everything to TRL, PEFT and bitsandbytes."""
    fused_layer: bool = True
    """Decoder layers as one node, forward and backward by hand (llama, mistral, qwen2; no LoRA dropout, no DoRA)."""
    fused_lora: bool = True
    """LoRA matrices as one node each, where layers are not fused."""
    attention: bool = True
    """Packed documents by torch's varlen flash attention; false = SDPA with a dense mask, which also unfuses layers."""
    chunked_loss: bool = True
    """Loss from labelled positions only, in pieces; false = TRL's own fused head."""


class TrainConfig(Section):
    """How to train. Names and meanings are those of Axolotl, PEFT and the Hugging Face trainer."""

    adapter: Literal["qlora", "int8", "lora"] = "qlora"
    """`qlora` = 4-bit NF4 base model with double quantisation; `int8` = 8-bit base model (Axolotl's `load_in_8bit`);
    `lora` = base model in its own precision."""
    lora_r: Positive = 16
    """Rank of the adapter."""
    lora_alpha: Positive = 32
    """Scale of the adapter; its effect is `lora_alpha / lora_r`."""
    lora_dropout: Part = 0.0
    """Dropout on the adapter's input; below 1, which would train nothing."""
    lora_target_linear: bool = True
    """Adapt every linear layer; false, unless it is set, when `lora_target_modules` is given."""
    lora_target_modules: tuple[str, ...] = ()
    """Names of the layers to adapt, for example `[q_proj, v_proj]`; every one of them must exist."""
    use_rslora: bool = False
    """Scale the adapter by `lora_alpha / sqrt(lora_r)` instead: for large ranks (rsLoRA)."""
    use_dora: bool = False
    """Also train a magnitude for each output of an adapted layer (DoRA): slower, layers are not fused."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1, le=1e6)] | None = None
    """Learning rate of the B matrices over that of the A matrices (LoRA+), for example 16; `null` = the same."""
    micro_batch_size: Annotated[int, Field(gt=0, le=2**20)] = 8
    """Rows in one step; `plan` may lower it and raise the accumulation, so that the product stays."""
    gradient_accumulation_steps: Positive = 1
    """Micro-batches before one optimiser step."""
    num_epochs: Annotated[float, Field(gt=0)] = 3
    """How often the training rows are seen."""
    max_steps: int = -1
    """Stop after that many optimiser steps; wins over `num_epochs` when above 0."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 2e-4
    """Peak learning rate."""
    lr_scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_ratio: Part = 0.05
    """Share of the steps in which the learning rate rises; below 1."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of the optimiser."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    optimizer: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"] = "adamw_torch"
    """The 8-bit and paged ones are those of bitsandbytes."""
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = None
    """Noise on the embeddings while training (NEFTune), for example 5; `null` = none."""
    sample_packing: bool = True
    """Fill each row of `sequence_len` tokens with several examples."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, more time."""
    recompute: Literal["auto", "layer", "attention", "mlp", "cheap", "none"] = "auto"
    """What fused layers compute again, from most to least; `auto` = as `plan` finds that it fits."""
    activation_offloading: bool | Literal["auto"] = "auto"
    """Keep what fused layers save in pinned host memory; `auto` = when `plan` finds no other way to fit."""
    embedding_offloading: bool | Literal["auto"] = "auto"
    """Keep the input embedding in pinned host memory, for models whose head is a matrix of its own; `auto` = when that
    leaves room for something faster, or `plan` finds no other way to fit."""
    kernels: KernelsConfig = KernelsConfig()
    logging_steps: Positive = 5
    """Write the loss every so many optimiser steps."""
    save_steps: Positive = 50
    """Save a checkpoint every so many optimiser steps; a killed run goes on from the newest whole one."""
    save_total_limit: Positive = 2
    """Checkpoints to keep; never fewer than 2."""
    eval_steps: Positive = 50
    """Measure the validation loss every so many optimiser steps."""
    early_stopping_patience: Positive | None = None
    """Stop when that many evaluations in a row brought no lower validation loss; `null` = never."""
    load_best_model_at_end: bool = False
    """Keep the adapter with the lowest validation loss (its checkpoint is saved and stays) instead of the last one."""
    nproc: Positive = 1
    """Processes on this machine that train together, one for each card; on the CPU each takes its share of the cores.
    The effective batch is divided among them. Also `--nproc`."""
    distributed: Literal["ddp", "fsdp"] = "ddp"
    """How several processes hold the model: `ddp` = each one whole, `fsdp` = each one a part (slower; where a
    model loads on one card but does not train there)."""
    nnodes: Positive = 1
    """Machines that train together. On each of the others the line that `--dry-run` prints is started by hand."""
    master: Annotated[str, Field(pattern=r"^[^\s:]+:\d{1,5}$")] = "127.0.0.1:29500"
    """Address and port where several machines meet: those of the first one. With one machine nothing listens there."""

    @model_validator(mode="before")
    @classmethod
    def _named_targets_are_meant(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("lora_target_modules") and "lora_target_linear" not in data:
            return {**data, "lora_target_linear": False}
        return data

    @model_validator(mode="after")
    def _one_kind_of_target(self) -> "TrainConfig":
        if self.lora_target_linear and self.lora_target_modules:
            raise ValueError("lora_target_linear is true and lora_target_modules is given: leave one of them out")
        return self

    @property
    def quantization(self) -> Literal["nf4", "int8", "none"]:
        """The precision of the base model, for training and for every measurement in transformers."""
        return QUANTIZATIONS[self.adapter]

    @property
    def plain_lora(self) -> bool:
        """Whether the adapter is one that decoder layers can be fused with."""
        return self.lora_dropout == 0 and not self.use_dora

    def refuse_without_validation(self, rows: int) -> None:
        """Raises ConfigError when something is to be told from a validation loss that nobody measures."""
        wanted = [name for name in ("early_stopping_patience", "load_best_model_at_end") if getattr(self, name)]
        if wanted and not rows:
            raise ConfigError(
                f"train.{' and train.'.join(wanted)} need a validation loss, but there are 0 validation rows",
                hint="give some with prepare.val_set_size, or a source with split: valid",
            )
