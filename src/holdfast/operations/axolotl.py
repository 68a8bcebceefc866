"""An Axolotl configuration becomes one of holdfast, with an account of every key. Pure: nothing is read or written."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from holdfast.operations.axolotl_keys import (
    CHANGED,
    DEFAULTS,
    IGNORED,
    NO_ROW_FORMAT,
    OPTIMIZERS,
    REFUSED,
    RENAMED,
    ROW_FORMATS,
    SAME,
    SCHEDULERS,
)

Action = Literal["same", "translated", "changed", "added", "ignored", "unknown", "refused"]
Document = dict[str, Any]


class Line(NamedTuple):
    """What became of one key. `becomes`: key and value in the new file, or nothing."""

    key: str
    action: Action
    becomes: str
    why: str


class Translation(NamedTuple):
    """The new configuration and the account of all keys; with a line `refused` it must not be used."""

    config: Document
    lines: list[Line]

    @property
    def refused(self) -> list[Line]:
        """What cannot be done here."""
        return [line for line in self.lines if line.action == "refused"]


def translate(document: Mapping[str, Any], find_data: Callable[[str], str | None]) -> Translation:
    """Translate. find_data: what a data set is called there → the path of a local copy, or None.

    Empty values count as left out, as they do in Axolotl.
    """
    given = {str(key): _plain(value) for key, value in document.items() if value is not None and value != ""}
    config: Document = {"collect": {"sources": []}, "prepare": {}, "train": {}}
    lines = [*_adapter(given, config), *_batch(given, config), *_steps(given, config)]
    lines += _sources(given.pop("datasets", None), given.pop("test_datasets", None), config, find_data)
    lines += [_one(key, value, config) for key, value in given.items()]
    lines += _added(config)
    config["name"] = _name(given)
    if "base_model" not in config:
        lines.append(Line("base_model", "refused", "", "it is missing"))
    return Translation(_in_order(config), lines)


def _added(config: Document) -> Iterator[Line]:
    """What Axolotl does without being told, and the test rows that it does not know."""
    for section, values in DEFAULTS.items():
        for name, value in values.items():
            if name not in config[section]:
                config[section][name] = value
                yield Line(name, "added", f"{section}.{name}: {_text(value)}", "what Axolotl does without the key")
    config["prepare"]["test_set_size"] = 0.2
    why = "a fifth of the rows is held out: the verdict rests on it"
    yield Line("prepare.test_set_size", "added", "prepare.test_set_size: 0.2", why)


def _one(key: str, value: Any, config: Document) -> Line:
    """A key that stands for itself."""
    if key == "optimizer":
        return _choice(key, value, OPTIMIZERS, "adamw_8bit", config)
    if key == "lr_scheduler":
        return _choice(key, value, {name: name for name in SCHEDULERS}, "cosine", config)
    if key == "gradient_checkpointing" and isinstance(value, str):
        config["train"][key] = True
        return Line(
            key, "translated", "train.gradient_checkpointing: true", f"{value}: what is offloaded is planned here"
        )
    if key in SAME:
        return _set(key, value, SAME[key], key, "same", config)
    if key in RENAMED:
        return _set(key, value, *RENAMED[key], "translated", config)
    for rules, action in ((REFUSED, "refused"), (CHANGED, "changed"), (IGNORED, "ignored")):
        for beginnings, why in rules:
            if value is not False and _is_named(key, beginnings):
                return Line(key, action, "", why)  # type: ignore[arg-type]
            if value is False and _is_named(key, beginnings):
                return Line(key, "ignored", "", "switched off there, and not here either")
    near = difflib.get_close_matches(key, [*SAME, *RENAMED, "adapter", "datasets"], n=1, cutoff=0.8)
    return Line(key, "unknown", "", f"did it mean {near[0]!r}?" if near else "not known here; nothing is taken from it")


def _is_named(key: str, beginnings: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(name) and (name.endswith("_") or len(name) > 4) for name in beginnings)


def _set(key: str, value: Any, section: str, name: str, action: Action, config: Document) -> Line:
    (config[section] if section else config)[name] = value
    where = f"{section}.{name}" if section else name
    return Line(key, action, f"{where}: {_text(value)}", "")


def _choice(key: str, value: Any, known: Mapping[str, str], otherwise: str, config: Document) -> Line:
    chosen = known.get(str(value))
    config["train"][key] = chosen or otherwise
    becomes = f"train.{key}: {config['train'][key]}"
    if chosen is None:
        return Line(key, "changed", becomes, f"{value} is not available here: {', '.join(sorted(set(known.values())))}")
    return Line(key, "same" if chosen == value else "translated", becomes, "" if chosen == value else f"was {value}")


def _adapter(given: Document, config: Document) -> Iterator[Line]:
    """`adapter`, `load_in_4bit` and `load_in_8bit` are one key here; without targets every linear layer is meant."""
    kind = given.pop("adapter", None)
    four, eight = (given.pop(key, None) for key in ("load_in_4bit", "load_in_8bit"))
    found = {"qlora": "qlora", "lora": "qlora" if four else "int8" if eight else "lora"}.get(str(kind))
    if found is None:
        why = "all weights would be trained; holdfast trains adapters" if kind is None else f"{kind} is not known here"
        yield Line("adapter", "refused", "", why)
    else:
        config["train"]["adapter"] = found
        yield Line("adapter", "same" if found == kind else "translated", f"train.adapter: {found}", "")
    for key, value in (("load_in_4bit", four), ("load_in_8bit", eight)):
        if value is not None:
            yield Line(key, "translated", "", "part of train.adapter")
    linear, modules = given.get("lora_target_linear"), given.get("lora_target_modules")
    if linear and modules:
        given.pop("lora_target_modules")
        yield Line("lora_target_modules", "changed", "", "lora_target_linear: true takes every linear layer")
    elif not linear and not modules:
        if given.pop("lora_target_modules", None) is not None:
            yield Line("lora_target_modules", "ignored", "", "it names none")
        given.pop("lora_target_linear", None)
        config["train"]["lora_target_linear"] = True
        yield Line("lora_target_linear", "added", "train.lora_target_linear: true", "no layers were named")


def _batch(given: Document, config: Document) -> Iterator[Line]:
    """Two of three keys say the batch there; here it is always these two."""
    if "batch_size" not in given:
        return
    whole = _whole(given.pop("batch_size"))
    pair = ("micro_batch_size", "gradient_accumulation_steps")
    known = [name for name in pair if _whole(given.get(name))]
    made = ""
    if whole and len(known) == 1 and whole % given[known[0]] == 0:
        other = pair[1 - pair.index(known[0])]
        config["train"][other] = whole // given[known[0]]
        made = f"train.{other}: {config['train'][other]}"
    yield Line("batch_size", "translated" if made else "ignored", made, "" if made else "the other two keys say it")


def _whole(value: Any) -> int | None:
    """A whole number above 0, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _steps(given: Document, config: Document) -> Iterator[Line]:
    """What Axolotl counts in epochs or shares of the run, and holdfast in steps."""
    total = _whole(given.get("max_steps"))
    warm = given.pop("warmup_steps", None)
    if _whole(warm) and total:
        config["train"]["warmup_ratio"] = round(warm / total, 4)
        yield Line(
            "warmup_steps",
            "translated",
            f"train.warmup_ratio: {config['train']['warmup_ratio']}",
            f"{warm} of {total} steps",
        )
    elif warm is not None:
        yield Line("warmup_steps", "changed", "", f"{warm} steps; here it is a share of the run (train.warmup_ratio)")
    for share, steps in (("evals_per_epoch", "eval_steps"), ("saves_per_epoch", "save_steps")):
        if given.pop(share, None) is not None:
            yield Line(share, "changed", "", f"here they are counted in steps (train.{steps})")
        value = given.get(steps)
        if isinstance(value, float) and 0 < value < 1:
            given.pop(steps)
            if total:
                config["train"][steps] = max(1, round(value * total))
                yield Line(steps, "translated", f"train.{steps}: {config['train'][steps]}", f"{value} of {total} steps")
            else:
                yield Line(steps, "changed", "", f"{value} of the run; here they are counted in steps (train.{steps})")


