"""Compare our GGUF converter and quantiser with llama.cpp's own, byte for byte. Prints one JSON line; 1 = different.

Not part of the normal tests: downloads 88 MB (the llama-cpp-python 0.3.36 source, from which only the unmodified
conversion scripts are run, and the npm package @node-llama-cpp/linux-x64 3.22.1, whose libllama.so has the quantiser).

Run:  python tests/reference_gguf.py [--cache DIR]        DIR keeps the downloads; default: a temporary folder
Needs: pip, npm, Linux x86-64 with glibc 2.34; torch, transformers and sentencepiece for llama.cpp's converter
(sentencepiece is installed into a folder below DIR). The parameter struct is that of llama.cpp v0.5.0.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]

from tiny_checkpoint import make_adapter, make_checkpoint  # noqa: E402
from tiny_sentencepiece import write_sentencepiece  # noqa: E402

SDIST, NPM = "llama-cpp-python==0.3.36", "@node-llama-cpp/linux-x64@3.22.1"
LLAMA3_ROPE = {
    "rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "qwen2-tied": {"model_type": "qwen2", "tied": True, "layers": 5},
    "qwen2-untied-320": {"model_type": "qwen2", "hidden": 320, "shards": 2},
    "qwen2-tied-320": {"model_type": "qwen2", "hidden": 320, "tied": True},
    "llama-untied": {"model_type": "llama", "layers": 9},
    "llama-tied-bos": {"model_type": "llama", "tied": True, "bos": True},
    "llama3-rope-f16": {"model_type": "llama", "rope": LLAMA3_ROPE, "dtype": "F16"},
    "llama-linear-rope": {"model_type": "llama", "rope": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}},
    "llama-f32-80-layers": {"model_type": "llama", "layers": 80, "dtype": "F32"},
    "qwen3-untied": {"model_type": "qwen3", "layers": 3},
    "qwen3-tied-320": {"model_type": "qwen3", "tied": True, "hidden": 320},
    "mistral-untied": {"model_type": "mistral"},
    "mistral-tied": {"model_type": "mistral", "tied": True, "shards": 3},
    "llama-spm": {"model_type": "llama", "sentencepiece": True},
    "mistral-spm-f16": {"model_type": "mistral", "tied": True, "dtype": "F16", "sentencepiece": True},
}
FILE_TYPES = {"Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "Q8_0": 7}
# The reference refuses vocabularies that it does not know by hash; the name of the pre-tokenizer is forced instead.
CONVERTER = """
import sys
root, extra, pre = sys.argv[1:4]
sys.path[:0] = [root, root + "/gguf-py"]
sys.path.append(extra)
import conversion.base as base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
del sys.argv[1:4]
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""
LORA = """
import sys, runpy
root, extra = sys.argv[1:3]
sys.path[:0] = [root, root + "/gguf-py"]
sys.path.append(extra)
del sys.argv[1:3]
sys.argv[0] = root + "/convert_lora_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# The importance matrix is passed as a raw file: for each entry a line "name values", then the values (float32).
QUANTISER = """
import ctypes as C, sys
folder, source, target, number, importance = sys.argv[1:6]
for name in ("libggml-base.so", "libggml.v0.5.0.so"):
    C.CDLL(f"{folder}/{name}", mode=C.RTLD_GLOBAL)
lib = C.CDLL(f"{folder}/libllama.v0.5.0.so", mode=C.RTLD_GLOBAL)
ints, flags = ("nthread", "ftype", "out", "emb"), ("requantize", "output", "copy", "pure", "split", "dry")
class Params(C.Structure):
    _fields_ = [(n, C.c_int) for n in ints] + [(n, C.c_bool) for n in flags] + [
        (n, C.c_void_p) for n in ("imatrix", "kv", "tt", "prune")] + [("buffer", C.c_size_t)]
