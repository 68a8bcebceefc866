"""How fast classes of devices are, and what they draw: the only place where the plan's times and costs come from.

`measured` rows name their command; `estimate` rows are guesses from the class of the device, wide on purpose.
"""

from typing import NamedTuple

from holdfast.plan.constants import GIB


class DeviceRate(NamedTuple):
    """Sustained speed of training, low and high. TFLOP/s (of a core on `cpu`, of the machine on `apple`).

    stock: TRL with recomputation counted as work. fused: holdfast's layers, only useful work counted, recomputation by
    the cost table (constants.py). watts: of the device under load.
    """

    device_class: str
    stock: tuple[float, float]
    fused: tuple[float, float]
    watts: tuple[float, float]
    kind: str
    source: str


_RUN = "2026-11-21 and -22, an H200 of four hosts, torch 2.11: bench/train_gpu.py --peers"
_CLASS = "by the class of the device, not measured"

H200 = DeviceRate("nvidia H200", (37, 330), (480, 610), (350, 700), "measured", _RUN)
RATES = (
    DeviceRate("nvidia 80GB", (30, 330), (130, 610), (250, 700), "estimate", "A100 (estimate) to H200 (measured)"),
    DeviceRate("nvidia 40GB", (15, 120), (80, 300), (200, 400), "estimate", _CLASS),
    DeviceRate("nvidia 24GB", (8, 60), (30, 120), (150, 450), "estimate", _CLASS),
    DeviceRate("nvidia 16GB", (4, 30), (12, 70), (100, 320), "estimate", _CLASS),
    DeviceRate(
        "nvidia 8GB", (2, 20), (6, 30), (80, 220), "estimate",
        "low end: 14 hours for 3 epochs of 2,891 rows, as reported for an 8 GB card",
    ),
    DeviceRate("apple", (0.1, 1.5), (0.1, 1.5), (20, 80), "estimate", "its processor in float32; MPS is not used"),
    DeviceRate(
        "cpu", (0.004, 0.04), (0.008, 0.08), (5, 20), "estimate",
        "float32, for each core; fused: twice (bench/train_cpu.py)",
    ),
)  # fmt: skip


class PhaseRate(NamedTuple):
    """Seconds of a phase beside training for each unit of its work, low and high."""

    phase: str
    seconds: tuple[float, float]
    unit: str
    kind: str
    source: str


_TRIED = "2026-11-20, two shared cores, 0.39 B parameters: 1.6 s to convert, 4.5 s for Q4_K_M; faster disks do better"
PHASES = (
    PhaseRate("merge", (1, 12), "billion parameters", "estimate", "one pass over the weights from disk to disk, twice"),
    PhaseRate("convert", (1, 5), "billion parameters", "measured", _TRIED),
    PhaseRate("quantize", (2, 12), "billion parameters and file", "measured", _TRIED),
)
# Answers of the served file on the processor: seconds = bytes read for each token ÷ memory bandwidth.
SERVER_BANDWIDTH = (5e9, 80e9)  # byte/s, estimate: two channels of a small machine to a workstation
# Tokens that a step of generation costs beside its work, as in `step_overhead`: generation waits for memory, not for
# products.
ANSWER_TOKENS_PER_SECOND = {"gpu": (60.0, 1500.0), "ram": (2.0, 60.0)}  # of a batch, estimate

SMALL_MODEL = 3e9  # parameters: below, a card waits for launches (1B: 264 to 550 TFLOP/s, bench/plan_cases.json)
SMALL_SHARE = 0.54
SLOW_HOST = 2.2  # times the overhead of a step: at 1k tokens 120 ms on one host, 77 on another (Qwen2.5-7B, H200)
# Of the sum of the cards. Measured on two H200 with NVLink (2026-11-21 and -22, bench/train_two.py): ddp 0.96 to 0.98;
# fsdp 6,456 tokens/s against 3,333 of one card, 0.97. The lower ends are estimates for cards that talk over PCIe.
DDP_SHARE = (0.85, 1.0)
FSDP_SHARE = (0.4, 0.98)


def rate_for(gpu_bytes: int | None, name: str = "", *, apple: bool = False) -> DeviceRate:
    """The row for a card with that much memory (with 10 % tolerance); None = a processor."""
    if gpu_bytes is None:
        return next(rate for rate in RATES if rate.device_class == ("apple" if apple else "cpu"))
    if "H200" in name:
        return H200
    cards = [rate for rate in RATES if rate.device_class.startswith("nvidia")]
    sizes = [int(rate.device_class.split()[1].removesuffix("GB")) for rate in cards]
    return next((rate for rate, size in zip(cards, sizes, strict=True) if gpu_bytes >= 0.9 * GIB * size), cards[-1])