def _sources(train: Any, valid: Any, config: Document, find_data: Callable[[str], str | None]) -> Iterator[Line]:
    sets = [*((entry, "auto") for entry in _list(train)), *((entry, "valid") for entry in _list(valid))]
    if not train:
        yield Line("datasets", "refused", "", "there is no data to learn from")
    for number, (entry, split) in enumerate(sets, 1):
        key = f"{'datasets' if split == 'auto' else 'test_datasets'}[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            yield Line(key, "refused", "", "it has no path")
            continue
        yield from _source(key, entry, split, config, find_data)


def _source(
    key: str, entry: Document, split: str, config: Document, find_data: Callable[[str], str | None]
) -> Iterator[Line]:
    kind, path = entry.get("type"), entry["path"]
    files = [name for name in _list(entry.get("data_files")) if isinstance(name, str)]
    found = [find_data(name) for name in files or [path]]
    form = "auto" if isinstance(kind, dict | None) else ROW_FORMATS.get(re.split(r"[.:]", str(kind))[0], "auto")
    if form == "messages" and (entry.get("field_messages") == "conversations" or _speaks(entry)):
        form = "sharegpt"
    if isinstance(kind, str) and kind.split(".")[0] in NO_ROW_FORMAT:
        yield Line(key, "refused", "", f"type {kind}: plain text without a question is not trained here")
        return
    if None in found:
        missing = (files or [path])[found.index(None)]
        yield Line(
            key,
            "refused",
            "",
            f"there is no file or folder {missing}; a Hub data set needs a local copy: --data {missing}=PATH",
        )
        return
    for local in found:
        source = (
            {"path": local}
            | ({"format": form} if form != "auto" else {})
            | ({"split": split} if split != "auto" else {})
        )
        config["collect"]["sources"].append(source)
    why = "rendered by the model's chat template, not as `### Instruction:` text" if form == "instruction" else ""
    why = "holdfast looks at the rows and says what they are" if form == "auto" else why
    action: Action = "translated" if form != "instruction" else "changed"
    yield Line(key, action, f"collect.sources: {', '.join(map(str, found))} as {form}", why)
    more = sorted(
        set(entry) - {"path", "type", "data_files", "ds_type", "split", "field_messages", "message_property_mappings"}
    )
    if more:
        yield Line(f"{key}.{', '.join(more)}", "changed", "", "rows are read as they are; only answers are trained")
    if isinstance(kind, dict):
        left = ", ".join(map(str, kind))
        yield Line(f"{key}.type", "changed", "", f"{left}: a row keeps its own keys, the model's chat template asks")
    if entry.get("split") not in (None, "train"):
        yield Line(f"{key}.split", "changed", "", f"all rows of the file are read, not {entry['split']}")


def _speaks(entry: Document) -> bool:
    mapping = entry.get("message_property_mappings")
    return isinstance(mapping, dict) and mapping.get("role") == "from"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _plain(value: Any) -> Any:
    """YAML 1.1 words and numbers that Axolotl reads as such, and the file reader here leaves as text."""
    words = {"yes": True, "on": True, "no": False, "off": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _name(given: Document) -> str:
    """A name for the run from `output_dir`, else from the model."""
    last = Path(str(given.get("output_dir") or "")).name or Path(str(given.get("base_model") or "run")).name
    name = re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._")
    return (name or "run")[:60]


def _in_order(config: Document) -> Document:
    first = ("name", "base_model", "sequence_len", "seed")
    ordered = {key: config[key] for key in first if key in config}
    return ordered | {key: config[key] for key in ("collect", "prepare", "train")}
