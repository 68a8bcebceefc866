"""The configuration: one frozen section for each stage, named as Axolotl and Hugging Face users expect."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from holdfast.core.errors import ConfigError
from holdfast.core.validated import read_model
from holdfast.core.yamlfile import parse_scalar

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Quantization = Literal["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"]
Metric = Literal["label_accuracy", "valid_json"]


class Section(BaseModel):
    """Frozen, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Section):
    """A file of examples. `split` fixes where its rows go; `auto` lets `prepare` split them."""

    path: str
    split: Literal["auto", "train", "valid", "test"] = "auto"
    format: Literal["auto", "messages", "instruction"] = "auto"


class CollectConfig(Section):
    """What to learn from. `system_prompt` is put before every conversation that has none."""

    sources: tuple[Source, ...] = Field(min_length=1)
    system_prompt: str = ""


class PrepareConfig(Section):
    """Checks and splits. Sizes between 0 and 1 are shares of the rows, above 1 they are counts."""

    contract: str | None = None
    val_set_size: Annotated[float, Field(ge=0)] = 0.1
    test_set_size: Annotated[float, Field(ge=0)] = 0.2
    near_duplicate_threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    on_too_long: Literal["error", "drop"] = "error"


class PlanConfig(Section):
    """The card to plan for (`auto` = the one that is there, `cpu`, or a size such as `8GB`) and what to leave free."""

    gpu: str = "auto"
    memory_headroom: Fraction = 0.05


class TrainConfig(Section):
    """How to train. Names and meanings are those of Axolotl, PEFT and the Hugging Face trainer."""

    adapter: Literal["qlora", "lora"] = "qlora"
    lora_r: Positive = 16
    lora_alpha: Positive = 32
    lora_dropout: Fraction = 0.0
    lora_target_linear: bool = True
    lora_target_modules: tuple[str, ...] = ()
    micro_batch_size: Positive = 8
    gradient_accumulation_steps: Positive = 1
    num_epochs: Annotated[float, Field(gt=0)] = 3
    max_steps: int = -1
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    lr_scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Fraction = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    optimizer: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"] = "adamw_torch"
    sample_packing: bool = True
    gradient_checkpointing: bool = True
    logging_steps: Positive = 5
    save_steps: Positive = 50
    save_total_limit: Positive = 2
    eval_steps: Positive = 50


class EvaluateConfig(Section):
    """How answers are made and scored. Decoding is greedy."""

    max_new_tokens: Positive = 64
    batch_size: Positive = 16


class ExportConfig(Section):
    """Which GGUF files to write besides F16."""

    quantizations: tuple[Quantization, ...] = ("Q4_K_M",)


class VerifyConfig(Section):
    """Which quantisation is to be deployed, and how much of the tuned score it may lose."""

    deploy: Quantization = "Q4_K_M"
    n_ctx: Positive = 1024
    threads: Annotated[int, Field(ge=0)] = 0
    parity_rows: Positive = 200


class DecideConfig(Section):
    """The gates. `keep` needs all of them; differences are in points (0.10 = ten points)."""

    primary: Metric = "label_accuracy"
    minimum_gain: Annotated[float, Field(ge=0, le=1)] = 0.05
    minimum_score: Fraction = 0.0
    minimum_valid_json: Fraction = 0.0
    maximum_deployed_loss: Fraction = 0.05
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05


class ServeConfig(Section):
    """Where the OpenAI-compatible server listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    parallel: Positive = 2


class RunConfig(Section):
    """A whole run. Paths are relative to the configuration file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    base_model: str = "pebble"
    sequence_len: Positive = 512
    seed: int = 42
    collect: CollectConfig
    prepare: PrepareConfig = PrepareConfig()
    plan: PlanConfig = PlanConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()
    verify: VerifyConfig = VerifyConfig()
    decide: DecideConfig = DecideConfig()
    serve: ServeConfig = ServeConfig()

    @field_validator("export")
    @classmethod
    def _no_duplicates(cls, value: ExportConfig) -> ExportConfig:
        if len(set(value.quantizations)) != len(value.quantizations):
            raise ValueError("a quantisation is named twice")
        return value


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a run configuration; `overrides` are `section.key=value` strings. Relative paths become absolute.

    Raises ConfigError with every problem of the file at once.
    """
    config = read_model(RunConfig, path, dict(parse_override(text) for text in overrides or []))
    folder = path.resolve().parent
    sources = [s.model_copy(update={"path": _absolute(s.path, folder)}) for s in config.collect.sources]
    update: dict[str, Any] = {"collect": config.collect.model_copy(update={"sources": tuple(sources)})}
    if config.prepare.contract:
        contract = _absolute(config.prepare.contract, folder)
        update["prepare"] = config.prepare.model_copy(update={"contract": contract})
    if config.base_model.startswith((".", "/", "~")) or (folder / config.base_model).is_dir():
        update["base_model"] = _absolute(config.base_model, folder)
    if config.verify.deploy != "F16" and config.verify.deploy not in config.export.quantizations:
        made = ", ".join(("F16", *config.export.quantizations))
        raise ConfigError(f"{path}: verify.deploy is {config.verify.deploy}, but export makes only {made}")
    return config.model_copy(update=update)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Split `train.learning_rate=1e-4` into key path and value, read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected KEY=VALUE, for example --set train.learning_rate=1e-4")
    return tuple(key.strip().split(".")), parse_scalar(value)


def _absolute(text: str, folder: Path) -> str:
    path = Path(text).expanduser()
    return str(path if path.is_absolute() else (folder / path).resolve())