lib.llama_model_quantize_default_params.restype = Params
lib.llama_model_quantize.argtypes = [C.c_char_p, C.c_char_p, C.POINTER(Params)]
p = lib.llama_model_quantize_default_params()
assert p.output and not p.pure, "the parameter struct does not fit this llama.cpp"
p.ftype = int(number)
class Entry(C.Structure):
    _fields_ = [("name", C.c_char_p), ("data", C.c_void_p), ("size", C.c_size_t)]
entries, keep = [], []
if importance:
    with open(importance, "rb") as file:
        while line := file.readline():
            name, size = line.split()
            keep.append(C.create_string_buffer(file.read(4 * int(size)), 4 * int(size)))
            entries.append(Entry(name, C.addressof(keep[-1]), int(size)))
    table = (Entry * (len(entries) + 1))(*entries, Entry(None, None, 0))
    p.imatrix = C.addressof(table)
sys.exit(lib.llama_model_quantize(source.encode(), target.encode(), C.byref(p)))
"""


def main() -> int:
    """Download, convert and quantise with both, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        tools = download(cache)
        report = {name: compare_model(Path(temporary) / name, spec, *tools) for name, spec in MODELS.items()}
    total: dict[str, int] = {}
    for model in report.values():
        for key, value in model.items():
            if isinstance(value, int):
                total[key] = total.get(key, 0) + value
    print(json.dumps({"models": len(report), **total, "by_model": report}))
    kinds = ("f16", "bf16", "quantised", "lora")
    return 0 if all(total[f"{kind}_same"] == total[f"{kind}_tensors"] > 0 for kind in kinds) else 1


def download(cache: Path) -> tuple[Path, Path, Path]:
    """Fetch and unpack into `cache` what is not there; returns the folders of scripts, sentencepiece and libraries."""
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("llama_cpp_python-*.tar.gz")):
        _run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(cache), SDIST])
    if not list(cache.glob("node-llama-cpp-*.tgz")):
        _run(["npm", "pack", NPM, "--pack-destination", str(cache)])
    for archive in (*cache.glob("llama_cpp_python-*.tar.gz"), *cache.glob("node-llama-cpp-*.tgz")):
        if not (cache / f"{archive.name}.done").exists():
            with tarfile.open(archive) as tar:
                tar.extractall(cache, filter="data")
            (cache / f"{archive.name}.done").touch()
    extra = cache / "sentencepiece"
    if not extra.is_dir():
        _run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(extra), "sentencepiece"])
    scripts = next(cache.glob("llama_cpp_python-*/vendor/llama.cpp"))
    return scripts.resolve(), extra.resolve(), (cache / "package/bins/linux-x64").resolve()


def compare_model(folder: Path, spec: dict[str, Any], scripts: Path, extra: Path, libraries: Path) -> dict[str, Any]:
    """One tiny model through both tool chains. The quantisers start from the same file (ours)."""
    from holdfast.export.gguf import convert_to_gguf
    from holdfast.export.imatrix import compute_importance
    from holdfast.export.quantize import count_types, quantize_gguf
    from holdfast.export.vocabulary import read_vocabulary

    make_checkpoint(folder, **{key: value for key, value in spec.items() if key != "sentencepiece"})
    if spec.get("sentencepiece"):
        write_sentencepiece(folder)
    pre = read_vocabulary(folder, 320).pre
    ours, theirs = folder / "ours-F16.gguf", folder / "theirs-F16.gguf"
    convert_to_gguf(folder, ours, name=folder.name)
    convert_with_reference(folder, theirs, "f16", pre, scripts, extra)
    same, tensors, metadata = compare_files(ours, theirs)
    result: dict[str, Any] = {
        "f16_same": same, "f16_tensors": tensors, "f16_identical_files": _identical(ours, theirs),
        "f16_metadata": metadata,
        "quantised_same": 0, "quantised_tensors": 0, "quantised_files": 0, "quantised_identical_files": 0, "types": {},
        **compare_bf16(folder, pre, scripts, extra), **compare_adapters(folder, scripts, extra),
    }  # fmt: skip
    matrix = compute_importance(folder, [list(range(3, 300)), list(range(40, 90))]).values
    (folder / "importance").write_bytes(
        b"".join(f"{name} {len(v)}\n".encode() + v.tobytes() for name, v in matrix.items())
    )
    for (quantization, number), importance in itertools.product(FILE_TYPES.items(), (None, matrix)):
        ours_quantised, theirs_quantised = folder / f"ours-{quantization}.gguf", folder / f"theirs-{quantization}.gguf"
        quantize_gguf(ours, ours_quantised, quantization, importance=importance)
        result["types"][quantization] = count_types(ours_quantised)
        arguments = [str(libraries), str(ours), str(theirs_quantised), str(number)]
        _run([sys.executable, "-c", QUANTISER, *arguments, str(folder / "importance") if importance else ""])
        same, tensors, _ = compare_files(ours_quantised, theirs_quantised)
        result["quantised_same"] += same
        result["quantised_tensors"] += tensors
        result["quantised_files"] += 1
        result["quantised_identical_files"] += _identical(ours_quantised, theirs_quantised)
    return result


