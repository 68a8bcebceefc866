"""The trainers that bench/train_gpu.py compares; each takes a case and a step count."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


POLICY = ("offload", "mlp_tokens", "keep_weights", "graph_tokens", "host_embedding")


def run_config(base: str, tokens: int, **train: Any) -> Any:
    """Settings of docs/benchmarks.md: LoRA r 16 on all matrices, paged 8-bit AdamW, packing, no dropout."""
    from holdfast.core.config import RunConfig

    settings = {
        "adapter": "qlora" if base == "nf4" else "lora", "lora_r": 16, "lora_alpha": 32, "micro_batch_size": 1,
        "gradient_accumulation_steps": 1, "optimizer": "paged_adamw_8bit", "learning_rate": 1e-4,
        "logging_steps": 1, "save_steps": 10_000, "warmup_ratio": 0.0, "lr_scheduler": "constant",
    } | train  # fmt: skip
    return RunConfig.model_validate(
        {"name": "bench", "sequence_len": tokens, "collect": {"sources": [{"path": "x"}]}, "train": settings}
    )


def holdfast_trainer(case: dict[str, Any], steps: int, folder: Path) -> Any:
    """The trainer that `holdfast train` builds, around random weights on the card or those of the case's `folder`."""
    from gpu_model import WordTokenizer, build_model, documents
    from torch.utils.tensorboard import SummaryWriter

    from holdfast.models import TrainingTokens, load_model
    from holdfast.train.recompute import read_policy
    from holdfast.train.trainer import Job, build_trainer

    if "folder" in case:
        model = load_model(Path(case["folder"]), quantization=case["base"], together=False)
        model.config.use_cache = False
    else:
        model = build_model(case["shape"], case["base"])
    count = model.config.num_hidden_layers
    settings = {key: case[key] for key in POLICY if key in case}
    policy = read_policy({"levels": case.get("levels") or [[case.get("level", "layer"), count]], **settings})
    train = {"max_steps": steps, "kernels": case.get("kernels", {})}
    config = run_config(case["base"], case["tokens"], **train)
    rows = [
        TrainingTokens(**r) for r in documents((steps + 4) * case["tokens"], model.config.vocab_size, case["tokens"])
    ]
    job = Job(folder, config.train, case["tokens"], 1, 1, 1, None, policy)
    return build_trainer(job, model, WordTokenizer.build(), rows, [], folder, SummaryWriter(str(folder)))


def trl_trainer(case: dict[str, Any], steps: int, folder: Path) -> Any:
    """TRL as it comes: `trl` = padded batches, `trl-liger` = packing and Liger's kernels; checkpointing in both.

    A padded batch has as many rows as make `tokens` real ones on the average.
    """
    import torch
    from datasets import Dataset
    from gpu_model import WordTokenizer, build_model, documents
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    model = build_model(case["shape"], case["base"])
    model.config.use_cache = False
    packed, cuda = case["trainer"] == "trl-liger", torch.cuda.is_available()
    rows = documents((steps + 4) * case["tokens"], model.config.vocab_size, case["tokens"])
    average = sum(len(row["input_ids"]) for row in rows) / len(rows)
    batch = 1 if packed else max(1, round(case["tokens"] / average))
    arguments = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=batch, max_steps=steps, learning_rate=1e-4,
        lr_scheduler_type="constant", optim="paged_adamw_8bit", max_length=case["tokens"] if packed else 1024,
        packing=packed, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
        use_liger_kernel=packed and cuda, logging_steps=1, save_strategy="no", report_to="none", bf16=cuda,
        use_cpu=not cuda, dataloader_pin_memory=cuda, disable_tqdm=True, seed=1,
    )  # fmt: skip
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=WordTokenizer.build(),
        peft_config=lora,
    )  # fmt: skip


def unsloth_trainer(case: dict[str, Any], steps: int, folder: Path) -> Any:
    """Unsloth on packed rows with its own checkpoint offload, or (level `none`) without any recomputation.

    It loads a folder: weights are written first.
    """
    from unsloth import FastLanguageModel  # isort: skip (first: it patches what is imported after it)

    from datasets import Dataset
    from gpu_model import WordTokenizer, build_model, documents
    from trl import SFTConfig, SFTTrainer

    home = Path(tempfile.gettempdir()) / "unsloth-bench" / case["shape"]
    if not (home / "config.json").exists():
        built = build_model(case["shape"], "bf16")
        vocabulary = built.config.vocab_size
        built.save_pretrained(home)
        WordTokenizer.build().save_pretrained(home)
        del built
    again: Any = False if case.get("level") == "none" else "unsloth"
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(home), max_seq_length=case["tokens"], load_in_4bit=True, local_files_only=True,
        use_gradient_checkpointing=again,
    )  # fmt: skip
    vocabulary = model.config.vocab_size
    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=32, lora_dropout=0, bias="none", use_gradient_checkpointing=again,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )  # fmt: skip
    rows = documents((steps + 4) * case["tokens"], vocabulary, case["tokens"])
    arguments = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=1, max_steps=steps, learning_rate=1e-4,
        lr_scheduler_type="constant", optim="paged_adamw_8bit", max_length=case["tokens"], packing=True,
        gradient_accumulation_steps=1, logging_steps=1, save_strategy="no", report_to="none", bf16=True,
        disable_tqdm=True, seed=1, **({} if again else {"gradient_checkpointing": False}),
    )  # fmt: skip
    return SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


BUILDERS = {"holdfast": holdfast_trainer, "trl": trl_trainer, "trl-liger": trl_trainer, "unsloth": unsloth_trainer}
