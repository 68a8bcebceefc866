"""The process that holds the llama.cpp server, started by `llama_process.py` as a script. It never outlives its parent.

Settings come as one JSON line on standard input, so that nothing secret is on a command line; the answer is one JSON
line on standard output: {"url": …} or {"error": …}. Standard input then stays open: its end means that the parent is
gone. Imports the standard library only (and xllamacpp), so that it starts in a fraction of a second.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
# Of a user's own LLAMA_ARG_* settings only those that choose the device are kept: what was measured is what is served.
KEPT_ARGUMENTS = ("N_GPU_LAYERS", "DEVICE", "SPLIT_MODE", "TENSOR_SPLIT", "MAIN_GPU")


def main() -> None:
    """Read the settings, tie this process to its parent, start the server and stay until the parent goes."""
    with open(0, "rb", buffering=0, closefd=False) as pipe:  # noqa: PTH123 (a descriptor)
        settings = json.loads(pipe.readline())
    report = _keep_stdout_for_the_report()
    _die_with_parent(settings)
    settings["threads"] = settings["threads"] or physical_cores()
    if settings["llama_server"]:
        _become_llama_server(settings, report)
    else:
        _serve_here(settings, report)


def physical_cores() -> int:
    """Physical cores that this process may use; hyper-threads of one core slow llama.cpp down."""
    cpus = os.sched_getaffinity(0)
    cores = set()
    for cpu in cpus:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return len(cpus)
    return len(cores)


def _keep_stdout_for_the_report() -> int:
    """Everything that C++ prints goes to the log (standard error); the pipe to the parent carries one line only."""
    report = os.dup(1)
    os.dup2(2, 1)
    return report


def _die_with_parent(settings: dict[str, Any]) -> None:
    """Let the kernel end this process when its parent dies, however it dies, and also after an exec.

    Two ties, because each has a hole. O_ASYNC: the kernel sends SIGIO (whose default is to terminate) when the other
    end of standard input closes; it works while C++ holds the interpreter's lock, but a process that the parent forked
    without exec keeps the pipe open. PR_SET_PDEATHSIG fires when the *thread* ends that started us (prctl(2)), so it
    is only used when that was the main thread.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if settings["started_by_main_thread"] and sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != settings["parent"]:
        sys.exit("the parent went away before the server started")


def _say(report: int, **document: str) -> None:
    os.write(report, json.dumps(document).encode() + b"\n")


def _serve_here(settings: dict[str, Any], report: int) -> None:
    """llama.cpp's server inside this process (the xllamacpp wheel). Its defaults are open, so each is set here."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["gguf"]
    params.model_alias = {settings["alias"]}
    params.hostnames = [settings["host"]]
    params.port = settings["port"]
    params.api_keys = [settings["api_key"]] if settings["api_key"] else []
    params.n_ctx = settings["n_ctx"] * settings["parallel"]
    params.n_parallel = settings["parallel"]
    params.kv_unified = False  # else one request takes the others' context, and all of them fail
    params.n_predict = settings["answer_tokens"]
    params.sampling.temp = 0.0
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.use_jinja = True
    params.ui = False
    params.cors_origins = ""
    params.endpoint_slots, params.endpoint_metrics = False, settings["metrics"]
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.cache_prompt = settings["cache_prompt"]
    params.warmup = False
    params.offline = True
    params.verbosity = 1
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        _say(report, error=str(error))
        sys.exit(1)
    _say(report, url=server.listening_address)
    while os.read(0, 1):
        pass
    del server


def _become_llama_server(settings: dict[str, Any], report: int) -> None:
    """Replace this process by a `llama-server` from PATH.

    What every version knows is on the command line; hardening whose names changed over time goes by environment,
    where a server ignores what it does not know (llama.cpp tools/server/README.md lists the variables).
    """
    host, port = settings["host"], settings["port"] or _free_port(settings["host"])
    threads, total_ctx = str(settings["threads"]), str(settings["n_ctx"] * settings["parallel"])
    command = [
        settings["llama_server"], "--model", settings["gguf"], "--alias", settings["alias"], "--host", host,
        "--port", str(port), "--ctx-size", total_ctx, "--parallel", str(settings["parallel"]), "--threads", threads,
        "--temp", "0", "--predict", str(settings["answer_tokens"]),
    ]  # fmt: skip
    hardening = {
        "LLAMA_ARG_JINJA": "1", "LLAMA_ARG_KV_UNIFIED": "0", "LLAMA_ARG_CACHE_RAM": "0", "LLAMA_ARG_OFFLINE": "1",
        "LLAMA_ARG_NO_WEBUI": "1", "LLAMA_ARG_WEBUI": "0", "LLAMA_ARG_UI": "0", "LLAMA_ARG_CORS_ORIGINS": "",
        "LLAMA_ARG_NO_ENDPOINT_SLOTS": "1", "LLAMA_ARG_ENDPOINT_SLOTS": "0",
        "LLAMA_ARG_ENDPOINT_METRICS": "1" if settings["metrics"] else "0",
        "LLAMA_ARG_CACHE_PROMPT": "1" if settings["cache_prompt"] else "0", "LLAMA_ARG_LOG_VERBOSITY": "1",
        "LLAMA_LOG_PREFIX": "1", "LLAMA_LOG_TIMESTAMPS": "1", "LLAMA_ARG_LOG_PREFIX": "1",
        "LLAMA_ARG_LOG_TIMESTAMPS": "1",
    }  # fmt: skip
    kept = {f"LLAMA_ARG_{name}" for name in KEPT_ARGUMENTS}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_") or k in kept}
    key = {"LLAMA_API_KEY": settings["api_key"]} if settings["api_key"] else {}
    _say(report, url=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    os.close(report)
    os.execve(command[0], command, {**inherited, **hardening, **key})  # noqa: S606 (a list, no shell is wanted)


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
