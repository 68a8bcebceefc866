"""Keys of section train: each does what its name says, resumes exactly, and its adapter can be merged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from holdfast import models
from holdfast.core.errors import StageError
from holdfast.train import trainer as training
from holdfast.train.checkpoints import is_whole
from short_training import adapter_digest, resumed, short_job, talks, tiny_base, train_short

OPTIONS: dict[str, dict[str, Any]] = {
    "neftune and dropout": {"neftune_noise_alpha": 5, "lora_dropout": 0.1},
    "dora": {"use_dora": True},
    "rslora and lora+": {"use_rslora": True, "loraplus_lr_ratio": 4, "weight_decay": 0.1},
    "lora+ with 8-bit states": {"loraplus_lr_ratio": 4, "optimizer": "adamw_8bit"},
    "int8, packed, neftune": {"adapter": "int8", "sample_packing": True, "neftune_noise_alpha": 5},
    "nf4, dora": {"adapter": "qlora", "use_dora": True},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Digests of the adapters that the same training gives without any of the keys."""
    folder = tmp_path_factory.mktemp("plain")
    return {
        adapter_digest(train_short(short_job(base, adapter=kind), folder / kind), folder / kind)
        for kind in ("lora", "qlora", "int8")
    }


@pytest.mark.parametrize("name", OPTIONS)
def test_interrupted_and_resumed_gives_the_bytes_of_the_whole_training(
    name: str, base: Path, plain: set[str], tmp_path: Path
) -> None:
    job = short_job(base, **OPTIONS[name])
    whole = train_short(job, tmp_path / "whole")
    again = resumed(job, tmp_path / "whole" / "checkpoint-4", tmp_path / "again")
    assert adapter_digest(whole, tmp_path / "whole") == adapter_digest(again, tmp_path / "again")
    assert adapter_digest(whole, tmp_path / "x") not in plain, "the keys do something"


