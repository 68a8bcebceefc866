"""The fast path on a card against plain float32: its error may not be larger than that of the plain 16-bit path."""

from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("no CUDA card", allow_module_level=True)

from trl.trainer.utils import add_fused_lm_head

from holdfast.train import chunked_loss, fast_path
from holdfast.train.recompute import LEVELS, same_for_all
from tiny_adapted import float_twin, loss_and_gradients, packed, tiny_model

pytestmark = pytest.mark.gpu
OUTPUTS = ("log_probs", "entropy", "is_top1")


def result(model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    with torch.autocast("cuda", torch.bfloat16, enabled=model.get_base_model().lm_head.weight.dtype != torch.float32):
        return loss_and_gradients(model, packed("cuda"))


def error(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> float:
    """Of all adapter gradients together, Frobenius."""
    assert got.keys() == want.keys()
    return float(
        sum((got[n] - want[n]).norm() ** 2 for n in want) ** 0.5 / sum(want[n].norm() ** 2 for n in want) ** 0.5
    )


@pytest.mark.parametrize("base", ["nf4", "int8", "plain"])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_no_further_from_float32_than_the_plain_path(family: str, base: str) -> None:
    models = {}
    for name in ("plain", *LEVELS, "offload", "graph", "kept weights", "host embedding", "linears"):
        model = tiny_model(family, base, device="cuda")
        if name != "plain":
            level: Any = name if name in LEVELS else "attention"
            policy = same_for_all(
                level, 3, offload=name == "offload", mlp_tokens=32, keep_weights=name == "kept weights",
                graph_tokens=1024 if name == "graph" else 0, host_embedding=name == "host embedding",
            )  # fmt: skip
            path = fast_path.install(model, policy, fused_layer=name != "linears")
            assert len(path.layers) == (0 if name == "linears" else 3), path.notes
        add_fused_lm_head(model.get_base_model(), outputs=OUTPUTS)
        if name != "plain":
            chunked_loss.install(model.get_base_model())
        models[name] = model
    twin = float_twin(models["plain"])
    add_fused_lm_head(twin.get_base_model(), outputs=OUTPUTS)
    loss, gradients = result(twin)
    results = {name: result(model) for name, model in models.items()}
    print(family, base, {n: (abs(r[0] / loss - 1), error(r[1], gradients)) for n, r in results.items()})
    for name, (one_loss, one) in results.items():
        assert one_loss == pytest.approx(loss, rel=0.01), name
        assert error(one, gradients) < max(1.15 * error(results["plain"][1], gradients), 0.002), name


def test_a_graph_replayed_with_other_documents_is_the_eager_pass() -> None:
    for accumulate in (False, True):
        gradients = []
        for graph_tokens in (0, 1024):
            model = tiny_model("qwen2", "nf4", device="cuda")
            fast_path.install(model, same_for_all("layer", 3, graph_tokens=graph_tokens))
            add_fused_lm_head(model.get_base_model(), outputs=OUTPUTS)
            chunked_loss.install(model.get_base_model())
            for seed, cut in ((1, 81), (2, 81), (3, 57), (4, 300)):
                batch = {name: value[:, :cut] for name, value in packed("cuda", seed).items()}
                if cut == 300:
                    batch = {name: torch.cat([value] * 4, 1) for name, value in batch.items()}
                if not accumulate:
                    model.zero_grad()
                outputs = model(**batch, fused_lm_head=True)
                (-outputs.log_probs.sum() / 50).backward()
            gradients.append({n: p.grad.float() for n, p in model.named_parameters() if p.requires_grad})
        assert error(gradients[1], gradients[0]) < 0.01
