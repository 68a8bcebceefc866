"""Train pebble from scratch on generated text, on one CUDA card, and save it in Hugging Face layout.

Run:  python tools/pebble/train.py TOKENIZER_DIR OUT_DIR --steps 4000 [--batch 131072] [--shards 600] [--processes 14]
Hidden matrices learn by Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/), the rest by AdamW; linear
warm-up, flat, then linear decay to zero. Prints losses; writes training.json (seed, tokens, losses, held-out accuracy).
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

import corpus
from network import Pebble
from packing import ANSWER, LONGEST, Batch, encode_documents, make_batch, read_batches, start_producers
from shape import Shape

SLOTS = 8192
SHARD_BYTES = 15_500_000


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by five Newton-Schulz steps; for matrices of hidden layers."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients; closures are not supported."""
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalize(p.grad.lerp(state["momentum"], group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


@torch.compile
def orthogonalize(g: Tensor) -> Tensor:
    """Nearest (semi-)orthogonal matrix, by the quintic Newton-Schulz iteration in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    result: Tensor = (x.T if tall else x).float()
    return result


def batch_loss(model: Pebble, batch: dict[str, Tensor], longest: int) -> tuple[Tensor, Tensor]:
    """Weighted mean loss, and the mean loss over answer tokens only."""
    logits = model(batch["tokens"], batch["positions"], batch["offsets"], longest)
    losses = functional.cross_entropy(logits[:-1].float(), batch["tokens"][1:], reduction="none")
    weights = batch["weights"][1:]
    answers = (weights >= ANSWER / 10).float()
    return (losses * weights).sum() / weights.sum(), (losses.detach() * answers).sum() / answers.sum()


def to_device(batch: Batch) -> dict[str, Tensor]:
    """The batch on the card, copied without waiting."""
    return {k: torch.from_numpy(v).pin_memory().cuda(non_blocking=True) for k, v in batch._asdict().items()}


@torch.no_grad()
def held_out_accuracy(model: Pebble, tokenizer: Tokenizer, share: float, count: int = 3000) -> dict[str, float]:
    """Severity questions over wordings never trained on: share of answer tokens, and of whole answers, predicted."""
    asked_for = corpus.held_out_documents(7, count, share)
    documents = [[*chat, {"role": "assistant", "content": answer}] for chat, answer in asked_for]
    tokens, weights, lengths = encode_documents(tokenizer, documents)
    batch = to_device(make_batch(tokens, weights, lengths.astype(np.int64), SLOTS))
    predicted = model(batch["tokens"], batch["positions"], batch["offsets"], LONGEST).argmax(-1)
    asked = batch["weights"][1:] >= ANSWER / 10
    right = (predicted[:-1] == batch["tokens"][1:]) | ~asked
    document = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)).cuda()[1:]
    wrong = torch.zeros(len(lengths), device="cuda").index_add_(0, document, (~right).float())
    return {
        "token": float((right & asked).sum() / asked.sum()),
        "whole_answer": float((wrong == 0).float().mean()),
        "documents": len(lengths),
    }


def save_model(model: Pebble, tokenizer_dir: Path, out: Path) -> None:
    """bf16 safetensors in shards of at most 15.5 MB, config.json and the tokenizer's files."""
    out.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, weight in model.state_dict().items():
        tensor = weight.detach().to(torch.bfloat16).cpu().contiguous()
        if size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, out / file, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, file)
    total = sum(t.nbytes for s in shards for t in s.values())
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}, indent=2)
    (out / "model.safetensors.index.json").write_text(text + "\n")
    (out / "config.json").write_text(json.dumps(model.shape.as_config(), indent=2) + "\n")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer_dir / file, out / file)


def learning_rate(step: int, steps: int) -> float:
    """Factor of the peak rate: 2 % warm-up, flat, then linear to zero over the last 45 %."""
    return min(1.0, (step + 1) / (0.02 * steps), (steps - step) / (0.45 * steps))


def make_optimizers(model: Pebble, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        Muon(matrices, lr=muon_lr),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


class Progress:
    """Writes down and prints the losses and, now and then, the held-out accuracy."""

    def __init__(self, options: argparse.Namespace, model: Pebble, tokenizer: Tokenizer) -> None:
        self.options, self.model, self.tokenizer = options, model, tokenizer
        self.history: list[dict[str, object]] = []
        self.started = self.seen = time.time()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.time() - self.started

    def note(self, step: int, loss: Tensor, answer_loss: Tensor) -> None:
        """Every 100 steps and at the end: one row of history; every 500 with the held-out accuracy."""
        options, last = self.options, step == self.options.steps - 1
        if step % 100 != 99 and not last:
            return
        now = time.time()
        rate = options.batch * min(100, step + 1) / (now - self.seen)
        self.seen = now
        row: dict[str, object] = {
            "step": step + 1,
            "loss": round(loss.item(), 4),
            "answer_loss": round(answer_loss.item(), 4),
        }
        if options.held_out and (step % 500 == 499 or last):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                row["held_out"] = held_out_accuracy(self.model, self.tokenizer, options.held_out)
        self.history.append(row)
        print(json.dumps(row), f"{rate:,.0f} tokens/s", f"{now - self.started:.0f} s", flush=True)


def run_steps(options: argparse.Namespace, model: Pebble, batches: Iterator[Batch], progress: Progress) -> None:
    """The training loop; the next batch is on its way to the card while this one is computed."""
    optimizers = make_optimizers(model, options.muon_lr, options.adam_lr)
    peaks = [group["lr"] for o in optimizers for group in o.param_groups]
    step_loss = torch.compile(batch_loss)
    upcoming = to_device(next(batches))
    for step in range(options.steps):
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * learning_rate(step, options.steps)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss, answer_loss = step_loss(model, upcoming, LONGEST)
        torch.autograd.backward(loss)
        upcoming = to_device(next(batches))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.note(step, loss, answer_loss)
        if progress.seconds > options.seconds:
            raise SystemExit(f"out of time at step {step}")


def save_record(options: argparse.Namespace, shape: Shape, progress: Progress) -> None:
    """training.json: what the model card is rendered from."""
    record = {
        "seed": options.seed, "steps": options.steps, "batch_tokens": options.batch,
        "tokens": options.steps * options.batch, "shards": options.shards, "documents_per_shard": options.documents,
        "held_out_share": options.held_out, "seconds": round(progress.seconds), "parameters": shape.parameters,
        "muon_lr": options.muon_lr, "adam_lr": options.adam_lr, "torch": torch.__version__,
        "device": torch.cuda.get_device_name(), "history": progress.history,
    }  # fmt: skip
    (options.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def train(options: argparse.Namespace) -> None:
    """Start the producers, train, save the model and the record."""
    torch.manual_seed(options.seed)
    tokenizer_file = options.tokenizer / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    pool = start_producers(
        options.shard_dir, tokenizer_file, options.shards, options.documents, options.processes, options.held_out
    )
    model = Pebble(Shape()).cuda()
    progress = Progress(options, model, tokenizer)
    run_steps(options, model, read_batches(options.shard_dir, options.shards, options.batch, SLOTS), progress)
    save_model(model, options.tokenizer, options.out)
    save_record(options, model.shape, progress)
    pool.terminate()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=131_072)
    parser.add_argument("--shards", type=int, default=600)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--shard-dir", type=Path, default=Path("/dev/shm/pebble"))  # noqa: S108
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--held-out", type=float, default=0.1, help="share of lexicon lines kept from training")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
