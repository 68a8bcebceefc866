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
    """Levels of all layers, whether what is kept goes to pinned host memory, and tokens that pass an MLP at once
    (0 = all; fewer tokens need less memory and as much time as long as the products stay large)."""

    levels: tuple[Level, ...]
    offload: bool = False
    mlp_tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        """For settings.json: levels are written as runs, [["cheap", 12], ["layer", 16]]."""
        runs: list[list[Any]] = []
        for level in self.levels:
            if runs and runs[-1][0] == level:
                runs[-1][1] += 1
            else:
                runs.append([level, 1])
        return {"levels": runs, "offload": self.offload, "mlp_tokens": self.mlp_tokens}


def read_policy(document: dict[str, Any]) -> Policy:
    """The inverse of `Policy.as_json`. Raises ValueError for a level that does not exist."""
    levels: list[Level] = []
    for name, count in document["levels"]:
        if name not in LEVELS:
            raise ValueError(f"recompute level {name!r}: expected one of {', '.join(LEVELS)}")
        levels += [cast(Level, name)] * int(count)
    return Policy(tuple(levels), bool(document["offload"]), int(document["mlp_tokens"]))


def same_for_all(level: Level, layers: int, *, offload: bool = False, mlp_tokens: int = 0) -> Policy:
    """One level for every layer."""
    return Policy((level,) * layers, offload, mlp_tokens)
