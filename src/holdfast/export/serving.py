"""How to serve what was exported: command lines for the model card. Each listens on this machine only."""

import json
import shlex

import yaml

from holdfast.core.config import RunConfig

# Where paths of this machine are, and words that are to stay secret (redact.deny).
HIDDEN = {"collect", "prepare", "augment", "redact", "base_model"}


def command_lines(config: RunConfig, gguf: str) -> str:
    """Markdown with the commands for llama-server, Ollama and vLLM; `gguf` is the file to deploy. Both servers answer
    as they were measured: greedily, and not without end."""
    name = shlex.quote(config.name)
    context = config.verify.n_ctx
    slots, longest = config.serve.parallel, config.evaluate.max_new_tokens
    settings = (
        f"--alias {name} --jinja --ctx-size {context * slots} --parallel {slots} --temp 0 --predict {longest} "
        "--host 127.0.0.1 --port 8080"
    )
    llama = [f"llama-server --model {shlex.quote(gguf)} {settings}"]
    if config.export.lora_gguf:
        llama += [
            "# the adapter alone, on a GGUF file of the base model:",
            f"llama-server --model BASE-F16.gguf --lora {name}-adapter.gguf {settings}",
        ]
    vllm = json.dumps({"temperature": 0, "max_new_tokens": longest})
    blocks = {
        "llama.cpp (what was measured)": llama,
        "Ollama": [f"ollama create {name} -f Modelfile", f"ollama run {name}"],
        "vLLM (the 16-bit weights, on a GPU)": [
            f"vllm serve ./merged --served-model-name {name} --max-model-len {context} --generation-config vllm "
            f"--override-generation-config '{vllm}' --host 127.0.0.1 --port 8000"
        ],
    }
    text = "\n\n".join(f"{title}:\n\n```sh\n" + "\n".join(lines) + "\n```" for title, lines in blocks.items())
    if config.verify.deploy != "auto":
        return text
    return (
        "The file to deploy was chosen after this card was written (verify.deploy is auto): the run's "
        "`08-verify/Modelfile` and `ladder.json` name it. The commands below name the smallest file; put the chosen "
        f"one in its place.\n\n{text}"
    )


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
