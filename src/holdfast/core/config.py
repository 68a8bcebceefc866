"""The configuration: one frozen section for each stage, named as Axolotl and Hugging Face users expect."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from holdfast.core.audit_config import AuditConfig
from holdfast.core.errors import ConfigError
from holdfast.core.redact_config import RedactConfig as RedactConfig
from holdfast.core.section import Fraction, Positive
from holdfast.core.section import Section as Section
from holdfast.core.source_config import Source as Source
from holdfast.core.train_config import KernelsConfig as KernelsConfig
from holdfast.core.train_config import TrainConfig as TrainConfig
from holdfast.core.validated import read_model
from holdfast.core.yamlfile import parse_scalar

Quantization = Literal["F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"]
Metric = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class CollectConfig(Section):
    """What to learn from. `system_prompt` is put before every conversation that has none."""

    sources: tuple[Source, ...] = Field(min_length=1)
    """The sources to learn from and to be tested on."""
    system_prompt: str = ""
    """Put before every conversation that has no system turn."""


class PrepareConfig(Section):
    """Checks and splits. Sizes between 0 and 1 are shares of the rows, above 1 they are counts."""

    contract: str | None = None
    """The contract file; `null` = rows are not checked against one."""
    val_set_size: Annotated[float, Field(ge=0)] = 0.1
    """Validation rows to take from rows without a fixed split."""
    test_set_size: Annotated[float, Field(ge=0)] = 0.2
    """Test rows to take from rows without a fixed split."""
    near_duplicate_threshold: Annotated[float, Field(gt=0, le=1)] | None = 0.8
    """Jaccard similarity from which two rows are near duplicates: kept in one split, refused across train and test;
    `null` = near duplicates are not looked for."""
    split_by: str = "fact"
    """Rows with the same value of this tag go into the same split, as near duplicates do; `group` = near duplicates
    only."""
    split_lock: str | None = None
    """`split.lock` of an earlier run: its rows keep their places when rows are added; `null` = none."""
    balance_by: str = "domain"
    """Tag whose values every split gets its share of (with the label), and that `sampling_temperature` balances."""
    sampling_temperature: Annotated[float, Field(ge=1)] = 1.0
    """Training rows of each `balance_by` value are drawn in proportion to rows^(1/temperature); 1 = as they are."""
    on_too_long: Literal["error", "drop", "split", "split_or_drop"] = "error"
    """What to do with a training or validation row longer than `sequence_len`; no answer is ever cut. `split` parts
    conversations at turn borders; what is still too long is an error, or dropped with `split_or_drop`."""


class AugmentConfig(Section):
    """More training rows, made offline from rules that you write. Valid and test never hold any."""

    rules: str | None = None
    """The rules file (paraphrases, grammars, contrasts, decompose, preferences); `null` = nothing is made."""
    max_synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Synthetic rows are at most this share of all training rows."""


class PlanConfig(Section):
    """The card to plan for (`auto` = the one that is there, `cpu`, or a size such as `8GB`) and what to leave free."""

    gpu: str = "auto"
    """The card to plan for; also `apple-64GB` or `cpu-32GB` for a machine without a card that training uses."""
    memory_headroom: Fraction = 0.05
    """Share of the available memory and disk that must stay free."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """What an hour of the machine costs, in any currency; then the plan also gives the run's cost."""
    price_per_kwh: Annotated[float, Field(ge=0)] | None = None
    """What a kilowatt-hour costs, in the same currency."""


class EvaluateConfig(Section):
    """How answers are made and scored. Decoding is greedy."""

    max_new_tokens: Positive = 64
    """Longest answer, in tokens."""
    batch_size: Positive = 16
    """Prompts answered at once in transformers, at most: `plan` takes fewer where they would not fit. The server takes
    one at a time."""
    general_probe: bool = True
    """Both models also answer a bundled general set, so that forgetting is seen (`decide.maximum_forgetting`)."""


class ExportConfig(Section):
    """Which GGUF files to write besides F16."""

    quantizations: tuple[Quantization, ...] = ("Q4_K_M",)
    """GGUF files to write besides F16, each measured by `verify`."""
    merge_base: Literal["auto", "original", "nf4"] = "auto"
    """Weights that a `qlora` adapter is merged into: the original ones, those that the 4-bit model computed with, or
    `auto` = whichever has the lower loss on the validation answers. `lora` and `int8` always take the original ones;
    `nf4` is refused there."""
    imatrix: bool = False
    """Quantise with an importance matrix computed from the training rows; it needs a pass over them."""
    lora_gguf: bool = False
    """Also write the adapter alone as a GGUF file, for `llama-server --lora`; `verify` does not measure it."""


class VerifyConfig(Section):
    """Which quantisation is to be deployed, and how much of the tuned score it may lose."""

    deploy: Literal[Quantization, "auto"] = "Q4_K_M"
    """The file that `decide` judges and `serve` loads; F16 or one of `export.quantizations`. `auto` = the smallest one
    that loses no more than `decide.maximum_deployed_loss`."""
    n_ctx: Positive = 1024
    """Context of the server for one request, in tokens."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of the server; 0 = one for each physical core."""
    parity_rows: Positive = 200
    """Test and training rows whose prompts are compared token by token."""


