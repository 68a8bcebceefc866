"""What each key of an Axolotl configuration becomes here, or why it becomes nothing. Facts: Axolotl's schema, 2026."""

from typing import Any

# Same name, same meaning: key → section ("" = top level).
SAME = {
    "base_model": "", "sequence_len": "", "seed": "", "val_set_size": "prepare",
    **dict.fromkeys((
        "lora_r", "lora_alpha", "lora_dropout", "lora_target_linear", "lora_target_modules", "loraplus_lr_ratio",
        "neftune_noise_alpha", "micro_batch_size", "gradient_accumulation_steps", "num_epochs", "max_steps",
        "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "max_grad_norm", "optimizer", "sample_packing",
        "gradient_checkpointing", "logging_steps", "save_steps", "save_total_limit", "eval_steps",
        "early_stopping_patience", "load_best_model_at_end",
    ), "train"),
}  # fmt: skip
RENAMED = {
    "peft_use_rslora": ("train", "use_rslora"), "peft_use_dora": ("train", "use_dora"),
    "noisy_embedding_alpha": ("train", "neftune_noise_alpha"), "default_system_message": ("collect", "system_prompt"),
}  # fmt: skip
# What Axolotl does when a key is left out, where holdfast would do something else.
DEFAULTS: dict[str, dict[str, Any]] = {
    "prepare": {"val_set_size": 0.0},
    "train": {
        "micro_batch_size": 1, "num_epochs": 1.0, "warmup_ratio": 0.03, "sample_packing": False,
        "gradient_checkpointing": False,
    },
}  # fmt: skip
OPTIMIZERS = {
    "adamw_torch": "adamw_torch", "adamw_torch_fused": "adamw_torch", "adamw_hf": "adamw_torch",
    "adamw_bnb_8bit": "adamw_8bit", "adamw_8bit": "adamw_8bit", "paged_adamw_8bit": "paged_adamw_8bit",
    "paged_adamw_32bit": "paged_adamw_32bit",
}  # fmt: skip
SCHEDULERS = ("cosine", "linear", "constant", "constant_with_warmup")
# Not written into the new file, by the beginning of the key: why.
IGNORED = (
    (("wandb_", "mlflow_", "comet_", "swanlab_", "use_wandb", "use_mlflow", "use_comet", "gradio_", "use_tensorboard"),
     "no network: TensorBoard events are written to 05-train/logs"),
    (("hub_", "push_to_hub", "push_dataset_to_hub", "hf_use_auth_token", "hf_mirror"), "nothing is uploaded"),
    (("output_dir",), "becomes the name of the run; its folder is given with --run-dir"),
    (("bf16", "fp16", "tf32", "fp8", "bfloat16", "float16", "float32", "torch_dtype", "amp"),
     "bf16 on a card, float32 on a processor"),
    (("flash_", "sdp_attention", "xformers_attention", "flex_attention", "eager_attention", "attn_implementation",
      "s2_attention"), "torch's own varlen attention; packed rows never see each other"),
    (("deepspeed", "fsdp", "fsdp_", "ddp", "ddp_", "local_rank", "world_size", "device", "ray_", "accelerator_config",
      "tensor_parallel", "context_parallel", "sequence_parallel", "max_memory", "gpu_memory_limit",
      "low_cpu_mem_usage"),
     "how the work is placed is planned here: see holdfast plan"),
    (("liger_", "cut_cross_entropy", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "unsloth_", "torch_compile",
      "plugins", "chunked_cross_entropy"), "holdfast has its own fused layers and loss (train.kernels)"),
    (("dataset_", "dataloader_", "shuffle_merged", "skip_prepare", "remove_unused", "group_by_length",
      "pad_to_sequence", "eval_sample_packing", "sample_packing_", "multipack_", "min_sample_len", "batch_flattening"),
     "rows are prepared and packed by stage prepare and the trainer"),
    (("model_type", "tokenizer_type", "tokenizer_use_fast", "tokenizer_legacy", "tokenizer_config", "base_model_config",
      "model_config_type", "processor_type", "is_llama", "is_falcon", "is_mistral", "is_qwen", "trust_remote_code"),
     "read from the model folder; code of a model is never run"),
    (("resume_from_checkpoint", "auto_resume"), "the same command always goes on where it stopped"),
    (("save_safetensors", "save_first_step", "save_only_model", "debug", "strict", "profiler", "include_tokens",
      "eval_table", "eval_max_new_tokens", "eval_batch_size", "metric_for_best", "greater_is_better", "do_causal_lm",
      "do_bench", "bench_", "eval_causal", "gc_steps", "gradient_checkpointing_kwargs", "lora_model_dir", "lora_on_cpu",
      "merge_", "loss_watchdog", "eval_strategy", "evaluation_strategy", "save_strategy"), "holdfast has its own way"),
)  # fmt: skip
# Written differently, or not at all, and training differs by it: why.
CHANGED = (
    (("train_on_inputs", "roles_to_train", "train_on_eos"), "only answers and the tokens that end them are trained"),
    (("chat_template",), "the template of the model itself is used, in training and in serving"),
    (("special_tokens",), "tokens stay those of the model; padding is never the end token"),
    (("tokens", "added_tokens"), "no tokens are added"),
    (("lora_modules_to_save", "lora_fan_in_fan_out", "peft_", "loraplus_lr_embedding", "lora_target_parameters"),
     "only low-rank matrices of linear layers are trained"),
    (("adam_", "optim_args", "cosine_", "lr_groups", "lr_scheduler_kwargs", "lr_quadratic", "embedding_lr",
      "optim_target"),
     "the optimiser's usual values are used"),
    (("bnb_config_kwargs",), "NF4 with double quantisation; blocks and types are not configurable"),
)  # fmt: skip
# Cannot be done: the import stops.
REFUSED = (
    (("rl", "reward_model", "process_reward_model"), "only supervised training is translated"),
    (("gptq",), "GPTQ models cannot be trained here"),
    (("pretraining_dataset",), "pretraining on plain text is not done here"),
    (("relora", "use_pose", "unfrozen_parameters"), "there is nothing like it here"),
)
ROW_FORMATS = {
    "alpaca": "instruction", "alpaca_chat": "instruction", "alpaca_w_system": "instruction", "sharegpt": "sharegpt",
    "chat_template": "messages",
}  # fmt: skip
NO_ROW_FORMAT = ("completion", "input_output", "stepwise_supervised")
