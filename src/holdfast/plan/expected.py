"""How long a run takes and what it costs, as ranges: work of each phase ÷ the rate table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from holdfast.core.config import RunConfig
from holdfast.plan.fused_memory import Recompute
from holdfast.plan.gguf_size import gguf_bytes
from holdfast.plan.lengths import Lengths
from holdfast.plan.memory import batch_tokens
from holdfast.plan.rates import (
    ANSWER_TOKENS_PER_SECOND,
    DDP_SHARE,
    FSDP_SHARE,
    PHASES,
    SERVER_BANDWIDTH,
    SLOW_HOST,
    SMALL_MODEL,
    SMALL_SHARE,
    DeviceRate,
    rate_for,
)
from holdfast.plan.recompute_choice import cost
from holdfast.plan.several import is_sharded, process_count
from holdfast.plan.shape import ModelShape
from holdfast.plan.target import Target


class Span(NamedTuple):
    """Seconds of one phase, fast and slow, and where the rate is from."""

    phase: str
    low: float
    high: float
    kind: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """The form in plan.json."""
        seconds = {"low_seconds": round(self.low, 1), "high_seconds": round(self.high, 1)}
        return {"phase": self.phase, **seconds, "kind": self.kind, "source": self.source}


def expected(
    shape: ModelShape,
    config: RunConfig,
    lengths: Lengths,
    target: Target,
    cores: int,
    rows: int,
    policy: Recompute | None,
) -> dict[str, Any] | None:
    """Time of every phase with a known rate, and its cost where there are prices. None before `prepare` has counted.

    rows, policy: what each training process takes at once and recomputes.
    """
    if lengths.total is None or lengths.rows is None:
        return None
    rate = rate_for(target.gpu_bytes, target.name, apple=target.apple)
    tokens = trained_tokens(config, lengths)
    train = _train(shape, config, lengths, target, cores, rows, policy, tokens)
    spans = [
        train,
        *_answers(shape, config, lengths, target),
        *_export(shape, config),
        *_verify(shape, config, lengths),
    ]
    low, high = sum(span.low for span in spans), sum(span.high for span in spans)
    return {
        **train.as_json(),
        "tokens": tokens,
        "tokens_per_second": [round(tokens / train.high, 1), round(tokens / train.low, 1)],
        "device_class": rate.device_class,
        "phases": [span.as_json() for span in spans],
        "all_seconds": [round(low, 1), round(high, 1)],
        "cost": _cost(config, rate, low, high, cores),
    }


def trained_tokens(config: RunConfig, lengths: Lengths) -> int:
    """Tokens that training sees in all its epochs or steps. A step takes no more than there are, and there is one."""
    total, count, train = lengths.total or 0, lengths.rows or 1, config.train
    rows = train.micro_batch_size * train.gradient_accumulation_steps
    step = min(total, rows * (config.sequence_len if train.sample_packing else total // count))
    return train.max_steps * step if train.max_steps > 0 else max(step, int(total * train.num_epochs))


def train_speed(
    shape: ModelShape,
    config: RunConfig,
    step_tokens: int,
    target: Target,
    cores: int,
    policy: Recompute | None,
) -> tuple[float, float]:
    """Tokens a second of all processes together, slow and fast. `step_tokens`: of one process at once."""
    rate = rate_for(target.gpu_bytes, target.name, apple=target.apple)
    weights = shape.linear_weights + shape.vocabulary * shape.hidden
    cpu = rate.device_class == "cpu"
    scale = 1e12 * (cores if cpu else 1)
    if policy is not None:
        work = 4 * weights * cost(policy, shape.layers, step_tokens)
        low, high = rate.fused
        slow_host = cost(policy, shape.layers, step_tokens) / cost(policy, shape.layers, step_tokens, host=SLOW_HOST)
        low *= min(slow_host, SMALL_SHARE) if shape.parameters < SMALL_MODEL else slow_host
    else:
        work = (6 if config.train.gradient_checkpointing else 4) * weights
        low, high = rate.fused if cpu and config.train.kernels.use != "never" else rate.stock
    count = process_count(config.train)
    if count > 1 and target.device == "gpu":  # on a processor the cores are only shared
        share = FSDP_SHARE if is_sharded(config.train) else DDP_SHARE
        low, high = low * count * share[0], high * count * share[1]
    return low * scale / work, high * scale / work


def _train(
    shape: ModelShape,
    config: RunConfig,
    lengths: Lengths,
    target: Target,
    cores: int,
    rows: int,
    policy: Recompute | None,
    tokens: int,
) -> Span:
    rate = rate_for(target.gpu_bytes, target.name, apple=target.apple)
    slow, fast = train_speed(shape, config, batch_tokens(config, lengths, rows)[0], target, cores, policy)
    return Span("train", tokens / fast, tokens / slow, rate.kind, rate.source)


def _answers(shape: ModelShape, config: RunConfig, lengths: Lengths, target: Target) -> list[Span]:
    """Baseline and tuned answer every test row; slower for larger models, in proportion."""
    if not lengths.test_rows:
        return []
    slow, fast = ANSWER_TOKENS_PER_SECOND[target.device]
    work = lengths.test_rows * config.evaluate.max_new_tokens * max(0.05, shape.parameters / 7e9)
    source = "generation in transformers, by the kind of device, not measured"
    return [Span(phase, work / fast, work / slow, "estimate", source) for phase in ("baseline", "evaluate")]


def _export(shape: ModelShape, config: RunConfig) -> list[Span]:
    billions = shape.parameters / 1e9
    files = len([name for name in config.export.quantizations if name != "F16"])
    work = {"merge": billions, "convert": billions, "quantize": billions * files}
    return [Span(p.phase, work[p.phase] * p.seconds[0], work[p.phase] * p.seconds[1], p.kind, p.source) for p in PHASES]


def _verify(shape: ModelShape, config: RunConfig, lengths: Lengths) -> list[Span]:
    """Every GGUF file answers every test row on the processor, one after the other."""
    if not lengths.test_rows:
        return []
    names = {"F16", *config.export.quantizations}
    read = sum(gguf_bytes(shape, name) for name in names) * lengths.test_rows * config.evaluate.max_new_tokens
    slow, fast = SERVER_BANDWIDTH
    return [Span("verify", read / fast, read / slow, "estimate", "bytes of the file for each token ÷ memory bandwidth")]


def _cost(config: RunConfig, rate: DeviceRate, low: float, high: float, cores: int) -> dict[str, Any] | None:
    """Money in the currency of the configured prices; energy in kWh from the watts of the device class."""
    plan, count = config.plan, process_count(config.train)
    many = cores if rate.device_class == "cpu" else count
    energy = [low / 3600 * rate.watts[0] * many / 1000, high / 3600 * rate.watts[1] * many / 1000]
    found: dict[str, Any] = {"kwh": [round(value, 3) for value in energy]}
    if plan.price_per_hour is not None or plan.price_per_kwh is not None:
        hour, kwh = plan.price_per_hour or 0.0, plan.price_per_kwh or 0.0
        spans = zip((low, high), energy, strict=True)
        found["money"] = [round(seconds / 3600 * hour + used * kwh, 2) for seconds, used in spans]
    return found


def describe_expected(found: Mapping[str, Any] | None) -> list[str]:
    """Lines of the plan's text."""
    if found is None:
        return ["time: not known before stage prepare has counted the tokens"]
    slow, fast = found["tokens_per_second"]
    lines = [
        f"training time: {_range(found)} for {found['tokens']:,} tokens ({slow:,.0f} to {fast:,.0f} tokens/s, "
        f"{found['kind']}: {found['source']})"
    ]
    others = [f"{span['phase']} {_range(span)}" for span in found["phases"][1:]]
    lines.append(f"other phases: {', '.join(others)}")
    low, high = found["all_seconds"]
    energy = " to ".join(f"{value:.2f}" for value in found["cost"]["kwh"])
    money = found["cost"].get("money")
    price = f"; cost {money[0]:,.2f} to {money[1]:,.2f} (currency of plan.price_per_hour)" if money else ""
    lines.append(f"whole run: {duration(low)} to {duration(high)}, {energy} kWh{price}")
    return lines


def _range(span: Mapping[str, Any]) -> str:
    return f"{duration(span['low_seconds'])} to {duration(span['high_seconds'])}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads well."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