class DecideConfig(Section):
    """The gates. `keep` needs all of them; differences are in points (0.10 = ten points)."""

    primary: Metric = "label_accuracy"
    """The score that baseline and tuned are compared by: `label_accuracy`, `valid_json`, or the name of one of the
    contract's `scorers`."""
    minimum_gain: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Gate: points that the tuned model must be above the baseline."""
    minimum_items: Positive = 20
    """With fewer test items the verdict is `undecidable`, whatever they say."""
    maximum_label_regression: Fraction = 0.02
    """Gate: points that the primary score may lose (significantly) on items that both models answer in valid form."""
    minimum_score: Fraction = 0.0
    """Gate: primary score of the tuned and of the deployed model."""
    minimum_valid_json: Fraction = 0.0
    """Gate: share of valid JSON of the tuned and of the deployed model."""
    maximum_deployed_loss: Fraction = 0.05
    """Gate: points of label accuracy that the deployed file may lose against the tuned model."""
    maximum_forgetting: Fraction = 0.1
    """Gate: points of the general set that training may cost; a loss that is not significant passes."""
    maximum_slice_regression: Fraction = 0.02
    """Gate: points that any slice may lose (by label, source, length or tag), if significantly after correction for the
    number of slices."""
    maximum_first_token_seconds: Annotated[float, Field(gt=0)] | None = None
    """Gate: median seconds to the first token of the deployed file on this machine; `null` = no limit."""
    alpha: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.05
    """Significance limit of the exact test; the interval has confidence 1 - alpha."""


class ServeConfig(Section):
    """Where the OpenAI-compatible server listens."""

    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs an API key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 = any free one."""
    parallel: Positive = 2
    """Requests answered at once; with more than one, equal requests may get unequal answers."""


class RunConfig(Section):
    """A whole run. Paths are relative to the configuration file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """Name of the run, its folder and its GGUF files."""
    base_model: str = "pebble"
    """`pebble` (bundled), a folder, or a Hub id that is already in the local cache."""
    sequence_len: Positive = 512
    """Longest training row, in tokens."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of the split and of training."""
    collect: CollectConfig
    redact: RedactConfig = RedactConfig()
    prepare: PrepareConfig = PrepareConfig()
    augment: AugmentConfig = AugmentConfig()
    plan: PlanConfig = PlanConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()
    verify: VerifyConfig = VerifyConfig()
    decide: DecideConfig = DecideConfig()
    audit: AuditConfig = AuditConfig()
    serve: ServeConfig = ServeConfig()

    @model_validator(mode="after")
    def _adapter_file(self) -> Self:
        if self.export.lora_gguf and self.train.use_dora:
            raise ValueError("export.lora_gguf: a DoRA adapter cannot be a GGUF file; the merged files hold it")
        return self

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
    sources = [absolute_source(source, folder) for source in config.collect.sources]
    update: dict[str, Any] = {"collect": config.collect.model_copy(update={"sources": tuple(sources)})}
    files = {key: getattr(config.prepare, key) for key in ("contract", "split_lock")}
    if any(files.values()):
        absolute = {key: _absolute(name, folder) for key, name in files.items() if name}
        update["prepare"] = config.prepare.model_copy(update=absolute)
    if config.augment.rules:
        update["augment"] = config.augment.model_copy(update={"rules": _absolute(config.augment.rules, folder)})
    redact = {name: _absolute(text, folder) for name in ("ner", "pseudonym_key_file")
              if (text := getattr(config.redact, name)) and text not in ("bundled", "presidio")}  # fmt: skip
    if redact:
        update["redact"] = config.redact.model_copy(update=redact)
    if config.base_model.startswith((".", "/", "~")) or (folder / config.base_model).is_dir():
        update["base_model"] = _absolute(config.base_model, folder)
    _refuse_contradictions(config, path)
    return config.model_copy(update=update)


def _refuse_contradictions(config: RunConfig, path: Path) -> None:
    """Raises ConfigError. Only for what is to be run: a finished run that ignored such a key can still be read."""
    if config.verify.deploy not in ("F16", "auto") and config.verify.deploy not in config.export.quantizations:
        made = ", ".join(("F16", *config.export.quantizations))
        raise ConfigError(f"{path}: verify.deploy is {config.verify.deploy}, but export makes only {made}")
    if config.export.merge_base == "nf4" and config.train.quantization != "nf4":
        raise ConfigError(
            f"{path}: export.merge_base is nf4, but train.adapter is {config.train.adapter}: it does not learn on "
            "4-bit weights, so there are none to merge it into",
            hint="set export.merge_base to auto or original, or train.adapter to qlora",
        )


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Split `train.learning_rate=1e-4` into key path and value, read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected KEY=VALUE, for example --set train.learning_rate=1e-4")
    return tuple(key.strip().split(".")), parse_scalar(value)


def absolute_source(source: Source, folder: Path) -> Source:
    """The source with its paths as seen from `folder`."""
    update: dict[str, Any] = {"path": _absolute(source.path, folder)}
    if source.prometheus.runbooks is not None:
        runbooks = _absolute(source.prometheus.runbooks, folder)
        update["prometheus"] = source.prometheus.model_copy(update={"runbooks": runbooks})
    return source.model_copy(update=update)


def _absolute(text: str, folder: Path) -> str:
    path = Path(text).expanduser()
    return str(path if path.is_absolute() else (folder / path).resolve())
