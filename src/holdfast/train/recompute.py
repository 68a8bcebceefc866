"""What a layer keeps for its backward pass and what it computes again: one level for each layer.

Whatever the level, nothing after the input of down_proj is computed twice, and o_proj only at level `layer`: once its
input is known, the backward pass does not need a product's result.
"""

from typing import Any, Literal, NamedTuple, cast, get_args

Level = Literal["layer", "attention", "mlp", "cheap", "none"]
LEVELS: tuple[Level, ...] = get_args(Level)

# Kept beside the layer's input, by level. `attention` = its output, its log-sum-exp and the sum after it; `qkv` =
# queries, keys and values after rotary; `gate_up` = the two halves of SwiGLU's input; `norms` = both norms' outputs.
KEPT: dict[Level, frozenset[str]] = {
    "layer": frozenset(),
    "attention": frozenset({"attention"}),
    "mlp": frozenset({"attention", "qkv"}),
    "cheap": frozenset({"attention", "qkv", "gate_up"}),
    "none": frozenset({"attention", "qkv", "gate_up", "norms"}),
}


class Policy(NamedTuple):
    """Levels of all layers; whether what is kept goes to pinned host memory; tokens that pass an MLP at once (0 = all;
    fewer need less memory, and as much time while the products stay large); whether 4-bit and 8-bit weights stay
    de-quantised on the card beside the packed ones; up to how many tokens a step is replayed as a CUDA graph; whether
    the input embedding lies in pinned host memory (train/host_embedding.py)."""

    levels: tuple[Level, ...]
    offload: bool = False
    mlp_tokens: int = 0
    keep_weights: bool = False
    graph_tokens: int = 2048
    host_embedding: bool = False

    def as_json(self) -> dict[str, Any]:
        """For settings.json: levels are written as runs, [["cheap", 12], ["layer", 16]]."""
        runs: list[list[Any]] = []
        for level in self.levels:
            if runs and runs[-1][0] == level:
                runs[-1][1] += 1
            else:
                runs.append([level, 1])
        return {"levels": runs, **{name: value for name, value in self._asdict().items() if name != "levels"}}


def read_policy(document: dict[str, Any]) -> Policy:
    """The inverse of `Policy.as_json`. Raises ValueError for a level that does not exist, TypeError for a
    setting that does not."""
    levels: list[Level] = []
    for name, count in document["levels"]:
        if name not in LEVELS:
            raise ValueError(f"recompute level {name!r}: expected one of {', '.join(LEVELS)}")
        levels += [cast(Level, name)] * int(count)
    return Policy(tuple(levels), **{name: value for name, value in document.items() if name != "levels"})


def same_for_all(level: Level, layers: int, **settings: Any) -> Policy:
    """One level for every layer; `settings` as in Policy."""
    return Policy((level,) * layers, **settings)
