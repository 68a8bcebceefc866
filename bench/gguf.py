"""Convert and quantise a random 0.4 B model beside llama.cpp's own tools, in one run. Prints one JSON line.

For F16 and each quantisation: wall and CPU seconds, peak memory (resident, mapped pages included) of both, whether the
tensors are the same bytes, and the ratio of the wall times (above 1 = we are faster). Each tool runs in a process of
its own, so start-up is counted on both sides. Exit 1 when bytes differ or the memory limit is passed.

Run:  python bench/gguf.py [--cache DIR] [--threads N] [--layers 24]     (needs 4 GB of disk and what
      tests/reference_gguf.py needs; DIR keeps its downloads)
"""

import argparse
import filecmp
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
# This file has the name of the gguf package: its own folder must not be searched.
sys.path[:] = [str(ROOT / "tests"), str(ROOT / "src"), *(p for p in sys.path if Path(p).resolve() != ROOT / "bench")]

from random_weights import write_random_weights  # noqa: E402
from reference_gguf import CONVERTER, FILE_TYPES, QUANTISER, compare_files, download  # noqa: E402

HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY = 1024, 2816, 16, 4, 151_936
MEMORY_SHARE, MEMORY_BASE = 1.2, 1 << 30
OURS = {
    "F16": "import sys; from pathlib import Path; from holdfast.export.gguf import convert_to_gguf\n"
    "convert_to_gguf(Path(sys.argv[1]), Path(sys.argv[2]), name='bench', threads=int(sys.argv[3]))",
    "quantise": "import sys; from pathlib import Path; from holdfast.export.quantize import quantize_gguf\n"
    "quantize_gguf(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[4], threads=int(sys.argv[3]))",
}


# The child itself writes its high-water mark: wait4's ru_maxrss would count the parent's memory at the fork.
PEAK = """
import atexit, os, re
def _peak():
    with open("/proc/self/status") as status, open(os.environ["BENCH_PEAK"], "w") as out:
        out.write(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
atexit.register(_peak)
"""


class Cost(NamedTuple):
    """What a child process took: seconds and bytes."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def main() -> int:
    """Make the model, run everything, print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--layers", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scripts, extra, libraries = download(options.cache or folder / "cache")
        parameters = make_model(folder / "model", options.layers)
        largest = 2 * VOCABULARY * HIDDEN
        limit = int(MEMORY_SHARE * largest + MEMORY_BASE)
        rows: dict[str, Any] = {}
        threads = str(options.threads)
        ours, theirs = folder / "ours-F16.gguf", folder / "theirs-F16.gguf"
        arguments = [str(scripts), str(extra), "qwen2", str(folder / "model"), "--outfile", str(theirs)]
        rows["F16"] = side_by_side(
            [OURS["F16"], str(folder / "model"), str(ours), threads],
            [CONVERTER, *arguments, "--outtype", "f16", "--model-name", "bench"], ours, theirs,
        )  # fmt: skip
        theirs.unlink()
        for name, number in FILE_TYPES.items():
            mine, other = folder / f"ours-{name}.gguf", folder / f"theirs-{name}.gguf"
            quantiser = QUANTISER.replace("p.ftype =", f"p.nthread = {threads}\np.ftype =")
            rows[name] = side_by_side(
                [OURS["quantise"], str(ours), str(mine), threads, name],
                [quantiser, str(libraries), str(ours), str(other), str(number), ""], mine, other,
            )  # fmt: skip
            mine.unlink()
            other.unlink()
    good = all(row["same_bytes"] and row["holdfast"]["peak_bytes"] <= limit for row in rows.values())
    print(json.dumps({
        "bench": "gguf", "parameters": parameters, "threads": options.threads, "largest_tensor_bytes": largest,
        "memory_limit_bytes": limit, "within": good, "by_type": rows, "llama_cpp": "v0.5.0",
        "versions": {n: importlib.metadata.version(n) for n in ("gguf", "xllamacpp", "numpy")},
        "machine": {"cpus": os.cpu_count(), "cpu": processor(), "python": platform.python_version()},
    }))  # fmt: skip
    return 0 if good else 1


