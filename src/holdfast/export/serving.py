"""How to serve what was exported: command lines for the model card. Each listens on this machine only."""

import shlex

import yaml

from holdfast.core.config import RunConfig

HIDDEN = {"collect", "prepare", "base_model"}  # where paths of this machine are


def command_lines(config: RunConfig, gguf: str) -> str:
    """Markdown with the commands for llama-server, Ollama, vLLM and holdfast; `gguf` is the file to deploy."""
    name = shlex.quote(config.name)
    context = config.verify.n_ctx
    slots = config.serve.parallel
    llama = [
        f"llama-server --model {shlex.quote(gguf)} --alias {name} --jinja --ctx-size {context * slots} "
        f"--parallel {slots} --host 127.0.0.1 --port 8080"
    ]
    if config.export.lora_gguf:
        llama += [
            "# the adapter alone, on a GGUF file of the base model:",
            f"llama-server --model BASE-F16.gguf --lora {name}-adapter.gguf --alias {name} --jinja "
            f"--ctx-size {context * slots} --parallel {slots} --host 127.0.0.1 --port 8080",
        ]
    blocks = {
        "llama.cpp (what was measured)": llama,
        "Ollama": [f"ollama create {name} -f Modelfile", f"ollama run {name}"],
        "vLLM (the 16-bit weights, on a GPU)": [
            f"vllm serve ./merged --served-model-name {name} --max-model-len {context} --generation-config vllm "
            "--host 127.0.0.1 --port 8000"
        ],
    }
    return "\n\n".join(f"{title}:\n\n```sh\n" + "\n".join(lines) + "\n```" for title, lines in blocks.items())


def settings_text(config: RunConfig) -> str:
    """The configuration as YAML, without sections that hold paths of this machine."""
    document = config.model_dump(mode="json", exclude=HIDDEN)
    return "```yaml\n" + yaml.safe_dump(document, sort_keys=False, allow_unicode=True) + "```"


def file_to_deploy(config: RunConfig) -> str:
    """The GGUF file that the Modelfile names. With `auto` nothing is measured yet: the smallest that is made, and
    stage verify writes a Modelfile of its own."""
    order = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16")
    deploy = config.verify.deploy
    if deploy == "auto":
        deploy = min((*config.export.quantizations, "F16"), key=order.index)
    return f"{config.name}-{deploy}.gguf"
