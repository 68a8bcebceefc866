"""`plan`: what fits where, how long it takes, what it costs; and whether to train at all."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import models
from holdfast.core.config import RunConfig, load_config, parse_override
from holdfast.core.console import Console
from holdfast.core.documents import read_json
from holdfast.core.errors import DoesNotFitError, Interrupted, UsageError
from holdfast.core.files import atomic_write
from holdfast.core.manifest import MANIFEST
from holdfast.core.records import Example
from holdfast.core.rundir import RunDir
from holdfast.core.validated import check_document, read_model

if TYPE_CHECKING:
    from holdfast.plan.advice import Answers

_YES_OR_NO = ("narrow", "experts_agree", "held_out", "owner")


def plan(
    config_file: Path | None,
    model: str | None,
    gpu: str | None,
    overrides: list[str],
    console: Console,
    run_dir: Path | None = None,
) -> int:
    """Print what would fit, without touching data or loading weights. Exit code 21: it does not.

    Token counts are those of the run's `prepare`, when it has one (then there are times too).
    """
    from holdfast.plan.choose import make_plan
    from holdfast.plan.describe import describe
    from holdfast.plan.hardware import probe
    from holdfast.plan.larger import describe_next, what_next

    config, folder = _config_and_model(config_file, model, gpu, overrides)
    hardware = probe(run_dir or Path.cwd())
    prepared = RunDir(run_dir or Path("runs") / config.name).stage("prepare").path if config_file is not None else None
    lengths = _lengths(prepared)
    result = make_plan(folder, config, lengths, hardware)
    if result["problem"]:
        given = [] if config_file is None else ["-c", str(config_file)]
        given += [word for name, value in (("--model", model), ("--gpu", gpu)) if value for word in (name, value)]
        result["problem"]["next"] = next_command(result["problem"]["next"], given, overrides)
    if lengths is not None:
        result["remarks"].append(f"tokens as counted in {prepared}")
    larger = what_next(folder, config, hardware)
    code = 0 if result["fits"] else DoesNotFitError.exit_code
    text = "\n".join([describe(result), *(f"next: {line}" for line in describe_next(larger))])
    console.result(result | {"larger": larger, "exit_code": code}, text)
    return code


def fewer_at_once(config: RunConfig, items: Sequence[Example]) -> RunConfig:
    """`config` with as many items at once as the planned card (`plan.gpu`) holds of these, whose prompts may be longer
    than those that the run was planned for; never more than it says."""
    from holdfast.plan.evaluate_choice import answering, choose_evaluation
    from holdfast.plan.hardware import probe
    from holdfast.plan.lengths import Lengths
    from holdfast.plan.shape import read_shape
    from holdfast.plan.target import choose_target, limits_of

    folder, hardware = models.find_base_model(config.base_model), probe(Path.cwd())
    tokenizer = models.load_tokenizer(folder)
    longest = max((len(models.encode_prompt(tokenizer, list(item.prompt))) for item in items), default=0)
    target = choose_target(config.plan, hardware)
    lengths, limits = Lengths(longest, None, None, longest), limits_of(target, config.plan, hardware)
    return answering(config, choose_evaluation(read_shape(folder), config, lengths, target, limits).batch_size)


def next_command(proposed: str, given: list[str], overrides: list[str]) -> str:
    """A proposed `holdfast plan -c FILE …` as it must be typed after this one: with the options that were given, and
    with the keys that were set and that it does not set anew."""
    command, sets, new = proposed.partition(" --set ")
    keys = {part.split("=")[0] for part in new.split(" --set ")}
    if "base_model" in keys and "--model" in given:  # which would win over the key
        place = given.index("--model") + 1
        given, sets, new = [*given[:place], "SMALLER", *given[place + 1 :]], "", ""
    kept = [f"--set {shlex.quote(change)}" for change in overrides if change.split("=")[0] not in keys]
    return " ".join([command.replace("-c FILE", shlex.join(given)), *kept]) + sets + new


def _lengths(prepared: Path | None) -> dict[str, Any] | None:
    if prepared is None or not (prepared / MANIFEST).is_file():
        return None
    return read_json(prepared / "lengths.json")


def table(config_file: Path | None, model: str | None, overrides: list[str], console: Console) -> int:
    """Print the same run on many machines, full rows and a million tokens."""
    from holdfast.plan.hardware import probe
    from holdfast.plan.larger import describe_table, table

    config, folder = _config_and_model(config_file, model, None, overrides)
    rows = table(folder, config, probe(Path.cwd()))
    console.result({"base_model": config.base_model, "sequence_len": config.sequence_len, "rows": rows},
                   describe_table(rows))  # fmt: skip
    return 0


def _config_and_model(
    config_file: Path | None, model: str | None, gpu: str | None, overrides: list[str]
) -> tuple[RunConfig, Path]:
    if config_file is not None:
        config = load_config(config_file, overrides)
    elif model is not None:
        config = _defaults(overrides)
    else:
        raise UsageError("plan needs -c FILE or --model DIR")
    config = config.model_copy(update={"base_model": model or config.base_model})
    if gpu is not None:
        config = config.model_copy(update={"plan": config.plan.model_copy(update={"gpu": gpu})})
    return config, _model_folder(config.base_model)


def _defaults(overrides: list[str]) -> RunConfig:
    """A configuration that names no data, with what `--set` changes."""
    document = {"name": "plan", "collect": {"sources": [{"path": "-"}]}}
    hint = "correct --set; `holdfast config-schema` prints every key with its type and default"
    return check_document(RunConfig, document, "--set", {}, dict(map(parse_override, overrides)), hint)


def _model_folder(name: str) -> Path:
    """A folder with config.json is enough to plan."""
    folder = models.BUNDLED.get(name) or Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    return models.find_base_model(name)


def advise(config_file: Path | None, answers_file: Path | None, run_dir: Path | None, console: Console) -> int:
    """Fine-tune, retrieve or prompt: from a file of answers, else by asking. Kept in the run's folder."""
    from holdfast.plan.advice import Answers, advise, describe_advice, questions

    answers = (
        read_model(Answers, answers_file, hint=f"keys: {', '.join(key for key, _, _ in questions())}")
        if answers_file is not None
        else _ask(console)
    )
    advice = advise(answers)
    folder = run_dir
    if folder is None and config_file is not None:
        folder = Path("runs") / load_config(config_file).name
    if folder is not None:
        atomic_write(folder / "advice.json", (json.dumps(advice, indent=2, ensure_ascii=False) + "\n").encode())
        console.say(f"kept in {folder / 'advice.json'}")
    console.result(advice, describe_advice(advice))
    return 0


def _ask(console: Console) -> "Answers":
    from holdfast.plan.advice import Answers, questions

    if not sys.stdin.isatty():
        keys = ", ".join(key for key, _, _ in questions())
        raise UsageError(
            "plan --advise asks questions, and this is no terminal",
            hint=f"write the answers into a YAML file (keys: {keys}) and give it with --answers",
        )
    found = {}
    for key, question, choices in questions():
        console.say(question)
        found[key] = _choose(choices, console)
    return Answers.model_validate({key: value == "yes" if key in _YES_OR_NO else value for key, value in found.items()})


def _choose(choices: tuple[str, ...], console: Console) -> str:
    listed = ", ".join(f"{number} = {choice}" for number, choice in enumerate(choices, 1))
    while True:
        console.say(f"  {listed}")
        typed = sys.stdin.readline()
        if not typed:
            raise Interrupted("no answer was given; nothing was kept")
        text = typed.strip().lower()
        if text in choices:
            return text
        if text.isdigit() and 0 < int(text) <= len(choices):
            return choices[int(text) - 1]