def side_by_side(ours: list[str], theirs: list[str], mine: Path, other: Path) -> dict[str, Any]:
    """Both tools one after the other, on a file that both have already read (warm page cache), and their files."""
    first, second = run(ours), run(theirs)
    whole = filecmp.cmp(mine, other, shallow=False)
    same, tensors = (1, 1) if whole else compare_files(mine, other)[:2]
    return {
        "holdfast": first._asdict(), "llama_cpp": second._asdict(),
        "llama_cpp_wall_by_ours": round(second.wall_seconds / first.wall_seconds, 2),
        "llama_cpp_cpu_by_ours": round(second.cpu_seconds / first.cpu_seconds, 2),
        "same_bytes": same == tensors, "same_file": whole, "size_bytes": mine.stat().st_size,
    }  # fmt: skip


def run(arguments: list[str]) -> Cost:
    """Run a piece of Python in a process of its own."""
    peak = Path(tempfile.gettempdir()) / f"bench-peak-{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "BENCH_PEAK": str(peak)}
    command = [sys.executable, "-c", PEAK + arguments[0], *arguments[1:]]
    clock = time.monotonic()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"a tool ended with {child.returncode}: {arguments[1:]}")
    seconds = time.monotonic() - clock
    kilobytes = int(peak.read_text())
    peak.unlink()
    return Cost(round(seconds, 2), round(usage.ru_utime + usage.ru_stime, 2), 1024 * kilobytes)


def make_model(folder: Path, layers: int) -> int:
    """A Qwen2 checkpoint with random bfloat16 weights and a vocabulary of its real size; returns the parameters."""
    from tiny_checkpoint import CHATML, SPLIT

    folder.mkdir()
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": True, "rope_theta": 1e6, "eos_token_id": VOCABULARY - 1, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    _write_vocabulary(folder, SPLIT.replace("DIGITS", r"\p{N}"), CHATML)
    rows = HIDDEN // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for n in range(layers):
        at = f"model.layers.{n}."
        for part, size in (("q", HIDDEN), ("k", rows), ("v", rows)):
            shapes[f"{at}self_attn.{part}_proj.weight"] = (size, HIDDEN)
            shapes[f"{at}self_attn.{part}_proj.bias"] = (size,)
        shapes[f"{at}self_attn.o_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{at}mlp.gate_proj.weight"] = shapes[f"{at}mlp.up_proj.weight"] = (FEED_FORWARD, HIDDEN)
        shapes[f"{at}mlp.down_proj.weight"] = (HIDDEN, FEED_FORWARD)
        shapes[f"{at}input_layernorm.weight"] = shapes[f"{at}post_attention_layernorm.weight"] = (HIDDEN,)
    shapes["model.norm.weight"] = (HIDDEN,)
    return write_random_weights(folder / "model.safetensors", shapes, 0.03, 0)


def _write_vocabulary(folder: Path, split: str, template: str) -> None:
    from tiny_checkpoint import SPECIAL, _byte_letters, write_tokenizer

    write_tokenizer(folder, split, template=template)
    letters = _byte_letters()
    pairs = [(a, b) for a in letters for b in letters]
    triples = [(a + b, c) for a, b in pairs[:400] for c in letters]
    merges = [*pairs, *triples][: VOCABULARY - len(letters) - len(SPECIAL)]
    words = [*letters, *(a + b for a, b in merges)]
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"] |= {"vocab": {w: n for n, w in enumerate(words)}, "merges": [list(m) for m in merges]}
    for number, token in enumerate(document["added_tokens"]):
        token["id"] = VOCABULARY - len(SPECIAL) + number
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False))


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    sys.exit(main())