def convert_with_reference(folder: Path, target: Path, kind: str, pre: str, scripts: Path, extra: Path) -> None:
    """llama.cpp's own conversion script."""
    arguments = [str(scripts), str(extra), pre, str(folder), "--outfile", str(target), "--outtype", kind]
    _run([sys.executable, "-c", CONVERTER, *arguments, "--model-name", folder.name])


def compare_bf16(folder: Path, pre: str, scripts: Path, extra: Path) -> dict[str, int]:
    """The same checkpoint as BF16."""
    from holdfast.export.gguf import convert_to_gguf

    ours, theirs = folder / "ours-BF16.gguf", folder / "theirs-BF16.gguf"
    convert_to_gguf(folder, ours, name=folder.name, kind="BF16")
    convert_with_reference(folder, theirs, "bf16", pre, scripts, extra)
    same, tensors, _ = compare_files(ours, theirs)
    return {"bf16_same": same, "bf16_tensors": tensors}


def compare_adapters(folder: Path, scripts: Path, extra: Path) -> dict[str, Any]:
    """A LoRA adapter of all linear layers as GGUF."""
    from holdfast.export.lora_gguf import convert_adapter

    modules = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    adapter = make_adapter(folder, folder / "adapter", modules=modules)
    ours, theirs = folder / "ours-lora.gguf", folder / "theirs-lora.gguf"
    convert_adapter(folder, adapter, ours, name=folder.name)
    arguments = [str(scripts), str(extra), "--base", str(folder), "--outfile", str(theirs), str(adapter)]
    _run([sys.executable, "-c", LORA, *arguments])
    same, tensors, metadata = compare_files(ours, theirs)
    return {"lora_same": same, "lora_tensors": tensors, "lora_metadata": metadata}


def compare_files(ours: Path, theirs: Path) -> tuple[int, int, dict[str, list[str]]]:
    """Tensors that are the same (type, shape, bytes), tensors in either file, and metadata keys that differ."""
    import gguf

    a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    left, right = ({t.name: t for t in r.tensors} for r in (a, b))
    same = sum(
        left[n].tensor_type == right[n].tensor_type
        and list(left[n].shape) == list(right[n].shape)
        and left[n].data.tobytes() == right[n].data.tobytes()
        for n in set(left) & set(right)
    )
    keys = [{k: str(f.contents())[:60] for k, f in r.fields.items() if not k.startswith("GGUF.")} for r in (a, b)]
    names = sorted(set(keys[0]) | set(keys[1]))
    differ = {n: [k.get(n, "-") for k in keys] for n in names if keys[0].get(n) != keys[1].get(n)}
    return same, len(set(left) | set(right)), differ


def _identical(ours: Path, theirs: Path) -> int:
    return int(ours.read_bytes() == theirs.read_bytes())


def _run(command: list[str]) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{command[:3]} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


if __name__ == "__main__":
    sys.exit(main())