def test_one_process_trains_on_one_of_several_cards(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = training.SFTConfig.n_gpu
    monkeypatch.setattr(training.SFTConfig, "n_gpu", property(lambda self: getattr(self, "_n_gpu", 0) or 3))
    assert training.build_arguments(short_job(base), tmp_path, evaluating=False)._n_gpu == 1
    monkeypatch.setattr(training.SFTConfig, "n_gpu", seen)
    assert training.build_arguments(short_job(base), tmp_path, evaluating=False).n_gpu == 0, "no card here"


def test_no_number_of_steps_means_the_epochs(base: Path, tmp_path: Path) -> None:
    steps = {n: training.build_arguments(short_job(base, max_steps=n), tmp_path, False).max_steps for n in (-5, 0, 4)}
    assert steps == {-5: -1, 0: -1, 4: 4}, "the trainer itself takes one step for 0"


@pytest.mark.parametrize(("method", "workers"), [("fork", 1), ("spawn", 0), ("forkserver", 0)])
def test_a_loader_has_a_worker_only_where_starting_one_is_cheap(
    method: str, workers: int, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: method)
    assert training._loader_workers(short_job(base), cuda=True) == workers
    assert training._loader_workers(short_job(base), cuda=False) == 0
    assert training._loader_workers(short_job(base, kernels={"use": "never"}), cuda=True) == 0


def test_neftune_noise_is_there_once_also_after_out_of_memory(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[int] = []
    before = training.SFTTrainer.training_step

    def step(self: Any, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        hooks.append(len(model.get_base_model().get_input_embeddings()._forward_hooks))
        if self.state.global_step == 2 and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return before(self, model, inputs, *args, **named)

    monkeypatch.setattr(training.SFTTrainer, "training_step", step)
    result = train_short(short_job(base, neftune_noise_alpha=5, loraplus_lr_ratio=4, max_steps=4), tmp_path)
    assert result.summary["out_of_memory"]
    assert set(hooks) == {1}


def test_a_weight_broken_by_the_last_update_does_not_become_the_checkpoint_after_out_of_memory(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that would have shown it is the one that was aborted."""
    before = training.SFTTrainer.training_step

    def step(self: Any, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        if self.state.global_step == 2:
            next(p for p in model.parameters() if p.requires_grad).data[0] = float("nan")
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return before(self, model, inputs, *args, **named)

    monkeypatch.setattr(training.SFTTrainer, "training_step", step)
    with pytest.raises(StageError, match=r"1 of \d+ adapter tensors hold NaN or Inf after step 2.*checkpoint: none"):
        train_short(short_job(base, max_steps=4, save_steps=9), tmp_path)
    assert not list(tmp_path.rglob("checkpoint-2"))


def test_a_training_that_ends_before_the_learning_rate_rises_says_so(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps in (1, 2):
        train_short(short_job(base, lr_scheduler="cosine", max_steps=steps), tmp_path / str(steps))
        said = capsys.readouterr().err
        assert ("as it was made after 1 of 1 steps: the learning rate begins at 0 and rises over 1" in said) == (
            steps == 1
        )


def test_loraplus_gives_the_b_matrices_their_own_learning_rate(base: Path, tmp_path: Path) -> None:
    train_short(short_job(base, loraplus_lr_ratio=8, weight_decay=0.1, max_steps=2), tmp_path)
    groups = torch.load(tmp_path / "checkpoint-2" / "optimizer.pt", weights_only=True)["param_groups"]
    found = {(group["lr"], group["weight_decay"], len(group["params"])) for group in groups if group["params"]}
    assert found == {(1e-2, 0.1, 14), (8e-2, 0.1, 14)}


@pytest.mark.parametrize(
    "options", [{"use_rslora": True}, {"use_dora": True}, {"adapter": "int8"}, {"adapter": "int8", "use_dora": True}]
)
def test_what_is_trained_is_what_is_merged(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    from holdfast.export.merge import merge_adapter

    result = train_short(short_job(base, **options), tmp_path / "run")
    result.save_adapter(tmp_path / "adapter", "base")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert [settings["use_rslora"], settings["use_dora"]] == [options.get("use_rslora", False), "use_dora" in options]
    merge_adapter(base, tmp_path / "adapter", tmp_path / "merged", kind="original")
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode():
        adapted = models.load_model(base, quantization="none", adapter=tmp_path / "adapter")(ids).logits
        merged = models.load_model(tmp_path / "merged", quantization="none")(ids).logits
        untouched = models.load_model(base, quantization="none")(ids).logits
    assert float((adapted - merged).norm() / (adapted - untouched).norm()) < 1e-2  # 16 bits


def test_norms_of_a_4_bit_base_are_not_cast_to_float32(base: Path, tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, quantization_config=four_bits)
    tokenizer = models.load_tokenizer(base)
    job = short_job(base, adapter="qlora")
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        trainer = training.build_trainer(job, model, tokenizer, talks(tokenizer), [], tmp_path, writer)
    kinds = {name: p.dtype for name, p in trainer.model.named_parameters() if "norm" in name or "embed" in name}
    assert len(kinds) == 2 * 2 + 2
    assert set(kinds.values()) == {torch.bfloat16}
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("packed", [False, True])
def test_what_the_trainer_sees_trains_every_answer_with_its_end_token(packed: bool, base: Path, tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    from holdfast.core.records import Message

    tokenizer = models.load_tokenizer(base)
    turns = [
        ("user", "a"),
        ("assistant", "one"),
        ("user", "b"),
        ("assistant", "two"),
        ("user", "c"),
        ("assistant", "3"),
    ]
    rows = talks(tokenizer, "xy") + [models.encode_example(tokenizer, [Message(role=r, content=c) for r, c in turns])]  # type: ignore[arg-type]
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        trainer = training.build_trainer(
            short_job(base, sample_packing=packed, rows=3), models.load_model(base, quantization="none"), tokenizer,
            rows, [], tmp_path, writer,
        )  # fmt: skip
    text = ""
    for batch in trainer.get_train_dataloader():
        labels = batch["labels"]
        assert "attention_mask" not in batch or bool((labels[batch["attention_mask"] == 0] == -100).all())
        text += tokenizer.decode(labels[labels != -100])
    answers = sorted(part for part in text.split("<|im_end|>"))
    assert answers == sorted(["", "x x", "y y", "one", "two", "3"])
    assert tokenizer.pad_token_id not in models.end_token_ids(tokenizer)


@pytest.fixture(scope="module")
def worse(base: Path) -> list[models.TrainingTokens]:
    """Validation rows whose answers contradict the training: their loss falls with the form, then rises."""
    return talks(models.load_tokenizer(base), "abcdefgh", "{c} {c} {c}")


def test_the_best_checkpoint_stays_and_training_stops_when_the_loss_falls_no_more(
    base: Path, worse: list[models.TrainingTokens], tmp_path: Path
) -> None:
    job = short_job(base, max_steps=60, learning_rate=3e-2, eval_steps=2, save_steps=2, save_total_limit=2,
                    early_stopping_patience=3, load_best_model_at_end=True)  # fmt: skip
    whole = train_short(job, tmp_path / "run", worse)
    losses = {row["step"]: row["eval_loss"] for row in whole.log if "eval_loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert whole.summary["kept_step"] == best
    assert whole.summary["steps"] == best + 3 * 2 < 60
    kept = load_file(tmp_path / "run" / f"checkpoint-{best}" / "adapter_model.safetensors")
    whole.save_adapter(tmp_path / "adapter", "base")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(kept[name], saved[name]) for name in saved)
    assert whole.validation()["valid"][-1]["loss"] == losses[best]
    assert is_whole(tmp_path / "run" / f"checkpoint-{best}")
    again = resumed(job, tmp_path / "run" / f"checkpoint-{best}", tmp_path / "again", worse)
    assert again.summary["steps"] == whole.summary["steps"], "what a resumed run knows of the losses before"
    assert adapter_digest(again, tmp_path / "again") == adapter_digest(whole, tmp_path / "whole")


def test_a_best_checkpoint_that_rots_gives_way_to_the_next_best_one(
    base: Path, worse: list[models.TrainingTokens], tmp_path: Path
) -> None:
    from holdfast.train.best import best_of, evaluations, restore_best

    job = short_job(base, max_steps=8, learning_rate=1e-2, eval_steps=2, load_best_model_at_end=True)
    result = train_short(job, tmp_path, worse)
    best = best_of(result.log)
    assert best is not None

    class Ended:
        model = result.model
        state = type("State", (), {"log_history": result.log, "global_step": 9})()

    (tmp_path / f"checkpoint-{best.step}" / "adapter_model.safetensors").write_bytes(b"rot")
    found = restore_best(Ended(), tmp_path)
    assert found == sorted(evaluations(result.log), key=lambda e: e.loss)[1]


@pytest.mark.parametrize("steps", [4, 6])
def test_a_training_that_had_ended_is_not_trained_further(steps: int, base: Path, tmp_path: Path) -> None:
    job = short_job(base, max_steps=steps, rows=5)  # 5 steps an epoch
    whole = train_short(job, tmp_path / "whole")
    again = resumed(job, tmp_path / "whole" / f"checkpoint-{steps}", tmp_path / "again")
    assert again.summary["steps"] == steps
    assert adapter_digest(again, tmp_path / "again") == adapter_digest(whole, tmp_path / "x")


def test_the_log_says_speed_memory_and_energy_and_the_summary_its_cost(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(range(1000, 10**6, 1800))
    monkeypatch.setattr("holdfast.train.meter.open_energy_meters", lambda cards: lambda: float(next(readings)))
    job = short_job(base, max_steps=4, logging_steps=2, eval_steps=2)
    whole = train_short(job, tmp_path / "whole", talks(models.load_tokenizer(base), "ab"))
    steps = [row for row in whole.log if "loss" in row]
    assert [row["energy_joules"] for row in steps] == [1800, 1800]
    assert all(row["tokens_per_second"] > 0 and row["memory_bytes"] > 2**20 for row in steps)
    assert whole.summary["energy_joules"] == 3 * 1800, "the two entries and what came after them"
    assert whole.summary["energy_kwh"] == pytest.approx(3 * 1800 / 3.6e6, rel=1e-3)
    assert whole.summary["tokens_per_second"] > 0
    again = resumed(job, tmp_path / "whole" / "checkpoint-2", tmp_path / "again", [])
    assert again.summary["energy_joules"] == 3 * 1800, "what was used before the interruption counts"


def test_a_machine_that_does_not_count_energy_says_nothing_of_it(base: Path, tmp_path: Path) -> None:
    result = train_short(short_job(base, max_steps=2), tmp_path)
    assert result.summary["energy_kwh"] is None
    assert not any("energy_joules" in row for row in result.log)


def test_a_packed_document_gets_the_noise_that_it_would_get_alone() -> None:
    from holdfast.train.noise import add_noise

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = torch.nn.Embedding(8, 64)

        def get_input_embeddings(self) -> torch.nn.Embedding:
            return self.embeddings

        def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor | None = None) -> torch.Tensor:
            found: torch.Tensor = self.embeddings(input_ids)
            return found

    torch.manual_seed(0)
    model = Model().requires_grad_(False)
    tokens = torch.zeros(1, 112, dtype=torch.long)
    quiet = model(tokens)
    add_noise(model, 5.0)
    packed = torch.cat([torch.arange(12), torch.arange(100)])[None]
    noise = (model(tokens, position_ids=packed) - quiet)[0].abs()
    for part, length in ((noise[:12], 12), (noise[12:], 100)):
        assert 0.95 < float(part.max()) / (5 / (length * 64) ** 0.5) <= 1.0001
    alone = (model(tokens[:, :100]) - quiet[:, :100]).abs().max()
    assert float(alone) == pytest.approx(5 / (100 * 64) ** 0.5, rel=0.05)
    assert torch.equal(model.eval()(tokens, position_ids=packed), quiet)
